import CMartletSQLite
import MartletStorage

/// What SQLite says went wrong.
struct SQLiteFault: Error {
    /// The extended result code.
    var code: Int32
    var message: String
    /// Where in a tenant's own data something is damaged.
    var place: String?

    /// A key is taken (SQLITE_CONSTRAINT_PRIMARYKEY).
    static let duplicateKey = SQLITE_CONSTRAINT | 6 << 8

    /// The code without its extension.
    var primary: Int32 { code & 0xFF }

    /// Stored data is damaged, as opposed to out of reach.
    var isDamage: Bool { primary == SQLITE_CORRUPT }

    /// A sync failed (SQLITE_IOERR_FSYNC, SQLITE_IOERR_DIR_FSYNC).
    var isFailedSync: Bool { code == SQLITE_IOERR | 4 << 8 || code == SQLITE_IOERR | 5 << 8 }

    /// The disk refused a write, other than for lack of room (SQLITE_IOERR_WRITE).
    var isFailedWrite: Bool { code == SQLITE_IOERR | 3 << 8 }

    @unsafe init(code: Int32, database: OpaquePointer?) {
        let extended = unsafe sqlite3_extended_errcode(database)
        self.code = extended & 0xFF == code & 0xFF ? extended : code
        message = unsafe String(cString: sqlite3_errmsg(database))
    }

    init(code: Int32, message: String) {
        self.code = code
        self.message = message
    }

    /// Stored data is damaged.
    init(damage: StorageError) {
        code = SQLITE_CORRUPT
        message = damage.description
        place = damage.place
    }

    /// How the port tells it, where nothing was committed.
    var storageError: StorageError {
        let text = "SQLite: \(message) (code \(code))"
        return switch primary {
        case SQLITE_FULL: StorageError(.full, "\(text): free space on the disk")
        case SQLITE_CORRUPT, SQLITE_NOTADB: StorageError(.corrupted, text, place: place)
        default: StorageError(.unavailable, text)
        }
    }
}
