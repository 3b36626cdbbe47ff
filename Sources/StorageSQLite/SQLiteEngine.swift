import Foundation
public import Logging
import MartletModel
public import MartletStorage
import NIOConcurrencyHelpers

/// Events in one SQLite file: the default, which needs no set-up.
///
/// Write-ahead log, `synchronous = FULL`: a commit is on disk when it is acknowledged. One server uses a file;
/// a lock beside it keeps a second one away, and goes with the process, however that ends.
public final class SQLiteEngine: StorageEngine {
    /// `sqlite`.
    public let name = "sqlite"
    /// The version of the schema that this code reads and writes.
    public let schemaVersion = UInt32(Schema.version)
    /// SQLite has one writer.
    public let writersMax = 1
    /// Readers and the writer do not wait for each other.
    public let readersMax = 4

    let file: DatabaseFile
    private let logger: Logger
    private let lock = NIOLockedValueBox<FileLock?>(nil)

    /// An engine on that file.
    ///
    /// - Parameter path: the database file; it and its folder are made by ``prepare()``.
    public convenience init(path: String, logger: Logger) { self.init(file: DatabaseFile(path: path), logger: logger) }

    init(file: DatabaseFile, logger: Logger) {
        self.file = file
        self.logger = logger
    }

    /// Takes the lock, and brings the schema up to date.
    /// - Throws: ``StorageError``; `misconfigured` where another server uses the file.
    public func prepare() throws(StorageError) {
        let folder = URL(fileURLWithPath: file.path).deletingLastPathComponent().path
        do { try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true) } catch {
            throw StorageError(.unavailable, "cannot make folder \(folder): \(error.localizedDescription)")
        }
        if lock.withLockedValue({ $0 == nil }) {
            // Beside the file itself: other names of it have the same lock.
            let taken = try FileLock(path: file.pathWithoutLinks + ".lock")
            lock.withLockedValue { $0 = taken }
        }
        try Self.migrate(path: file.path, logger: logger)
        file.ranges.invalidate()
        file.remember()
    }

    /// Brings the schema of a file up to date; safe when several do so at once.
    static func migrate(path: String, logger: Logger) throws(StorageError) {
        let connection = try SQLiteConnection(path: path, creates: true)
        let found: Int
        do throws(SQLiteFault) {
            try connection.run("BEGIN IMMEDIATE")
            found = Int(try connection.text("PRAGMA user_version") ?? "") ?? 0
            if found < Schema.version {
                for version in found..<Schema.version {
                    let migration = Schema.migrations[version]
                    try connection.run(migration.sql)
                    try migration.move(connection)
                    try connection.run(migration.cleanUp)
                    logger.info("storage schema migrated", metadata: ["version": "\(version + 1)"])
                }
                try connection.run("PRAGMA user_version = \(Schema.version)")
                try connection.run("PRAGMA application_id = \(Schema.applicationID)")
            }
            try connection.run("COMMIT")
        } catch { throw error.storageError }
        guard found <= Schema.version else {
            throw StorageError(
                .schemaTooNew,
                "\(path) has schema version \(found), this server knows up to \(Schema.version): use a newer server")
        }
    }

    /// A writer on a connection of its own.
    public func makeWriter() -> any StorageWriter { SQLiteWriter(file: file, logger: logger) }

    /// A reader on a connection of its own.
    public func makeReader() -> any StorageReader { SQLiteReader(file: file) }

    /// Nil: no other process writes to the file.
    public func makeListener() -> (any StorageListener)? { nil }
}

/// A lock file that one process holds; the system lets go of it when the process ends.
private final class FileLock: Sendable {
    private let descriptor: Int32

    init(path: String) throws(StorageError) {
        let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else {
            throw StorageError(
                .unavailable, "cannot make lock file \(path): \(unsafe String(cString: strerror(errno)))")
        }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let owner = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
            close(descriptor)
            throw StorageError(
                .misconfigured,
                "another server (process \(owner.isEmpty ? "unknown" : owner)) uses this file, and one server uses a "
                    + "file: stop it, or give another --storage")
        }
        let text = Array("\(getpid())".utf8)
        ftruncate(descriptor, 0)
        _ = unsafe text.withUnsafeBytes { unsafe pwrite(descriptor, $0.baseAddress, $0.count, 0) }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }
}
