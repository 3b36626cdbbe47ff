import Foundation
public import Logging
import MartletModel
public import MartletStorage

/// Events in one SQLite file: the default, which needs no set-up.
///
/// Write-ahead log, `synchronous = FULL`: a commit is on disk when it is acknowledged. One server uses a file;
/// locks keep a second one away (``FileLock``), and go with the process, however that ends.
public final class SQLiteEngine: StorageEngine {
    /// `sqlite`.
    public let name = "sqlite"
    /// The version of the schema that this code reads and writes.
    public let schemaVersion = UInt32(Schema.version)
    /// SQLite has one writer.
    public let writersMax = 1
    /// Readers and the writer do not wait for each other.
    public let readersMax = 4
    /// Half of the processors, at least one: reads of a file that is in memory take nothing else, and one tenant's must
    /// leave some for the event loops and the other tenants.
    public let readersPerTenantMax = max(1, min(4, ProcessInfo.processInfo.activeProcessorCount / 2))

    let file: DatabaseFile
    private let logger: Logger

    /// An engine on that file.
    ///
    /// - Parameter path: the database file; it and its folder are made by ``prepare()``.
    public convenience init(path: String, logger: Logger) { self.init(file: DatabaseFile(path: path), logger: logger) }

    init(file: DatabaseFile, logger: Logger) {
        self.file = file
        self.logger = logger
    }

    /// Takes the lock, and migrates the schema.
    /// - Throws: ``StorageError``; `misconfigured` where another server uses the file.
    public func prepare() throws(StorageError) {
        let folder = URL(fileURLWithPath: file.path).deletingLastPathComponent().path
        do {
            try FileManager.default.createDirectory(
                atPath: folder, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw StorageError(.unavailable, "cannot create directory \(folder): \(error.localizedDescription)")
        }
        try file.lock(logger)
        try Self.migrate(file, logger: logger)
        file.ranges.invalidate()
    }

    /// Migrates the schema of a file; safe when several do so at once.
    static func migrate(_ file: DatabaseFile, logger: Logger) throws(StorageError) {
        let connection = try file.open(creates: true)
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
                "\(file.path) has schema version \(found), but this server knows up to "
                    + "\(Schema.version): use a newer server"
            )
        }
    }

    /// A writer on a connection of its own.
    public func makeWriter() -> any StorageWriter { SQLiteWriter(file: file, logger: logger) }

    /// A reader on a connection of its own.
    public func makeReader() -> any StorageReader { SQLiteReader(file: file) }

    /// Nil: no other process writes to the file.
    public func makeListener() -> (any StorageListener)? { nil }
}
