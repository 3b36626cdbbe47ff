import Logging
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletStoragePostgreSQL
import MartletStorageSQLite
import MartletTesting
import NIOCore
import NIOPosix
import Testing

/// The suite against everything that must keep the contract.
@Suite struct ConformanceTests {
    /// One schema for all clauses: each of them has tenants of its own.
    private static let database = try? PostgresTestDatabase()

    private func check(
        _ clause: ConformanceClause, on engine: any StorageEngine, followsTenants: Bool = false
    ) async throws {
        let subject = try EngineSubject(
            engine, followsTenants: followsTenants, eventLoop: MultiThreadedEventLoopGroup.singleton.next(),
            logger: .silent)
        do {
            try await clause.check(subject, random: .fromEnvironment())
        } catch {
            await subject.shutDown()
            throw error
        }
        await subject.shutDown()
    }

    private func checkThroughClient(
        _ clause: ConformanceClause, on engine: any StorageEngine, followsTenants: Bool = false
    ) async throws {
        try await TestServer.with(engine) { server in
            try await server.withClient { client in
                try await clause.check(
                    ClientSubject(client, followsTenants: followsTenants), random: .fromEnvironment())
            }
        }
    }

    private func checkOverGRPC(
        _ clause: ConformanceClause, on engine: any StorageEngine, followsTenants: Bool = false
    ) async throws {
        try await TestServer.with(engine) { server in
            try await GRPCPeer.with(server) { peer in
                try await clause.check(
                    EngineSubject(peer, followsTenants: followsTenants), random: .fromEnvironment())
            }
        }
    }

    @Test(arguments: ConformanceSuite.clauses)
    func sqliteOverGRPCKeeps(_ clause: ConformanceClause) async throws {
        let folder = try TemporaryFolder()
        try await checkOverGRPC(clause, on: SQLiteEngine(path: folder.path + "/m.db", logger: .silent))
    }

    @Test(arguments: ConformanceSuite.workersClauses)
    func theOracleOverGRPCKeepsOverManyTenants(_ clause: ConformanceClause) async throws {
        try await checkOverGRPC(clause, on: MemoryEngine(), followsTenants: true)
    }

    @Test(arguments: ConformanceSuite.clauses)
    func theOracleKeeps(_ clause: ConformanceClause) async throws { try await check(clause, on: MemoryEngine()) }

    @Test(arguments: ConformanceSuite.clauses)
    func sqliteKeeps(_ clause: ConformanceClause) async throws {
        let folder = try TemporaryFolder()
        try await check(clause, on: SQLiteEngine(path: folder.path + "/m.db", logger: .silent))
    }

    @Test(
        .enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"),
        arguments: ConformanceSuite.clauses)
    func postgreSQLKeeps(_ clause: ConformanceClause) async throws {
        try await check(clause, on: PostgreSQLEngine(#require(Self.database)))
    }

    @Test(arguments: ConformanceSuite.clauses)
    func sqliteThroughClientAndServerKeeps(_ clause: ConformanceClause) async throws {
        let folder = try TemporaryFolder()
        try await checkThroughClient(clause, on: SQLiteEngine(path: folder.path + "/m.db", logger: .silent))
    }

    @Test(
        .enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"),
        arguments: ConformanceSuite.clauses)
    func postgreSQLThroughClientAndServerKeeps(_ clause: ConformanceClause) async throws {
        try await checkThroughClient(clause, on: PostgreSQLEngine(#require(Self.database)))
    }

    @Test(arguments: ConformanceSuite.workersClauses)
    func theOracleKeepsOverManyTenants(_ clause: ConformanceClause) async throws {
        try await check(clause, on: MemoryEngine(), followsTenants: true)
    }

    @Test(arguments: ConformanceSuite.workersClauses)
    func sqliteThroughClientAndServerKeepsOverManyTenants(_ clause: ConformanceClause) async throws {
        let folder = try TemporaryFolder()
        let engine = SQLiteEngine(path: folder.path + "/m.db", logger: .silent)
        try await checkThroughClient(clause, on: engine, followsTenants: true)
    }

    @Test func clausesHaveNamesOfTheirOwn() {
        #expect(Set(ConformanceSuite.clauses.map(\.id)).count == ConformanceSuite.clauses.count)
    }
}

extension PostgreSQLEngine {
    convenience init(_ database: PostgresTestDatabase) {
        self.init(
            connectionString: database.url, schema: database.schema, writers: 2, readers: 1, logger: .silent)
    }
}
