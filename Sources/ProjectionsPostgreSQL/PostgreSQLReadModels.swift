import CMartletPostgreSQL
public import MartletProjections
import NIOConcurrencyHelpers
import NIOPosix

/// A read model in PostgreSQL, by libpq. A program that has a client of its own writes an adapter to it instead.
///
/// A transaction whose program is stopped in its midst ends by itself after 30 s
/// (`idle_in_transaction_session_timeout`): until then whoever gets its slot waits for its lock.
public final class PostgreSQLReadModels: ProjectionDatabase {
    /// A transaction.
    public struct Transaction: ProjectionTransaction {
        fileprivate let session: Session

        /// Runs one statement (``ProjectionTransaction/execute(_:_:)-(_,[SQLValue])``). Has PostgreSQL cancel it when the task
        /// is cancelled.
        @discardableResult
        public func execute(_ sql: String, _ values: [SQLValue]) async throws -> [[SQLValue]] {
            try await session.executeUnlessCancelled(sql, values)
        }
    }

    /// `bytea`.
    public var bytesType: String { "bytea" }

    /// At most 2 s.
    public var lockTimeoutStatement: String? { "SET LOCAL lock_timeout = '2s'" }

    private let url: String
    private let threads: NIOThreadPool
    private let turn: Turnstile
    private let idle = NIOLockedValueBox<[Session]>([])

    /// Nothing is connected yet.
    /// - Parameters:
    ///   - url: as libpq takes it, `postgres://…` or `key=value …`.
    ///   - connections: transactions at a time, at most, each on a connection of its own.
    public init(_ url: String, connections: Int = 4) {
        self.url = url
        threads = NIOThreadPool(numberOfThreads: max(1, connections))
        turn = Turnstile(places: max(1, connections))
        threads.start()
    }

    deinit { threads.shutdownGracefully { _ in } }

    /// Runs `body` in a transaction of its own, at READ COMMITTED.
    public func withTransaction<Result: Sendable>(
        _ body: @Sendable (Transaction) async throws -> Result
    ) async throws -> Result {
        try await turn.pass {
            let session = try await takeSession()
            do {
                try await session.execute("BEGIN", [])
                let result = try await body(Transaction(session: session))
                try await session.execute("COMMIT", [])
                give(session)
                return result
            } catch {
                // A session that cannot do even that is dropped.
                if (try? await session.execute("ROLLBACK", [])) != nil { give(session) }
                throw error
            }
        }
    }

    private func takeSession() async throws -> Session {
        if let known = idle.withLockedValue({ $0.popLast() }) { return known }
        return try await threads.runIfActive { [url, threads] in try Session(url, threads) }
    }

    private func give(_ session: Session) { idle.withLockedValue { $0.append(session) } }

    /// The one owner of a connection; used by one task at a time.
    ///
    /// `@unchecked Sendable`: of the tasks that use it, each waits for the one before.
    @safe fileprivate final class Session: @unchecked Sendable {
        @unsafe private let connection: OpaquePointer
        /// What cancels a statement of the connection, from any thread.
        @unsafe private let canceller: OpaquePointer?
        private let threads: NIOThreadPool

        init(_ url: String, _ threads: NIOThreadPool) throws {
            self.threads = threads
            guard let connection = unsafe PQconnectdb(url) else {
                throw ProjectionDatabaseError("no memory for a connection", isTransient: true)
            }
            unsafe self.connection = unsafe connection
            unsafe canceller = unsafe PQgetCancel(connection)
            guard unsafe PQstatus(connection) == CONNECTION_OK else {
                throw unsafe Self.error(of: connection, nil)
            }
            // Notices would go to standard error.
            _ = unsafe PQsetNoticeReceiver(connection, { _, _ in }, nil)
            _ = try run("SET idle_in_transaction_session_timeout = '30s'", [])
        }

        deinit {
            unsafe PQfreeCancel(canceller)
            unsafe PQfinish(connection)
        }

        func executeUnlessCancelled(_ sql: String, _ values: [SQLValue]) async throws -> [[SQLValue]] {
            let statement = InterruptibleStatement()
            return try await withTaskCancellationHandler {
                try await execute(sql, values, statement)
            } onCancel: {
                guard statement.cancel() else { return }
                // It connects to the server for this, and none of the session's own threads may be free.
                NIOThreadPool.singleton.submit { _ in
                    statement.interrupt {
                        var message = [CChar](repeating: 0, count: 256)
                        _ = unsafe PQcancel(self.canceller, &message, Int32(message.count))
                    }
                }
            }
        }

        @discardableResult
        func execute(
            _ sql: String, _ values: [SQLValue], _ statement: InterruptibleStatement = InterruptibleStatement()
        ) async throws -> [[SQLValue]] {
            // Also where the task is cancelled: what was begun is to be rolled back.
            try await withCheckedThrowingContinuation { continuation in
                threads.submit { state in
                    switch state {
                    case .active:
                        continuation.resume(with: Result { try statement.run { try self.run(sql, values) } })
                    case .cancelled: continuation.resume(throwing: CancellationError())
                    }
                }
            }
        }

        private func run(_ sql: String, _ values: [SQLValue]) throws -> [[SQLValue]] {
            // Text ends with a zero; bytes go as they are.
            let parameters = values.map { value -> [UInt8]? in
                switch value {
                case .null: nil
                case .integer(let number): Array("\(number)".utf8) + [0]
                case .real(let number): Array("\(number)".utf8) + [0]
                case .text(let text): Array(text.utf8) + [0]
                case .bytes(let bytes): bytes
                }
            }
            let formats = values.map { value -> Int32 in if case .bytes = value { 1 } else { 0 } }
            let lengths = parameters.map { Int32($0?.count ?? 0) }
            let result = unsafe Self.withPointers(to: parameters) { pointers in
                unsafe PQexecParams(connection, sql, Int32(values.count), nil, pointers, lengths, formats, 0)
            }
            defer { unsafe PQclear(result) }
            switch unsafe PQresultStatus(result) {
            case PGRES_TUPLES_OK: return unsafe Self.rows(of: result)
            case PGRES_COMMAND_OK:
                // A COMMIT that rolled back says so in its tag.
                if sql == "COMMIT", unsafe String(cString: PQcmdStatus(result)) != "COMMIT" {
                    throw ProjectionDatabaseError("the transaction was rolled back", isTransient: true)
                }
                return []
            default: throw unsafe Self.error(of: connection, result)
            }
        }

        @unsafe private static func withPointers<Result>(
            to parameters: [[UInt8]?], _ body: ([UnsafePointer<CChar>?]) -> Result
        ) -> Result {
            let buffers = unsafe parameters.map { bytes -> UnsafeMutablePointer<CChar>? in
                guard let bytes else { return nil }
                // A pointer for an empty value, too: nil is NULL.
                let copy = UnsafeMutablePointer<CChar>.allocate(capacity: max(1, bytes.count))
                for (index, byte) in bytes.enumerated() { unsafe copy[index] = CChar(bitPattern: byte) }
                return unsafe copy
            }
            defer { unsafe buffers.forEach { unsafe $0?.deallocate() } }
            return unsafe body(unsafe buffers.map { unsafe UnsafePointer($0) })
        }

        @unsafe private static func rows(of result: OpaquePointer?) -> [[SQLValue]] {
            unsafe (0..<PQntuples(result)).map { row in
                unsafe (0..<PQnfields(result)).map { column in unsafe value(result, row, column) }
            }
        }

        @unsafe private static func value(_ result: OpaquePointer?, _ row: Int32, _ column: Int32) -> SQLValue {
            guard unsafe PQgetisnull(result, row, column) == 0, let start = unsafe PQgetvalue(result, row, column)
            else { return .null }
            let text = unsafe String(
                decoding: UnsafeRawBufferPointer(start: start, count: Int(PQgetlength(result, row, column))),
                as: UTF8.self)
            // The numbers of PostgreSQL's own types never change.
            switch unsafe PQftype(result, column) {
            case 16: return .integer(text == "t" ? 1 : 0)
            case 17: return .bytes(bytes(ofHex: text))
            case 20, 21, 23: return Int64(text).map { .integer($0) } ?? .text(text)
            case 700, 701: return Double(text).map { .real($0) } ?? .text(text)
            default: return .text(text)
            }
        }

        /// The bytes of `\x…`, as `bytea` is printed.
        private static func bytes(ofHex text: String) -> [UInt8] {
            let digits = text.utf8.dropFirst(2).compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
            return stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
        }

        @unsafe private static func error(
            of connection: OpaquePointer, _ result: OpaquePointer?
        ) -> ProjectionDatabaseError {
            let state = unsafe PQresultErrorField(result, Int32(UInt8(ascii: "C"))).map { unsafe String(cString: $0) }
            // Connections that are lost or refused, transactions in each other's way, a server that has no room or goes.
            let isTransient =
                unsafe PQstatus(connection) != CONNECTION_OK
                || ["08", "40", "53", "57", "55"].contains { state?.hasPrefix($0) == true } || state == "25P03"
            // Not the connection string: it may hold a password.
            let message = unsafe PQresultErrorField(result, Int32(UInt8(ascii: "M"))).map { unsafe String(cString: $0) }
            return ProjectionDatabaseError(
                "PostgreSQL: \(message ?? "the connection failed")\(state.map { " (\($0))" } ?? "")",
                isTransient: isTransient)
        }
    }
}
