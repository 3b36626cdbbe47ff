import MartletClient
import MartletModel
import MartletStorageMemory
import MartletStoragePostgreSQL
import MartletStorageSQLite
import MartletTesting
import Testing

@Suite(.serialized) struct FollowRaceTests {
    @Test func subscribersOnSQLiteReceiveExactlyWhatMatches() async throws {
        let folder = try TemporaryFolder()
        let random = SeededGenerator.fromEnvironment()
        try await TestServer.with(SQLiteEngine(path: folder.path + "/m.db", logger: .silent)) { server in
            try await server.withClient { client in try await FollowRace(seed: random.seed).run([client]) }
        }
    }

    @Test func slowSubscribersFallBackToStorageAndMissNothing() async throws {
        let random = SeededGenerator.fromEnvironment()
        var limits = Limits()
        // A tail that holds a few events only: every subscriber falls behind again and again.
        limits.tailBytesPerTenantMax = 4_096
        try await TestServer.with(MemoryEngine(), limits: limits) { server in
            try await server.withClient { client in try await FollowRace(seed: random.seed).run([client]) }
        }
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func subscribersOnPostgreSQLReceiveExactlyWhatMatches() async throws {
        let database = try PostgresTestDatabase()
        let random = SeededGenerator.fromEnvironment()
        try await TestServer.with(PostgreSQLEngine(database)) { server in
            try await server.withClient { client in try await FollowRace(seed: random.seed).run([client]) }
        }
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func twoServersOnOneDatabaseServeOneTenant() async throws {
        let database = try PostgresTestDatabase()
        let random = SeededGenerator.fromEnvironment()
        try await TestServer.with(PostgreSQLEngine(database)) { first in
            try await TestServer.with(PostgreSQLEngine(database)) { second in
                try await first.withClient { one in
                    try await second.withClient { two in try await FollowRace(seed: random.seed).run([one, two]) }
                }
            }
        }
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func whatOneServerAppendsComesPromptlyFromTheOther() async throws {
        let database = try PostgresTestDatabase()
        try await TestServer.with(PostgreSQLEngine(database)) { first in
            try await TestServer.with(PostgreSQLEngine(database)) { second in
                try await first.withClient { one in
                    try await second.withClient { two in
                        let median = try await CrossServerWake(rounds: 20).median(from: one, to: two)
                        // Polling alone would take half a second on average. One may be late: the machine may be busy.
                        #expect(median < .milliseconds(250), "half of the deliveries took \(median) or more")
                    }
                }
            }
        }
    }
}

extension PostgreSQLEngine {
    convenience init(_ database: PostgresTestDatabase) {
        self.init(connectionString: database.url, schema: database.schema, logger: .silent)
    }
}
