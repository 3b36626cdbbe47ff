import CSQLite

/// A database as any other program would open it.
@safe final class RawDatabase {
    @unsafe private let database: OpaquePointer

    init(_ path: String) throws {
        var database: OpaquePointer?
        guard unsafe sqlite3_open(path, &database) == SQLITE_OK, let database = unsafe database else {
            throw BenchFailure("cannot open \(path)")
        }
        unsafe self.database = unsafe database
    }

    deinit { unsafe sqlite3_close_v2(database) }

    func run(_ sql: String) throws {
        guard unsafe sqlite3_exec(database, sql, nil, nil, nil) == SQLITE_OK else {
            throw BenchFailure("\(sql): \(unsafe String(cString: sqlite3_errmsg(database)))")
        }
    }
}
