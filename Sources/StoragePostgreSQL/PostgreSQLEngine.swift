import FoundationEssentials
public import Logging
import MartletModel
public import MartletStorage
import NIOConcurrencyHelpers

/// Events in PostgreSQL, 15 or newer; several servers may use one database.
///
/// A commit locks the head rows of its tenants, so that positions are given in commit order whichever
/// server commits. It is durable by the database's own settings; `synchronous_commit` is raised to `on` where it is
/// weaker, and no reload of the database's configuration changes it for a connection that is open.
public final class PostgreSQLEngine: StorageEngine {
    /// `postgresql`.
    public let name = "postgresql"
    /// The version of the schema that this code reads and writes.
    public let schemaVersion = UInt32(Schema.version)
    /// Connections that commit; tenants commit side by side.
    public let writersMax: Int
    /// Connections that read.
    public let readersMax: Int
    /// Reads wait for the database.
    public let readsTakeProcessors = false

    private static let versionMin: Int32 = 150_000

    private let connectionString: String
    private let schema: Schema
    private let logger: Logger
    private let shared: SharedByWriters
    private let owners: ScheduleOwners

    /// An engine on that database.
    ///
    /// - Parameters:
    ///   - connectionString: a `postgres://` URL, or `key=value` pairs, as libpq takes them.
    ///   - passwordFile: holds the password, where the connection string has none, in up to 4 KiB; a line break at its end
    ///     is not part of it. It is read at each connection, so that a password may change.
    ///   - schema: the schema that holds the tables: lower-case letters, digits and `_`.
    public convenience init(
        connectionString: String, passwordFile: String? = nil, schema: String = "martlet", writers: Int = 4,
        readers: Int = 4, logger: Logger
    ) {
        self.init(
            connectionString: connectionString, passwordFile: passwordFile, schema: schema, writers: writers,
            readers: readers, logger: logger, memory: RememberedTenants())
    }

    /// The same, with other bounds and another clock.
    init(
        connectionString: String, passwordFile: String? = nil, schema: String, writers: Int = 4, readers: Int = 4,
        logger: Logger, memory: RememberedTenants, listeners: ListenerPresence = ListenerPresence(),
        now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
    ) {
        precondition(
            !schema.isEmpty && schema.utf8.count <= 40
                && schema.allSatisfy { $0.isASCII && ($0.isLowercase || $0.isNumber || $0 == "_") },
            "a schema's name consists of lower-case letters, digits and _")
        self.connectionString = connectionString
        self.schema = Schema(name: schema)
        self.logger = logger
        shared = SharedByWriters(
            server: UUID(), ownBackends: OwnBackends(), memory: memory, listeners: listeners,
            open: OpenConnections(logger, passwordFile: passwordFile, now: now))
        owners = ScheduleOwners(server: shared.server)
        writersMax = writers
        readersMax = readers
    }

    /// Checks the database, and migrates the schema; safe when several servers do so at once.
    ///
    /// A standby is prepared once it has been promoted, before it is used; until then all calls fail as `unavailable`.
    public func prepare() throws(StorageError) {
        do throws(PostgresFault) {
            if try prepareNow() { return }
            logger.warning(
                "the database is a standby: calls are answered with STORAGE_UNAVAILABLE until it is promoted")
            // The engine holds the connections, and not they the engine.
            shared.open.prepareLater { [weak self] () throws(PostgresFault) in
                guard let self else { throw .ending }
                guard try prepareNow() else { throw .standby }
                logger.info("the database is no longer a standby: calls are served")
            }
        } catch {
            if error.isWarning {
                throw StorageError(
                    .outcomeUnknown,
                    "PostgreSQL: \(error.message) (\(error.sqlState)) while migrating: start the server again")
            }
            throw error.storageError
        }
    }

    /// - Returns: false where the database is a standby.
    private func prepareNow() throws(PostgresFault) -> Bool {
        let connection = try PostgresConnection(connectionString, statements: [], in: shared.open)
        guard connection.serverVersion >= Self.versionMin else {
            throw PostgresFault(
                sqlState: "42501", message: "the server is older than version 15: upgrade it", isConnectionLost: false)
        }
        let encoding = try connection.run("SHOW server_encoding").text(0, 0)
        guard encoding == "UTF8" else {
            throw PostgresFault(
                sqlState: "42501", message: "the database's encoding is \(encoding): create one with UTF8",
                isConnectionLost: false)
        }
        try refuseSharedSession(connection)
        guard try connection.run("SELECT pg_is_in_recovery()").text(0, 0) != "t" else { return false }
        if try connection.run("SHOW fsync").text(0, 0) == "off" {
            logger.warning("the database runs with fsync off: a crash may lose acknowledged writes")
        }
        try migrate(connection)
        return true
    }

    /// A pooler may lend a session to several connections in turn, which would lose prepared statements, settings and what
    /// is listened to. Where one stands between, the process at the other end is not the one that the connection was told of.
    private func refuseSharedSession(_ connection: PostgresConnection) throws(PostgresFault) {
        func process(_ connection: PostgresConnection) throws(PostgresFault) -> String {
            try connection.run("SELECT pg_backend_pid()").text(0, 0)
        }
        let first = try process(connection)
        guard first != "\(connection.backendID)" else { return }
        // Where no second one is granted, calls will tell.
        guard let other = try? PostgresConnection(connectionString, statements: [], in: shared.open) else { return }
        for _ in 0..<Self.sharingProbes {
            guard let second = try? process(other) else { return }
            guard try process(connection) == first, second != first else { throw .sharedSession }
        }
    }

    private static let sharingProbes = 8

    private func migrate(_ connection: PostgresConnection) throws(PostgresFault) {
        try connection.run("BEGIN")
        try connection.run("SELECT pg_advisory_xact_lock(\(schema.lockKey))")
        try connection.run(
            """
            SET LOCAL client_min_messages = warning;
            CREATE SCHEMA IF NOT EXISTS \(schema.name);
            CREATE TABLE IF NOT EXISTS \(schema.name).schema_version (version integer NOT NULL);
            """)
        let rows = try connection.run("SELECT version FROM \(schema.name).schema_version")
        let found = rows.rowCount == 0 ? 0 : Int(rows.text(0, 0)) ?? 0
        guard found <= Schema.version else {
            throw PostgresFault(
                sqlState: PostgresFault.schemaTooNew,
                message: "schema \(schema.name) has version \(found), but this server knows up to \(Schema.version)",
                isConnectionLost: false)
        }
        for version in found..<Schema.version {
            try connection.run(schema.migrations[version])
            logger.info("storage schema migrated", metadata: ["version": "\(version + 1)"])
        }
        if found < Schema.version {
            try connection.run(
                """
                DELETE FROM \(schema.name).schema_version;
                INSERT INTO \(schema.name).schema_version VALUES (\(Schema.version));
                """)
        }
        try connection.commit()
    }

    /// A writer on a connection of its own.
    public func makeWriter() -> any StorageWriter {
        PostgreSQLWriter(connectionString: connectionString, schema: schema, shared: shared)
    }

    /// A reader on a connection of its own.
    public func makeReader() -> any StorageReader {
        PostgreSQLReader(
            connectionString: connectionString, schema: schema, owners: owners, open: shared.open)
    }

    /// A listener on a connection of its own.
    public func makeListener() -> (any StorageListener)? {
        PostgreSQLListener(
            connectionString: connectionString, schema: schema, server: shared.server,
            ownBackends: shared.ownBackends, open: shared.open)
    }

    /// Ends the connections, and makes no more: a commit that waits for a standby ends, and nobody knows what of it is
    /// where. The database goes on waiting, and holds its locks, until the standby is there or the wait is ended.
    public func interrupt(_ work: StorageWork) { shared.open.close(work) }
}

/// The database's processes that serve this server's writers: what they make known is known here already, unless
/// the writer got no answer.
final class OwnBackends: Sendable {
    private struct State {
        var ids: Set<Int32> = []
        var lostAnswer = false
    }

    private let state = NIOLockedValueBox(State())

    func insert(_ id: Int32) { state.withLockedValue { _ = $0.ids.insert(id) } }

    func remove(_ id: Int32) { state.withLockedValue { _ = $0.ids.remove(id) } }

    func contains(_ id: Int32) -> Bool { state.withLockedValue { $0.ids.contains(id) } }

    /// A commit may have happened that nobody here knows of.
    func loseAnswer() { state.withLockedValue { $0.lostAnswer = true } }

    /// Whether that was so since the last time.
    func takeLostAnswer() -> Bool {
        state.withLockedValue { state in
            defer { state.lostAnswer = false }
            return state.lostAnswer
        }
    }
}
