import CMartletPostgreSQL
import MartletStorage
import NIOCore

/// The one owner of a `PGconn *`; used by one thread at a time. Everything travels in binary.
@safe final class PostgresConnection {
    /// What the server warned of while a call ran that is watched.
    private final class Warnings {
        var isWatching = false
        var last: PostgresFault?
    }

    @unsafe private let connection: OpaquePointer
    private let string: ConnectionString
    private let warnings = Warnings()
    /// Not held: it holds the connections that are idle.
    private weak var registry: OpenConnections?
    private var number: Int?

    /// Connects, and prepares the statements.
    ///
    /// - Parameter registry: where the connection is noted as long as it is open.
    /// - Throws: ``PostgresFault``; its text never holds the connection string, or a password of it.
    init(
        _ connectionString: String, statements: [(name: String, sql: String)], in registry: OpenConnections? = nil,
        for use: OpenConnections.Use = .other
    ) throws(PostgresFault) {
        let password = try registry?.password()
        let string = try ConnectionString(connectionString, password: password)
        guard registry?.isClosed(to: use) != true else { throw .ending }
        if use != .other { try registry?.makeReady() }
        // Defaults stand before the user's string, which may say otherwise.
        var settings: [(String, String)] = password.map { [("password", $0)] } ?? []
        settings += [
            ("connect_timeout", "5"), ("application_name", "martlet"), ("keepalives_idle", "10"),
            ("keepalives_interval", "5"), ("keepalives_count", "3"), ("tcp_user_timeout", "15000"),
            ("dbname", connectionString), ("client_encoding", "UTF8"),
        ]
        let connection = unsafe Self.withCStrings(settings.map(\.0)) { keys in
            unsafe Self.withCStrings(settings.map(\.1)) { values in unsafe PQconnectdbParams(keys, values, 1) }
        }
        guard let connection = unsafe connection else {
            throw PostgresFault(sqlState: "", message: "no memory for a connection", isConnectionLost: true)
        }
        unsafe self.connection = unsafe connection
        self.string = string
        self.registry = registry
        // libpq would print the server's notices on standard error. It calls this inside the calls that read, and the
        // object lives as long as the connection.
        _ = unsafe PQsetNoticeReceiver(
            connection,
            { warnings, result in
                guard let warnings = unsafe warnings, let result = unsafe result else { return }
                unsafe PostgresConnection.note(result, Unmanaged.fromOpaque(warnings).takeUnretainedValue())
            }, Unmanaged.passUnretained(warnings).toOpaque())
        guard unsafe PQstatus(connection) == CONNECTION_OK else {
            throw PostgresFault(sqlState: Self.refusal(lastMessage), message: lastMessage, isConnectionLost: true)
        }
        if let registry {
            number = registry.add(socket, use)
            guard number != nil else { throw .ending }
            // What a standby has may be old, and it takes no writes.
            if use != .other, isStandby == true { throw .standby }
        }
        if !statements.isEmpty {
            _ = try inOneRoundTrip(statements.count) { index in
                unsafe PQsendPrepare(connection, statements[index].name, statements[index].sql, 0, nil)
            }
        }
    }

    deinit {
        if let number { registry?.remove(number) }
        unsafe PQfinish(connection)
    }

    /// Takes a notice; the result is libpq's.
    @unsafe private static func note(_ result: OpaquePointer, _ warnings: Warnings) {
        func field(_ name: Unicode.Scalar) -> String {
            unsafe PQresultErrorField(result, Int32(name.value)).map { unsafe String(cString: $0) } ?? ""
        }
        // 'V' is the severity in English, whatever the server speaks.
        guard warnings.isWatching, field("V") == "WARNING" else { return }
        warnings.last = PostgresFault(
            sqlState: field("C"), message: field("M"), isConnectionLost: false, isWarning: true)
    }

    /// libpq gives no SQLSTATE for a connection that was not made; what the server refuses for good is told by its
    /// words.
    private static func refusal(_ message: String) -> String {
        let words = [
            "password authentication failed", "no pg_hba.conf entry", "does not exist", "permission denied",
            "is not permitted", "no password supplied",
        ]
        if words.contains(where: { message.contains($0) }) { return "28000" }
        let full = ["too many connections", "too many clients", "remaining connection slots", "no more connections"]
        return full.contains { message.contains($0) } ? PostgresFault.tooManyConnections : "08001"
    }

    /// Whether the server follows another one; nil where it, or what stands before it, does not say.
    var isStandby: Bool? {
        unsafe PQparameterStatus(connection, "in_hot_standby").map { unsafe String(cString: $0) == "on" }
    }

    /// The process id of the server's end.
    var backendID: Int32 { unsafe PQbackendPID(connection) }

    /// The server's version, as in 150004.
    var serverVersion: Int32 { unsafe PQserverVersion(connection) }

    /// The socket, to wait on.
    var socket: Int32 { unsafe PQsocket(connection) }

    private var lastMessage: String {
        let text = unsafe PQerrorMessage(connection).map { unsafe String(cString: $0) } ?? ""
        return string.scrubbed(text.split(separator: "\n").joined(separator: " "))
    }

    /// Commits what was begun by ``run(_:)-(String)``.
    /// - Throws: a warning as well: what the server has may not last.
    func commit() throws(PostgresFault) {
        warnings.last = nil
        warnings.isWatching = true
        defer { warnings.isWatching = false }
        let result = try run("COMMIT")
        if let warning = warnings.last { throw warning }
        guard result.command == "COMMIT" else {
            throw PostgresFault(sqlState: "25P02", message: "the transaction was rolled back", isConnectionLost: false)
        }
    }

    /// What the server warned of during the watched call of the last ``pipeline(_:watching:)``.
    var warning: PostgresFault? { warnings.last }

    /// Runs SQL without parameters, perhaps several statements; the result of the last one, as text.
    @discardableResult
    func run(_ sql: String) throws(PostgresFault) -> PostgresResult {
        let result = unsafe PostgresResult(PQexec(connection, sql))
        try check(result)
        return result
    }

    /// Runs a prepared statement.
    func run(_ call: PostgresCall) throws(PostgresFault) -> PostgresResult {
        let result = unsafe call.parameters.withPointers { values, lengths, formats in
            unsafe PostgresResult(
                PQexecPrepared(
                    connection, call.statement, Int32(call.parameters.count), values, lengths, formats, 1))
        }
        try check(result)
        return result
    }

    /// Runs prepared statements in one round trip. The first that fails fails all that follow.
    /// - Parameter watched: warnings of that call are kept as ``warning``.
    /// - Throws: what the first failed with, once the connection is in order again.
    func pipeline(_ calls: [PostgresCall], watching watched: Int? = nil) throws(PostgresFault) -> [PostgresResult] {
        try inOneRoundTrip(calls.count, watching: watched) { index in
            let call = calls[index]
            return unsafe call.parameters.withPointers { values, lengths, formats in
                unsafe PQsendQueryPrepared(
                    connection, call.statement, Int32(call.parameters.count), values, lengths, formats, 1)
            }
        }
    }

    /// Sends this many commands, and takes the result of each.
    ///
    /// - Parameter send: sends the command of that index; 1 where that went well.
    private func inOneRoundTrip(
        _ count: Int, watching watched: Int? = nil, send: (Int) -> Int32
    ) throws(PostgresFault) -> [PostgresResult] {
        warnings.last = nil
        defer { warnings.isWatching = false }
        guard unsafe PQenterPipelineMode(connection) == 1 else { throw lost() }
        for index in 0..<count {
            guard send(index) == 1 else { throw lost() }
        }
        guard unsafe PQpipelineSync(connection) == 1 else { throw lost() }
        var results: [PostgresResult] = []
        results.reserveCapacity(count)
        var fault: PostgresFault?
        for index in 0..<count {
            // libpq reads on to the first answer to the next call, which comes before what that call warns of.
            warnings.isWatching = index == watched
            while let pointer = unsafe PQgetResult(connection) {
                let result = unsafe PostgresResult(pointer)
                do throws(PostgresFault) { try check(result) } catch {
                    if error.isConnectionLost { throw Self.lastWords(fault, before: error, at: index) }
                    if fault == nil {
                        fault = error
                        fault?.failedCall = index
                    }
                }
                results.append(result)
            }
        }
        warnings.isWatching = false
        guard let sync = unsafe PQgetResult(connection) else { throw lost() }
        let isSynced = unsafe PQresultStatus(sync) == PGRES_PIPELINE_SYNC
        unsafe PQclear(sync)
        guard isSynced, unsafe PQexitPipelineMode(connection) == 1 else {
            throw Self.lastWords(fault, before: lost(), at: count)
        }
        if let fault { throw fault }
        guard results.count == count else { throw lost() }
        return results
    }

    /// Of a connection that ended: what the server said as it ended it, where it did.
    private static func lastWords(
        _ fault: PostgresFault?, before end: PostgresFault, at index: Int
    ) -> PostgresFault {
        var last = fault ?? end
        if !last.isSessionTerminated { last = end }
        last.failedCall = fault?.failedCall ?? index
        last.isConnectionLost = true
        return last
    }

    /// Whether nothing has come on the connection, which is idle: neither what the server said on ending it, nor its
    /// end. A break of the network is not noticed.
    var isQuiet: Bool { martlet_is_readable(socket) == 0 }

    /// Reads what the server has sent, and takes the notifications that came.
    func notifications() throws(PostgresFault) -> [(channel: String, payload: String, backendID: Int32)] {
        guard unsafe PQconsumeInput(connection) == 1 else { throw lost() }
        var all: [(channel: String, payload: String, backendID: Int32)] = []
        while let notification = unsafe PQnotifies(connection) {
            unsafe all.append(
                (
                    String(cString: notification.pointee.relname), String(cString: notification.pointee.extra),
                    notification.pointee.be_pid
                ))
            unsafe PQfreemem(notification)
        }
        return all
    }

    private func lost() -> PostgresFault {
        PostgresFault(sqlState: "08006", message: lastMessage, isConnectionLost: true)
    }

    private func check(_ result: PostgresResult) throws(PostgresFault) {
        switch result.status {
        case PGRES_COMMAND_OK, PGRES_TUPLES_OK: return
        case PGRES_PIPELINE_ABORTED:
            throw PostgresFault(sqlState: "25P02", message: "skipped after an error", isConnectionLost: false)
        default:
            let isLost = unsafe PQstatus(connection) != CONNECTION_OK
            var fault = PostgresFault(
                sqlState: result.sqlState,
                message: result.message.isEmpty ? lastMessage : string.scrubbed(result.message),
                isConnectionLost: isLost)
            if fault.sqlState == PostgresFault.readOnly { fault.isStandby = isStandby }
            throw fault
        }
    }

    @unsafe private static func withCStrings<Result>(
        _ texts: [String], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Result
    ) -> Result {
        var all = ByteBuffer()
        let starts = texts.map { text in
            defer {
                all.writeString(text)
                all.writeInteger(UInt8(0))
            }
            return all.writerIndex
        }
        return unsafe all.withUnsafeReadableBytes { bytes in
            var pointers: [UnsafePointer<CChar>?] = unsafe starts.map { start in
                unsafe bytes.baseAddress.map { unsafe ($0 + start).assumingMemoryBound(to: CChar.self) }
            }
            unsafe pointers.append(nil)
            return unsafe pointers.withUnsafeBufferPointer { pointers in
                guard let base = pointers.baseAddress else { preconditionFailure("there is a last pointer") }
                return unsafe body(base)
            }
        }
    }
}

/// What PostgreSQL, or the way to it, says went wrong.
struct PostgresFault: Error {
    /// SQLSTATE; 08xxx for the connection.
    var sqlState: String
    var message: String
    var isConnectionLost: Bool
    /// Which call of a pipeline it was: those before have succeeded.
    var failedCall: Int?
    /// The server has done what it was asked to, and says that it may not last.
    var isWarning = false
    /// Of a server that takes no writes: whether that is so because it follows another one, where it says.
    var isStandby: Bool?
    /// Where in a tenant's own data something is damaged.
    var place: String?

    /// No connection is made any more.
    static var ending: PostgresFault {
        PostgresFault(sqlState: "", message: "this server is shutting down", isConnectionLost: true)
    }

    static let readOnly = "25006"
    static let tooManyConnections = "53300"
    /// Not the database's own.
    static let schemaTooNew = "too new"

    static var allConnectionsInUse: PostgresFault {
        PostgresFault(
            sqlState: tooManyConnections, message: "all connections that the database grants are in use",
            isConnectionLost: false)
    }

    /// The database follows another one.
    static var standby: PostgresFault {
        var fault = PostgresFault(sqlState: readOnly, message: "the database is a standby", isConnectionLost: true)
        fault.isStandby = true
        return fault
    }

    /// A prepared statement is not there, or there already: the session is not this connection's own.
    var isOfSharedSession: Bool { sqlState == "26000" || sqlState == "42P05" }

    /// Two connections that are open at once are one session of the database.
    static var sharedSession: PostgresFault {
        PostgresFault(
            sqlState: "26000", message: "several connections share one session of the database",
            isConnectionLost: false)
    }

    /// Whether the server itself ended the session, in good order: what it had not done by then, it did not do.
    /// Nothing that stands between may answer so in its place.
    var isSessionTerminated: Bool { ["57P01", "57P05", "25P03"].contains(sqlState) }

    /// Stored data is damaged.
    static func damage(_ error: StorageError) -> PostgresFault {
        PostgresFault(sqlState: "XX001", message: error.description, isConnectionLost: false, place: error.place)
    }

    /// How the port tells it, where nothing was committed.
    var storageError: StorageError {
        let text = "PostgreSQL: \(message)" + (sqlState.isEmpty ? "" : " (\(sqlState))")
        switch sqlState {
        case Schema.staleState: return .historyChanged
        case Self.lockTimeout: return StorageError(.locked, text)
        case "53100": return StorageError(.full, "\(text): free disk space for the database")
        case "XX001", "XX002", "23505": return StorageError(.corrupted, text, place: place)
        case "42P01", "3F000", "42501", "28P01", "28000", "3D000":
            return StorageError(
                .misconfigured, "\(text): check the role, the password, the database and its privileges")
        case "26000", "42P05":
            return StorageError(
                .misconfigured,
                "\(text): a pooler shares its connections for each transaction or statement; set pool_mode = session "
                    + "for this database, or connect to PostgreSQL itself")
        case Self.schemaTooNew: return StorageError(.schemaTooNew, "\(message): use a newer server")
        case Self.tooManyConnections:
            return StorageError(
                .unavailable,
                "\(text): allow the role and the database 10 connections for each server, at least 3")
        case Self.readOnly:
            let standby = "calls are served once the standby is promoted; or connect to the primary"
            let turnedOff =
                "default_transaction_read_only is on for the role, the database or the server: reset it there, or connect "
                + "to another database"
            let advice =
                switch isStandby {
                case true?: standby
                case false?: turnedOff
                case nil: "either the database is a standby, and \(standby); or \(turnedOff)"
                }
            return StorageError(.unavailable, "\(text): \(advice)")
        default: return StorageError(.unavailable, text)
        }
    }

    /// Whether the same transaction may well succeed when it is run again.
    var isTransient: Bool { sqlState == "40001" || sqlState == "40P01" }

    private static let lockTimeout = "55P03"

    /// Whether a lock was waited for as long as it was to be.
    var isLockTimeout: Bool { sqlState == Self.lockTimeout }
}

/// The one owner of a `PGresult *`.
@safe final class PostgresResult {
    @unsafe private let pointer: OpaquePointer?

    @unsafe init(_ pointer: OpaquePointer?) { unsafe self.pointer = unsafe pointer }

    deinit { unsafe PQclear(pointer) }

    var status: ExecStatusType { unsafe PQresultStatus(pointer) }

    var rowCount: Int32 { unsafe PQntuples(pointer) }

    var message: String {
        unsafe PQresultErrorField(pointer, Int32(UInt8(ascii: "M"))).map { unsafe String(cString: $0) } ?? ""
    }

    var sqlState: String {
        unsafe PQresultErrorField(pointer, Int32(UInt8(ascii: "C"))).map { unsafe String(cString: $0) } ?? ""
    }

    /// The command's tag, as in `COMMIT`.
    var command: String { unsafe PQcmdStatus(pointer).map { unsafe String(cString: $0) } ?? "" }

    /// The bytes of a value; valid as long as the result.
    @unsafe func bytes(_ row: Int32, _ column: Int32) -> UnsafeRawBufferPointer {
        let count = Int(unsafe PQgetlength(pointer, row, column))
        return unsafe UnsafeRawBufferPointer(start: PQgetvalue(pointer, row, column), count: count)
    }

    func isNull(_ row: Int32, _ column: Int32) -> Bool { unsafe PQgetisnull(pointer, row, column) == 1 }

    /// A bigint.
    func integer(_ row: Int32, _ column: Int32) -> Int64 {
        let bytes = unsafe bytes(row, column)
        guard bytes.count == 8 else { return 0 }
        return Int64(bigEndian: unsafe bytes.loadUnaligned(as: Int64.self))
    }

    /// Far above every count that is true: sums of two of them are numbers still.
    static var amountMax: Int64 { 1 << 61 }

    /// A bigint that is never below 0, nor above `max`.
    func unsigned(_ row: Int32, _ column: Int32, to max: Int64 = .max) throws(PostgresFault) -> UInt64 {
        let value = integer(row, column)
        guard 0 <= value, value <= max else {
            let name = unsafe PQfname(pointer, column).map { unsafe String(cString: $0) } ?? ""
            throw PostgresFault(
                sqlState: "XX001", message: "a row has \(value) for \(name), which must be from 0 to \(max)",
                isConnectionLost: false)
        }
        return UInt64(value)
    }

    /// An integer.
    func int32(_ row: Int32, _ column: Int32) -> Int32 {
        let bytes = unsafe bytes(row, column)
        guard bytes.count == 4 else { return 0 }
        return Int32(bigEndian: unsafe bytes.loadUnaligned(as: Int32.self))
    }

    func text(_ row: Int32, _ column: Int32) -> String {
        unsafe String(decoding: bytes(row, column), as: UTF8.self)
    }
}
