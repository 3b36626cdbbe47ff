import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// A schema of its own, and engines on it.
struct Bench: Sendable {
    let url: String
    let schema: String
    let tenant = TenantID(UUID())

    /// - Parameter url: the database; by default the one that tests have.
    init(url: String? = nil, prepares: Bool = true) throws {
        let database = try url == nil ? PostgresTestDatabase() : nil
        self.url = url ?? database?.url ?? ""
        schema = database?.schema ?? "t" + UUID().uuidString.lowercased().filter { $0 != "-" }
        if prepares { try engine().prepare() }
    }

    /// An engine, as of one server more.
    ///
    /// - Parameter options: settings of its connections, as in `-c synchronous_commit=off`.
    func engine(
        options: String = "", memory: RememberedTenants = RememberedTenants(),
        listeners: ListenerPresence = ListenerPresence(),
        time: HandMovedTime? = nil
    ) -> PostgreSQLEngine {
        // The name tells its sessions from those of other tests.
        let query = "?application_name=" + schema + (options.isEmpty ? "" : "&options=" + options.percentEncoded)
        return PostgreSQLEngine(
            connectionString: url + query, schema: schema, logger: .silent, memory: memory, listeners: listeners,
            now: { time?.now ?? .now })
    }

    /// A writer, as of one server more.
    func writer(memory: RememberedTenants = RememberedTenants()) throws -> PostgreSQLWriter {
        try #require(engine(memory: memory).makeWriter() as? PostgreSQLWriter)
    }

    /// The URL of another database of the same server.
    func url(ofDatabase name: String) throws -> String {
        guard let slash = url.lastIndex(of: "/") else { throw BenchFailure("\(url) is no URL") }
        return url[...slash] + name
    }

    /// A connection that has nothing to do with the engine.
    func connect() throws(PostgresFault) -> PostgresConnection { try PostgresConnection(url, statements: []) }

    /// Runs SQL in the schema.
    func run(_ sql: String) throws { _ = try rows(sql, columns: 0) }

    /// The rows of a query, as text; `∅` for NULL.
    func rows(_ sql: String, columns: Int32 = 1, settings: String = "") throws -> [[String]] {
        let connection = try connect()
        try connection.run("SET search_path = \(schema), pg_catalog;" + settings)
        let result = try connection.run(sql)
        return (0..<result.rowCount).map { row in
            (0..<columns).map { result.isNull(row, $0) ? "∅" : result.text(row, $0) }
        }
    }

    /// Whether the tenant holds exactly these events, in order and without a gap.
    func holds(_ ids: [UUID], _ reader: (any StorageReader)? = nil) throws -> Bool {
        let events = try (reader ?? engine().makeReader()).events(of: tenant)
        return events.map(\.event.id) == ids
            && events.map(\.position.rawValue) == ids.indices.map { UInt64($0) + 1 }
    }

    /// Ends the engine's sessions whose last statement begins so, and waits until they are gone.
    /// - Returns: how many.
    @discardableResult
    func endSessions(_ statement: String = "") throws -> Int {
        let ended = try rows(
            """
            SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, 5000)) FROM pg_stat_activity
            WHERE application_name = '\(schema)' AND query ILIKE '\(statement)%'
            """)
        return Int(ended.first?.first ?? "") ?? 0
    }

    /// Waits until a session of the engine does that.
    func waitForSession(_ condition: String) throws {
        for _ in 0..<1_000 {
            let found = try rows(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = '\(schema)' AND \(condition)")
            if found != [["0"]] { return }
            Thread.sleep(forTimeInterval: 0.01)
        }
        throw BenchFailure("no session came to \(condition)")
    }

    /// Makes each commit run that first, in its last moment before it is one. Those under way go on as they are.
    func beforeEachCommit(_ statements: String) throws {
        try run(
            """
            CREATE OR REPLACE FUNCTION before_commit() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN \(statements); RETURN NULL; END $$
            """)
        guard try rows("SELECT FROM pg_trigger WHERE tgrelid = 'tenants'::regclass", columns: 0).isEmpty else { return }
        try run(
            """
            CREATE CONSTRAINT TRIGGER before_commit AFTER UPDATE ON tenants DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION before_commit()
            """)
    }
}

extension String {
    fileprivate var percentEncoded: String {
        utf8.map { byte in
            let isPlain = (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || byte == UInt8(ascii: "_")
            return isPlain ? String(UnicodeScalar(byte)) : "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }.joined()
    }
}

extension AppendRequest {
    /// The ids of its events, in order.
    var ids: [UUID] { aggregates.flatMap { $0.events.map(\.id) } }
}

/// What storage refuses with; nil where it does not.
func refusal(_ body: () throws(StorageError) -> Void) -> StorageError? {
    do throws(StorageError) {
        try body()
        return nil
    } catch { return error }
}

struct BenchFailure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

extension Trait where Self == ConditionTrait {
    /// Needs the database that `.ci/with-postgres` starts.
    static var needsPostgres: Self {
        .enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database")
    }
}

/// One of each way to call an engine.
enum EngineCall: CaseIterable {
    case prepare, commit, read, listen

    /// What a call on a new connection is refused with.
    func refusal(by engine: PostgreSQLEngine) throws -> StorageError? {
        let tenant = TenantID(UUID())
        let request = try AppendRequest.sample(tenant: tenant)
        do throws(StorageError) {
            switch self {
            case .prepare: try engine.prepare()
            case .commit: _ = try engine.makeWriter().commit([request], now: .now())
            case .read: _ = try engine.makeReader().head(of: tenant)
            case .listen: _ = try engine.makeListener()?.wait(atMost: 1)
            }
            return nil
        } catch { return error }
    }
}
