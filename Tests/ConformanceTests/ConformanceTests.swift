import EventModel
import EventStorage
import EventTesting
import Foundation
import Logging
import NIOCore
import NIOPosix
import StoragePostgreSQL
import StorageSQLite
import Testing

/// The suite against everything that must keep the contract.
@Suite struct ConformanceTests {
    private func check(
        _ clause: ConformanceClause, on engine: any StorageEngine
    ) async throws {
        let subject = try EngineSubject(
            engine, eventLoop: MultiThreadedEventLoopGroup.singleton.next(), logger: .silent)
        do {
            try await clause.check(subject, random: .fromEnvironment())
        } catch {
            await subject.shutDown()
            throw error
        }
        await subject.shutDown()
    }

    private func checkThroughClient(_ clause: ConformanceClause, on engine: any StorageEngine) async throws {
        try await TestServer.with(engine) { server in
            try await server.withClient { client in
                try await clause.check(ClientSubject(client), random: .fromEnvironment())
            }
        }
    }

    @Test(arguments: ConformanceSuite.clauses)
    func theOracleKeeps(_ clause: ConformanceClause) async throws { try await check(clause, on: MemoryEngine()) }

    @Test(arguments: ConformanceSuite.clauses)
    func sqliteKeeps(_ clause: ConformanceClause) async throws {
        let folder = try TemporaryFolder()
        try await check(clause, on: SQLiteEngine(path: folder.path + "/m.db", logger: .silent))
    }

    @Test(.enabled(if: PostgresSchema.url != nil, "MARTLET_TEST_POSTGRES names no database"), arguments: ConformanceSuite.clauses)
    func postgreSQLKeeps(_ clause: ConformanceClause) async throws {
        let schema = try #require(PostgresSchema())
        try await check(clause, on: schema.engine())
    }

    @Test(arguments: ConformanceSuite.clauses)
    func sqliteThroughClientAndServerKeeps(_ clause: ConformanceClause) async throws {
        let folder = try TemporaryFolder()
        try await checkThroughClient(clause, on: SQLiteEngine(path: folder.path + "/m.db", logger: .silent))
    }

    @Test(.enabled(if: PostgresSchema.url != nil, "MARTLET_TEST_POSTGRES names no database"), arguments: ConformanceSuite.clauses)
    func postgreSQLThroughClientAndServerKeeps(_ clause: ConformanceClause) async throws {
        let schema = try #require(PostgresSchema())
        try await checkThroughClient(clause, on: schema.engine())
    }

    @Test func clausesHaveNamesOfTheirOwn() {
        #expect(Set(ConformanceSuite.clauses.map(\.id)).count == ConformanceSuite.clauses.count)
    }
}

/// A schema of the test database that nobody else uses.
struct PostgresSchema {
    static let url = ProcessInfo.processInfo.environment["MARTLET_TEST_POSTGRES"]

    private let url: String
    private let name = "t" + UUID().uuidString.lowercased().filter { $0 != "-" }

    init?() {
        guard let url = Self.url else { return nil }
        self.url = url
    }

    func engine(writers: Int = 2, readers: Int = 1) -> PostgreSQLEngine {
        PostgreSQLEngine(connectionString: url, schema: name, writers: writers, readers: readers, logger: .silent)
    }
}
