import CMartletSQLite
import Foundation
import MartletModel
import MartletStorage

/// The one owner of a `sqlite3 *`, with its prepared statements; used by one thread at a time.
@safe final class SQLiteConnection {
    /// How long SQLite waits for a lock.
    private static let busyMillis: Int32 = 5_000
    private static let pageBytes = 4_096
    /// Pages in the write-ahead log after which it is moved into the database.
    private static let checkpointPages = 4_000
    private static let walBytesKept = 64 << 20
    private static let cacheKibibytes = 16 << 10

    @unsafe private let database: OpaquePointer
    @unsafe private var logPagesCount: UnsafeMutablePointer<Int32>?
    private let poison: Poison?
    private var statements: [SQLiteStatement?] = Array(repeating: nil, count: Query.allCases.count)

    /// Opens the database.
    ///
    /// - Parameters:
    ///   - creates: makes the file where there is none.
    ///   - poison: what all connections of the file share; a failed checkpoint sets it.
    /// - Throws: ``StorageError``; `unavailable` if the file does not exist.
    init(path: String, creates: Bool, poison: Poison? = nil) throws(StorageError) {
        self.poison = poison
        unsafe database = try unsafe Self.open(
            path, creates ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READWRITE)
        let isOwn: Bool
        do throws(SQLiteFault) {
            isOwn = try Self.isOwn(self)
            if isOwn { try configure() }
        } catch { throw error.storageError }
        guard isOwn else {
            throw StorageError(
                .misconfigured, "\(path) belongs to another program: nothing in it was changed, give another --storage")
        }
    }

    /// Opens the database to look at it, whatever it is: nothing is set and nothing is written, also not when it is closed.
    /// What is sorted or kept meanwhile goes into a temporary file.
    init(reading path: String) throws(StorageError) {
        poison = nil
        unsafe database = try unsafe Self.open(path, SQLITE_OPEN_READONLY)
        do throws(SQLiteFault) {
            try run("PRAGMA cache_size = -\(Self.cacheKibibytes)")
            try run("PRAGMA temp_store = FILE")
        } catch { throw error.storageError }
    }

    @unsafe private static func open(_ path: String, _ flags: Int32) throws(StorageError) -> OpaquePointer {
        var database: OpaquePointer?
        let code = unsafe sqlite3_open_v2(
            path, &database, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, nil)
        guard code == SQLITE_OK, let database = unsafe database else {
            let fault = unsafe SQLiteFault(code: code, database: database)
            unsafe sqlite3_close_v2(database)
            throw StorageError(
                fault.storageError.kind,
                "cannot open \(path): \(fault.storageError); check the path and its permissions")
        }
        unsafe sqlite3_busy_timeout(database, busyMillis)
        return unsafe database
    }

    deinit {
        statements.removeAll()
        if poison?.isSet == true { _ = unsafe martlet_sqlite_keep_log(database) }
        unsafe sqlite3_close_v2(database)
        unsafe logPagesCount?.deallocate()
    }

    /// Whether the file is one of ours, or empty. To look changes nothing, whatever it is.
    private static func isOwn(_ connection: SQLiteConnection) throws(SQLiteFault) -> Bool {
        // In one transaction: another may make the schema just now.
        try connection.run("BEGIN")
        let owner = try connection.text("PRAGMA application_id")
        let version = try connection.text("PRAGMA user_version")
        let tables = try connection.text("SELECT count(*) FROM sqlite_schema")
        try connection.run("COMMIT")
        return owner == "\(Schema.applicationID)" || [owner, version, tables] == ["0", "0", "0"]
    }

    /// The settings that durability and speed rest on. What SQLite made of them is looked at: it does not complain of
    /// a setting that it cannot take.
    private func configure() throws(SQLiteFault) {
        try run("PRAGMA page_size = \(Self.pageBytes)")
        try run("PRAGMA wal_autocheckpoint = \(Self.checkpointPages)")
        try run("PRAGMA journal_size_limit = \(Self.walBytesKept)")
        try run("PRAGMA cache_size = -\(Self.cacheKibibytes)")
        try run("PRAGMA temp_store = MEMORY")
        guard try text("PRAGMA journal_mode = WAL") == "wal" else {
            throw SQLiteFault(
                code: SQLITE_CANTOPEN,
                message: "the write-ahead log cannot be used here: use a local disk")
        }
        try run("PRAGMA synchronous = FULL")
        guard try text("PRAGMA synchronous") == "2" else {
            throw SQLiteFault(code: SQLITE_CANTOPEN, message: "synchronous = FULL was not accepted")
        }
    }

    /// Whether the file that is open is not the one at its path any more.
    var hasMoved: Bool {
        var hasMoved: Int32 = 0
        let code = unsafe sqlite3_file_control(database, "main", SQLITE_FCNTL_HAS_MOVED, &hasMoved)
        return code != SQLITE_OK || hasMoved != 0
    }

    /// Whether no transaction is open.
    var isAutocommit: Bool { unsafe sqlite3_get_autocommit(database) != 0 }

    /// The row that was inserted last.
    var lastInsertedRow: Int64 { unsafe sqlite3_last_insert_rowid(database) }

    /// A prepared statement; prepared at its first use.
    func statement(_ query: Query) throws(SQLiteFault) -> SQLiteStatement {
        if let statement = statements[query.rawValue] { return statement }
        let statement = try unsafe SQLiteStatement(query.sql, database: database)
        statements[query.rawValue] = statement
        return statement
    }

    /// Takes the log's care over from SQLite, which would move it within a commit.
    func countLogPages() {
        guard unsafe logPagesCount == nil else { return }
        let count = UnsafeMutablePointer<Int32>.allocate(capacity: 1)
        unsafe count.initialize(to: 0)
        unsafe logPagesCount = unsafe count
        _ = unsafe sqlite3_wal_hook(
            database,
            { context, _, _, pages in
                unsafe context?.assumingMemoryBound(to: Int32.self).pointee = pages
                return SQLITE_OK
            }, count)
    }

    /// Pages in the log after the last commit of this connection.
    var logPages: Int { unsafe Int(logPagesCount?.pointee ?? 0) }

    /// Moves what is in the log into the database, as far as no reader needs what it replaces, waiting for nobody.
    ///
    /// SQLite syncs the database only when it moves the last page of the log, but never moves a page twice. So a sync may
    /// be the one that reports the loss of pages which an earlier call moved: after it, only the log has them.
    /// - Returns: how many pages of the log have been moved.
    /// - Throws: ``SQLiteFault``; where a write or a sync failed, the file is poisoned. Always for a poisoned file.
    @discardableResult
    func checkpoint() throws(SQLiteFault) -> Int {
        guard poison?.isSet != true else {
            throw SQLiteFault(code: SQLITE_IOERR, message: "an earlier sync failed: the log is kept for the next start")
        }
        var moved: Int32 = 0
        let code = unsafe sqlite3_wal_checkpoint_v2(database, nil, SQLITE_CHECKPOINT_PASSIVE, nil, &moved)
        guard code == SQLITE_OK || code & 0xFF == SQLITE_BUSY else {
            let fault = unsafe SQLiteFault(code: code, database: database)
            if fault.isFailedSync || fault.isFailedWrite { poison?.set() }
            throw fault
        }
        return Int(max(0, moved))
    }

    /// Opens the entries of a block, to read parts of them.
    func blob(block key: Int64) throws(SQLiteFault) -> SQLiteBlob {
        try unsafe SQLiteBlob(database: database, block: key)
    }

    /// A statement that is not worth keeping.
    func prepare(_ sql: String) throws(SQLiteFault) -> SQLiteStatement {
        try unsafe SQLiteStatement(sql, database: database)
    }

    /// Runs SQL that is not worth keeping prepared.
    func run(_ sql: String) throws(SQLiteFault) {
        let code = unsafe sqlite3_exec(database, sql, nil, nil, nil)
        guard code == SQLITE_OK else { throw unsafe SQLiteFault(code: code, database: database) }
    }

    /// The first column of the first row, as text.
    func text(_ sql: String) throws(SQLiteFault) -> String? {
        try unsafe SQLiteStatement(sql, database: database).firstRow { $0.text(0) }
    }
}
