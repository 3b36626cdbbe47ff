import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStoragePostgreSQL

/// What a server cannot work with is told as such, and not as something that time will heal.
@Suite(.blocking, .needsPostgres) struct RefusalTests {
    private func check(
        _ engine: PostgreSQLEngine, _ kind: StorageError.Kind, _ words: String,
        calls: [EngineCall] = EngineCall.allCases, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        for call in calls {
            let error = try call.refusal(by: engine)
            #expect(error?.kind == kind, "\(call): \(String(describing: error))", sourceLocation: sourceLocation)
            #expect(error?.description.contains(words) == true, "\(call)", sourceLocation: sourceLocation)
            #expect(error?.description.contains("s3cret") == false, "\(call)", sourceLocation: sourceLocation)
            let isRetryable = error.map { MartletError($0).isRetryable }
            #expect(isRetryable == (kind == .unavailable), "\(call)", sourceLocation: sourceLocation)
        }
    }

    private func engine(_ url: String) -> PostgreSQLEngine {
        PostgreSQLEngine(connectionString: url, schema: "none", logger: .silent)
    }

    @Test func aMissingDatabase() throws {
        let bench = try Bench(prepares: false)
        try check(engine(try bench.url(ofDatabase: "no_such_database")), .misconfigured, "no_such_database")
    }

    @Test func aMissingRole() throws {
        let url = try Bench(prepares: false).url
        try check(
            engine(url.replacing("martlet@", with: "nobody:s3cret@", maxReplacements: 1)), .misconfigured, "nobody")
    }

    @Test func aServerThatIsNotThere() throws {
        try check(engine("postgres://martlet:s3cret@127.0.0.1:1/martlet"), .unavailable, "refused")
    }

    @Test func aRoleWithoutRights() throws {
        let bench = try Bench()
        let role = "r" + bench.schema
        try bench.run("CREATE ROLE \(role) LOGIN")
        defer { try? bench.run("DROP ROLE \(role)") }
        let engine = PostgreSQLEngine(
            connectionString: bench.url.replacing("martlet@", with: "\(role)@", maxReplacements: 1),
            schema: bench.schema, logger: .silent)
        try check(engine, .misconfigured, "permission denied", calls: [.prepare, .commit, .read])
    }

    @Test func aDatabaseOfAnotherEncoding() throws {
        let bench = try Bench(prepares: false)
        let name = "d" + bench.schema
        let connection = try bench.connect()
        try connection.run("CREATE DATABASE \(name) ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        defer { _ = try? connection.run("DROP DATABASE \(name)") }
        let engine = engine(try bench.url(ofDatabase: name))
        let error = refusal { () throws(StorageError) in try engine.prepare() }
        #expect(error?.kind == .misconfigured && error?.description.contains("UTF8") == true)
    }
}
