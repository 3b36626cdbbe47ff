import CMartletSQLite
import NIOCore

/// The one owner of a `sqlite3_blob *`: reads parts of the entries of blocks, without the rest of them.
///
/// It keeps a read transaction open, and is made for one read.
@safe final class SQLiteBlob {
    @unsafe private var blob: OpaquePointer?
    @unsafe private let database: OpaquePointer
    private var row: Int64

    /// Opens the entries of a block.
    @unsafe init(database: OpaquePointer, block key: Int64) throws(SQLiteFault) {
        unsafe self.database = unsafe database
        row = key
        let code = unsafe sqlite3_blob_open(database, "main", "blocks", "entries", key, 0, &blob)
        guard code == SQLITE_OK else { throw unsafe SQLiteFault(code: code, database: database) }
    }

    deinit { unsafe sqlite3_blob_close(blob) }

    /// Appends a part of a block's entries to `buffer`.
    func read(_ range: Range<Int>, ofBlock key: Int64, to buffer: inout ByteBuffer) throws(SQLiteFault) {
        if key != row {
            let code = unsafe sqlite3_blob_reopen(blob, key)
            guard code == SQLITE_OK else { throw unsafe SQLiteFault(code: code, database: database) }
            row = key
        }
        guard range.upperBound <= Int(unsafe sqlite3_blob_bytes(blob)) else {
            throw .corrupted("a range extends beyond its block")
        }
        var code = SQLITE_OK
        unsafe buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: range.count) { target in
            code = unsafe sqlite3_blob_read(
                blob, target.baseAddress, Int32(range.count), Int32(range.lowerBound))
            return code == SQLITE_OK ? range.count : 0
        }
        guard code == SQLITE_OK else { throw unsafe SQLiteFault(code: code, database: database) }
    }
}

extension SQLiteFault {
    static func corrupted(_ what: String) -> SQLiteFault {
        SQLiteFault(code: SQLITE_CORRUPT, message: "\(what): run martlet doctor --deep")
    }
}
