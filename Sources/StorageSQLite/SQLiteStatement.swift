import CMartletSQLite
import FoundationEssentials
import NIOCore

/// The one owner of a `sqlite3_stmt *`; used by one thread at a time.
@safe final class SQLiteStatement {
    @unsafe private let statement: OpaquePointer
    @unsafe private let database: OpaquePointer

    @unsafe init(_ sql: String, database: OpaquePointer) throws(SQLiteFault) {
        var statement: OpaquePointer?
        let code = unsafe sqlite3_prepare_v3(
            database, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &statement, nil)
        guard code == SQLITE_OK, let statement = unsafe statement else {
            throw unsafe SQLiteFault(code: code, database: database)
        }
        unsafe self.statement = unsafe statement
        unsafe self.database = unsafe database
    }

    deinit { unsafe sqlite3_finalize(statement) }

    // Binding cannot fail but for memory, which the step that follows reports.

    func bind(_ index: Int32, _ value: Int64) { _ = unsafe sqlite3_bind_int64(statement, index, value) }

    func bind(_ index: Int32, _ text: String?) {
        guard var text else {
            _ = unsafe sqlite3_bind_null(statement, index)
            return
        }
        text.withUTF8 { bytes in
            unsafe bytes.withMemoryRebound(to: CChar.self) { bytes in
                _ = unsafe martlet_sqlite_bind_text_copy(statement, index, bytes.baseAddress, Int32(bytes.count))
            }
        }
    }

    func bindNull(_ index: Int32) { _ = unsafe sqlite3_bind_null(statement, index) }

    func bind(_ index: Int32, _ uuid: UUID) {
        unsafe withUnsafeBytes(of: uuid.uuid) { bytes in
            _ = unsafe martlet_sqlite_bind_blob_copy(statement, index, bytes.baseAddress, Int32(bytes.count))
        }
    }

    func bind(_ index: Int32, _ uuid: UUID?) {
        if let uuid { bind(index, uuid) } else { bindNull(index) }
    }

    func bind(_ index: Int32, bytes: [UInt8]) {
        unsafe bytes.withUnsafeBytes { bytes in unsafe bind(index, blob: bytes) }
    }

    @unsafe func bind(_ index: Int32, blob bytes: UnsafeRawBufferPointer) {
        _ = unsafe martlet_sqlite_bind_blob_copy(statement, index, bytes.baseAddress, Int32(bytes.count))
    }

    /// Runs a statement that has one blob which is not copied, and no rows.
    func run(blob index: Int32, _ bytes: UnsafeRawBufferPointer) throws(SQLiteFault) {
        _ = unsafe martlet_sqlite_bind_blob_static(statement, index, bytes.baseAddress, Int32(bytes.count))
        defer { _ = unsafe sqlite3_bind_null(statement, index) }
        try run()
    }

    /// Runs a statement that has no rows.
    func run() throws(SQLiteFault) {
        defer { reset() }
        _ = try step()
    }

    /// Calls `row` for each row until it returns false. The statement is reset afterwards, so that no read
    /// transaction stays open.
    func forEachRow(_ row: (borrowing Row) throws(SQLiteFault) -> Bool) throws(SQLiteFault) {
        defer { reset() }
        while try step() {
            guard try unsafe row(Row(statement: statement)) else { return }
        }
    }

    /// Calls `row` for every row; ends at the first fault.
    func visit(_ row: (borrowing Row) throws(SQLiteFault) -> Void) throws(SQLiteFault) {
        defer { reset() }
        while try step() { try unsafe row(Row(statement: statement)) }
    }

    /// Calls `row` for the first row; nil where there is none.
    func firstRow<Value>(
        _ row: (borrowing Row) throws(SQLiteFault) -> Value
    ) throws(SQLiteFault) -> Value? {
        defer { reset() }
        return try step() ? try unsafe row(Row(statement: statement)) : nil
    }

    private func step() throws(SQLiteFault) -> Bool {
        switch unsafe sqlite3_step(statement) {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        case let code: throw unsafe SQLiteFault(code: code, database: database)
        }
    }

    private func reset() { _ = unsafe sqlite3_reset(statement) }

    /// A row at hand; its values are valid inside the call that gives it.
    @safe struct Row: ~Copyable {
        @unsafe let statement: OpaquePointer

        func integer(_ column: Int32) -> Int64 { unsafe sqlite3_column_int64(statement, column) }

        /// Far above every count of bytes that is true: sums of two of them are numbers still.
        static var amountMax: Int64 { 1 << 61 }

        /// A number that is never below 0, nor above `max`.
        func unsigned(_ column: Int32, to max: Int64 = .max) throws(SQLiteFault) -> UInt64 {
            let value = integer(column)
            guard 0 <= value, value <= max else {
                let name = unsafe sqlite3_column_name(statement, column).map { unsafe String(cString: $0) } ?? ""
                throw .corrupted("a row has \(value) for \(name), which must be from 0 to \(max)")
            }
            return UInt64(value)
        }

        func isNull(_ column: Int32) -> Bool { unsafe sqlite3_column_type(statement, column) == SQLITE_NULL }

        func text(_ column: Int32) -> String {
            guard let bytes = unsafe sqlite3_column_text(statement, column) else { return "" }
            let count = Int(unsafe sqlite3_column_bytes(statement, column))
            return unsafe String(decoding: UnsafeBufferPointer(start: bytes, count: count), as: UTF8.self)
        }

        @unsafe func blob(_ column: Int32) -> UnsafeRawBufferPointer {
            let bytes = unsafe sqlite3_column_blob(statement, column)
            return unsafe UnsafeRawBufferPointer(start: bytes, count: Int(sqlite3_column_bytes(statement, column)))
        }
    }
}
