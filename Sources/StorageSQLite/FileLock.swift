import CMartletSQLite
import Foundation
import Logging
import MartletStorage
import NIOConcurrencyHelpers

/// Which file that is, whatever its names are.
struct FileIdentity: Hashable, Sendable {
    var device: UInt64
    var inode: UInt64

    init(_ info: stat) {
        device = UInt64(info.st_dev)
        inode = UInt64(info.st_ino)
    }

    /// The file at the path, behind links; nil where there is none.
    init?(path: String) {
        var info = stat()
        // Passed as it is, a string is copied twice: this is asked for each transaction.
        guard unsafe path.withCString({ unsafe stat($0, &info) }) == 0 else { return nil }
        self.init(info)
    }
}

/// Keeps other servers away from a database, under whatever name they reach it, and other people from its files; the
/// system lets go of it when the process ends.
///
/// There are two locks. That of the file beside the database names its holder. That of the database itself, on a byte
/// which SQLite never locks, holds for every name of it: another folder, a link, a mount. To close any descriptor of a
/// file lets go of all locks that SQLite has on it in this process (POSIX has it so), so that a database which is held
/// here is never opened here again but by SQLite.
final class FileLock: Sendable {
    private static let held = NIOLockedValueBox<Set<FileIdentity>>([])

    let identity: FileIdentity
    private let lockFile: Int32
    private let database: Int32

    /// Takes the locks, and makes the files where they are not there.
    ///
    /// - Parameter path: the database, behind symbolic links.
    /// - Throws: ``StorageError``; `misconfigured` where another server has it, or its files are not as they must be.
    init(path: String, logger: Logger) throws(StorageError) {
        let lockFile = try Self.lockFile(path + ".lock")
        do throws(StorageError) {
            let result = Self.held.withLockedValue { held -> Result<(Int32, FileIdentity), StorageError> in
                do throws(StorageError) {
                    let (descriptor, identity) = try Self.database(path, held: held, logger)
                    held.insert(identity)
                    return .success((descriptor, identity))
                } catch { return .failure(error) }
            }
            (database, identity) = try result.get()
        } catch {
            close(lockFile)
            throw error
        }
        self.lockFile = lockFile
    }

    deinit {
        Self.held.withLockedValue { held in
            close(database)
            held.remove(identity)
        }
        close(lockFile)
    }

    // MARK: The file beside

    private static func lockFile(_ path: String) throws(StorageError) -> Int32 {
        let (descriptor, info) = try open(path, O_RDWR | O_CREAT | O_NOFOLLOW)
        do throws(StorageError) {
            // None, where somebody has removed it just now: the lock of the database holds all the same.
            guard info.st_nlink <= 1 else {
                throw StorageError(.misconfigured, "\(path) has a second name (a hard link): remove one of them")
            }
            guard info.st_mode & 0o077 == 0 || fchmod(descriptor, 0o600) == 0 else {
                throw Self.tooOpen(path, "others", "chmod 600")
            }
            guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
                let owner = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
                throw Self.inUse(by: owner.isEmpty ? "" : " (process \(owner.prefix(20)))")
            }
        } catch {
            close(descriptor)
            throw error
        }
        let text = Array("\(getpid())".utf8)
        ftruncate(descriptor, 0)
        _ = unsafe text.withUnsafeBytes { unsafe pwrite(descriptor, $0.baseAddress, $0.count, 0) }
        return descriptor
    }

    // MARK: The database

    private static func database(
        _ path: String, held: Set<FileIdentity>, _ logger: Logger
    ) throws(StorageError) -> (Int32, FileIdentity) {
        if let identity = FileIdentity(path: path), held.contains(identity) { throw inUse(by: " in this process") }
        let (descriptor, info) = try open(path, O_RDWR | O_CREAT)
        let identity = FileIdentity(info)
        // It came to this path just now. Its descriptor stays open: see above.
        guard !held.contains(identity) else { throw inUse(by: " in this process") }
        do throws(StorageError) {
            guard martlet_lock_database(descriptor) == 0 else { throw inUse(by: " under another name of it") }
            guard info.st_nlink <= 1 else {
                throw StorageError(
                    .misconfigured,
                    "\(path) has \(info.st_nlink) names (hard links), and its log is next to only one of them: remove "
                        + "the others, or copy the file")
            }
            guard !isMountPoint(path) else {
                throw StorageError(
                    .misconfigured,
                    "\(path) is a mount point, and the file's log is next to its other name: mount its "
                        + "directory instead")
            }
            try checkOwner(descriptor, path)
            try restrict(descriptor, info, path, logger)
            for file in [path + "-wal", path + "-shm"] {
                guard let (beside, info) = try openBeside(file) else { continue }
                defer { close(beside) }
                try restrict(beside, info, file, logger)
            }
        } catch {
            close(descriptor)
            throw error
        }
        return (descriptor, identity)
    }

    /// Refuses a file that another program has made, before anything of it is changed. SQLite looks closer afterwards.
    ///
    /// One that has a log beside it is SQLite's: its first page may be damaged, and the log have it whole.
    private static func checkOwner(_ descriptor: Int32, _ path: String) throws(StorageError) {
        var log = stat()
        guard unsafe lstat(path + "-wal", &log) != 0 || log.st_size == 0 else { return }
        var header = [UInt8](repeating: 0, count: sqliteMagic.count)
        let count = unsafe header.withUnsafeMutableBytes { unsafe pread(descriptor, $0.baseAddress, $0.count, 0) }
        guard count > 0 else { return }
        let isSame = zip(header.prefix(count), Self.sqliteMagic).filter { $0 == $1 }.count
        // Otherwise it may be a database whose first bytes are damaged.
        guard isSame < Self.sqliteMagic.count / 2 else { return }
        throw StorageError(
            .misconfigured,
            "\(path) is not a database, and belongs to another program: nothing in it was changed, give another --storage"
        )
    }

    private static let sqliteMagic = Array("SQLite format 3\0".utf8)

    /// A file that SQLite made beside the database; nil where there is none.
    private static func openBeside(_ path: String) throws(StorageError) -> (Int32, stat)? {
        var info = stat()
        guard unsafe lstat(path, &info) == 0 || errno != ENOENT else { return nil }
        return try open(path, O_RDONLY | O_NOFOLLOW)
    }

    /// Takes away what everybody may do with a file; what its group may do is up to the operator.
    private static func restrict(
        _ descriptor: Int32, _ info: stat, _ path: String, _ logger: Logger
    ) throws(StorageError) {
        guard info.st_mode & 0o007 != 0 else { return }
        guard fchmod(descriptor, info.st_mode & 0o770) == 0 else { throw tooOpen(path, "everybody", "chmod o=") }
        logger.notice("removed other users' permissions from a storage file", metadata: ["file": "\(path)"])
    }

    private static func isMountPoint(_ path: String) -> Bool {
        guard let mounts = try? String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8),
            let resolved = unsafe realpath(path, nil)
        else { return false }
        defer { unsafe free(resolved) }
        let escaped = unsafe String(cString: resolved).replacing("\\", with: "\\134").replacing(" ", with: "\\040")
        return mounts.split(separator: "\n").contains { line in
            let fields = line.split(separator: " ", maxSplits: 5)
            return fields.count > 4 && fields[4] == escaped
        }
    }

    // MARK: Both

    /// Opens a plain file.
    private static func open(_ path: String, _ flags: Int32) throws(StorageError) -> (Int32, stat) {
        let descriptor = unsafe Foundation.open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0o600)
        guard descriptor >= 0 else {
            if errno == ELOOP, flags & O_NOFOLLOW != 0 {
                throw StorageError(
                    .misconfigured, "\(path) is a symbolic link, which the server does not follow: remove it")
            }
            throw StorageError(
                .unavailable,
                "cannot open \(path): \(unsafe String(cString: strerror(errno))); check the path and its permissions")
        }
        var info = stat()
        guard unsafe fstat(descriptor, &info) == 0, info.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw StorageError(.misconfigured, "\(path) is not a regular file: remove it, or give another --storage")
        }
        return (descriptor, info)
    }

    private static func inUse(by whom: String) -> StorageError {
        StorageError(
            .misconfigured,
            "another server\(whom) uses this file, and only one may: stop it, or give another --storage")
    }

    private static func tooOpen(_ path: String, _ who: String, _ command: String) -> StorageError {
        StorageError(
            .misconfigured,
            "\(path) is open to \(who), and belongs to another user: run \(command) on it, or make "
                + "this server's user its owner")
    }
}
