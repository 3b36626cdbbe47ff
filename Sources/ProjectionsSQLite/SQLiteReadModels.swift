import CMartletSQLite
public import MartletProjections
import NIOPosix

/// A read model in a SQLite file. Transactions run one after the other, on a thread of their own.
public final class SQLiteReadModels: ProjectionDatabase {
    /// A transaction.
    public struct Transaction: ProjectionTransaction {
        fileprivate let session: Session

        /// Runs one statement (``ProjectionTransaction/execute(_:_:)-(_,[SQLValue])``). Interrupts it when the task is
        /// cancelled.
        @discardableResult
        public func execute(_ sql: String, _ values: [SQLValue]) async throws -> [[SQLValue]] {
            try await session.executeUnlessCancelled(sql, values)
        }
    }

    /// `blob`.
    public var bytesType: String { "blob" }

    private let session: Session
    private let turn = Turnstile(places: 1)

    /// Opens the file, or makes it: in WAL mode, each commit is durable.
    public init(path: String) throws { session = try Session(path: path) }

    /// Runs `body` in a transaction of its own.
    public func withTransaction<Result: Sendable>(
        _ body: @Sendable (Transaction) async throws -> Result
    ) async throws -> Result {
        try await turn.pass {
            do {
                try await session.execute("BEGIN IMMEDIATE", [])
                let result = try await body(Transaction(session: session))
                try await session.execute("COMMIT", [])
                return result
            } catch {
                _ = try? await session.execute("ROLLBACK", [])
                throw error
            }
        }
    }

    /// How many statements are prepared.
    func preparedCount() async throws -> Int { try await turn.pass { try await session.preparedCount() } }

    /// The one owner of the connection; used by one task at a time.
    ///
    /// `@unchecked Sendable`: the statements are used on its one thread only.
    @safe fileprivate final class Session: @unchecked Sendable {
        @unsafe private let connection: OpaquePointer
        /// Prepared statements by their text: a handler that writes values into its text would leave one for each.
        @unsafe private var statements = unsafe RecentlyUsed<OpaquePointer>(countMax: 64)
        private let thread = NIOThreadPool(numberOfThreads: 1)

        init(path: String) throws {
            var connection: OpaquePointer?
            let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_FULLMUTEX
            let code = unsafe sqlite3_open_v2(path, &connection, flags, nil)
            guard code == SQLITE_OK, let connection = unsafe connection else {
                let message = unsafe connection.map { unsafe String(cString: sqlite3_errmsg($0)) } ?? "no memory"
                _ = unsafe sqlite3_close_v2(connection)
                throw ProjectionDatabaseError("\(path): \(message)", isTransient: false)
            }
            unsafe self.connection = unsafe connection
            _ = unsafe sqlite3_busy_timeout(connection, 5_000)
            for pragma in ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"] {
                guard unsafe sqlite3_exec(connection, pragma, nil, nil, nil) == SQLITE_OK else {
                    let error = unsafe Self.error(of: connection)
                    _ = unsafe sqlite3_close_v2(connection)
                    throw error
                }
            }
            thread.start()
        }

        deinit {
            thread.shutdownGracefully { _ in }
            unsafe statements.values.forEach { _ = unsafe sqlite3_finalize($0) }
            _ = unsafe sqlite3_close_v2(connection)
        }

        func executeUnlessCancelled(_ sql: String, _ values: [SQLValue]) async throws -> [[SQLValue]] {
            let statement = InterruptibleStatement()
            return try await withTaskCancellationHandler {
                try await execute(sql, values, statement)
            } onCancel: {
                guard statement.cancel() else { return }
                statement.interrupt { unsafe sqlite3_interrupt(self.connection) }
            }
        }

        @discardableResult
        func execute(
            _ sql: String, _ values: [SQLValue], _ statement: InterruptibleStatement = InterruptibleStatement()
        ) async throws -> [[SQLValue]] {
            // Also where the task is cancelled: what was begun is to be rolled back.
            try await withCheckedThrowingContinuation { continuation in
                thread.submit { state in
                    switch state {
                    case .active:
                        continuation.resume(with: Result { try statement.run { try self.run(sql, values) } })
                    case .cancelled: continuation.resume(throwing: CancellationError())
                    }
                }
            }
        }

        func preparedCount() async throws -> Int {
            try await thread.runIfActive { unsafe self.statements.count }
        }

        private func run(_ sql: String, _ values: [SQLValue]) throws -> [[SQLValue]] {
            let statement = try unsafe prepared(sql)
            defer {
                _ = unsafe sqlite3_reset(statement)
                _ = unsafe sqlite3_clear_bindings(statement)
            }
            // SQLite counts parameters in the order in which a statement first names them: `$2` may be the first one.
            for (number, value) in values.enumerated() {
                let index = unsafe sqlite3_bind_parameter_index(statement, "$\(number + 1)")
                guard unsafe Self.bind(value, index, statement) == SQLITE_OK else {
                    throw unsafe Self.error(of: connection)
                }
            }
            var rows: [[SQLValue]] = []
            while true {
                switch unsafe sqlite3_step(statement) {
                case SQLITE_ROW: rows.append(unsafe Self.row(statement))
                case SQLITE_DONE: return rows
                default: throw unsafe Self.error(of: connection)
                }
            }
        }

        @unsafe private func prepared(_ sql: String) throws -> OpaquePointer {
            if let known = unsafe statements.use(sql) { return unsafe known }
            var statement: OpaquePointer?
            let code = unsafe sqlite3_prepare_v3(
                connection, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &statement, nil)
            guard code == SQLITE_OK, let statement = unsafe statement else { throw unsafe Self.error(of: connection) }
            // It is reset, as all are that do not run.
            if let oldest = unsafe statements.insert(statement, for: sql) { _ = unsafe sqlite3_finalize(oldest) }
            return unsafe statement
        }

        @unsafe private static func bind(_ value: SQLValue, _ index: Int32, _ statement: OpaquePointer) -> Int32 {
            switch value {
            case .null: return unsafe sqlite3_bind_null(statement, index)
            case .integer(let number): return unsafe sqlite3_bind_int64(statement, index, number)
            case .real(let number): return unsafe sqlite3_bind_double(statement, index, number)
            case .text(var text):
                return text.withUTF8 { bytes in
                    unsafe bytes.withMemoryRebound(to: CChar.self) { bytes in
                        unsafe martlet_sqlite_bind_text_copy(statement, index, bytes.baseAddress, Int32(bytes.count))
                    }
                }
            case .bytes(let bytes):
                return unsafe bytes.withUnsafeBytes { bytes in
                    unsafe martlet_sqlite_bind_blob_copy(statement, index, bytes.baseAddress, Int32(bytes.count))
                }
            }
        }

        @unsafe private static func row(_ statement: OpaquePointer) -> [SQLValue] {
            unsafe (0..<sqlite3_column_count(statement)).map { column in
                switch unsafe sqlite3_column_type(statement, column) {
                case SQLITE_INTEGER: return .integer(unsafe sqlite3_column_int64(statement, column))
                case SQLITE_FLOAT: return .real(unsafe sqlite3_column_double(statement, column))
                case SQLITE_TEXT:
                    let text = unsafe sqlite3_column_text(statement, column)
                    return .text(unsafe text.map { unsafe String(cString: $0) } ?? "")
                case SQLITE_BLOB:
                    let start = unsafe sqlite3_column_blob(statement, column)
                    let count = Int(unsafe sqlite3_column_bytes(statement, column))
                    return .bytes(unsafe Array(UnsafeRawBufferPointer(start: start, count: count)))
                default: return .null
                }
            }
        }

        @unsafe private static func error(of connection: OpaquePointer) -> ProjectionDatabaseError {
            let code = unsafe sqlite3_errcode(connection)
            let isTransient = [SQLITE_BUSY, SQLITE_LOCKED, SQLITE_FULL, SQLITE_IOERR, SQLITE_CANTOPEN].contains(code)
            return unsafe ProjectionDatabaseError(
                "SQLite: \(String(cString: sqlite3_errmsg(connection))) (\(code))", isTransient: isTransient)
        }
    }
}
