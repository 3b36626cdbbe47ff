import FoundationEssentials
import MartletModel
import MartletStorage
import MartletTesting
import MartletStorageMemory
import Logging
import MartletClient
import Testing

@testable import MartletLoadTesting

/// Every workload against a server in this process.
@Suite struct WorkloadTests {
    private func settings(clients: Int = 4, connections: Int? = 2, seconds: Double = 0.4) -> RunSettings {
        var settings = RunSettings()
        settings.clients = clients
        settings.connections = connections
        settings.payloadBytes = 100
        settings.warmupSeconds = 0.1
        settings.seconds = seconds
        return settings
    }

    private func run(
        _ engine: any StorageEngine = MemoryEngine(), limits: Limits = Limits(),
        _ body: @escaping @Sendable (BenchTarget) async throws -> RunReport
    ) async throws -> RunReport {
        try await TestServer.with(engine, limits: limits) { server in
            try await body(BenchTarget(server.clientConfiguration, logger: .silent))
        }
    }

    @Test func appends() async throws {
        var workload = AppendWorkload(settings())
        workload.batch = 3
        workload.tenants = 2
        let report = try await run { [workload] in try await workload.run($0) }
        #expect(report.failures == [])
        #expect(report.calls > 0)
        #expect(report.events == report.calls * 3)
        #expect(report.latency.count == report.calls)
        #expect(report.verified["stored"] == report.verified["appended"])
        #expect(report.verified["readBack"] == report.verified["stored"])
        #expect(try #require(report.verified["stored"]) > report.events, "warm-up is counted back, and not measured")
        #expect(report.server.version == "test")
        #expect(report.serverMemoryBytes.before > 0)
        #expect(report.serverMemoryBytes.peak >= report.serverMemoryBytes.before)
        #expect(report.clientCPUSeconds > 0)
        #expect(report.serverCPUSeconds > 0)
    }

    @Test func appendsToSharedAggregates() async throws {
        var workload = AppendWorkload(settings())
        workload.aggregates = 5
        let report = try await run { [workload] in try await workload.run($0) }
        #expect(report.failures == [])
        #expect(report.errors == [:])
        #expect(report.calls > 0)
        #expect(report.verified["stored"] == report.verified["appended"])
        #expect(try #require(report.verified["stored"]) > report.events, "warm-up is counted back, and not measured")
        let seed = try #require(report.seed)
        #expect(report.text.contains("seed \(seed)"))
    }

    @Test func appendsToTenantsAtRandom() async throws {
        let first = TenantID(UUID())
        var workload = AppendWorkload(settings())
        workload.settings.tenant = first
        workload.tenants = 30
        workload.aggregates = 3
        workload.batch = 2
        workload.seed = 7
        let report = try await TestServer.with(MemoryEngine()) { [workload] server in
            let report = try await workload.run(BenchTarget(server.clientConfiguration, logger: .silent))
            let heads = try await server.withClient { client in
                var heads: [UInt64] = []
                // Four clients that each stay with a tenant would reach four.
                for tenant in RunTenants(first, count: 31).all {
                    heads.append(try await client.head(of: tenant).position.rawValue)
                }
                return heads
            }
            #expect(heads.prefix(30).filter { $0 > 0 }.count > 4, "\(heads)")
            #expect(heads[30] == 0, "beyond the last tenant")
            #expect(heads.reduce(0, +) == report.verified["stored"])
            return report
        }
        #expect(report.failures == [])
        #expect(report.errors == [:])
        #expect(report.seed == 7)
        #expect(report.events == report.calls * 2)
        #expect(report.verified["readBack"] == report.verified["stored"])
    }

    @Test func fillsEveryAggregateOfEveryTenantFirst() async throws {
        let first = TenantID(UUID())
        var workload = AppendWorkload(settings())
        workload.settings.tenant = first
        workload.tenants = 6
        // More than fit into two appends of 100 aggregates.
        workload.aggregates = 205
        workload.fills = true
        let report = try await TestServer.with(MemoryEngine()) { [workload] server in
            let report = try await workload.run(BenchTarget(server.clientConfiguration, logger: .silent))
            let filled = try await server.withClient { client in
                var filled: [Set<AggregateName>] = []
                for tenant in RunTenants(first, count: 6).all {
                    let request = ReadRequest(tenant: tenant, target: .position(Position(205)), upcasting: .raw)
                    filled.append(
                        try await client.read(request).reduce(into: Set<AggregateName>()) { $0.insert($1.aggregate) })
                }
                return filled
            }
            #expect(filled == Array(repeating: Set((0..<205).map { BenchNames.aggregate(numbered: $0) }), count: 6))
            return report
        }
        #expect(report.failures == [])
        #expect(report.errors == [:])
        #expect(report.verified["stored"] == report.verified["appended"], "what was filled is not counted back")
    }

    @Test func choosesTheSameWithTheSameSeed() {
        var workload = AppendWorkload(settings(clients: 4))
        workload.aggregates = 1_000
        func chosen(tenants: Int, client: Int, seed: UInt64) -> [[Int]] {
            let choices = workload.choices(of: client, among: RunTenants(nil, count: tenants))
            var random = FastRandom(seed: seed, stream: UInt64(client))
            return (0..<2_000).map { _ in
                let (tenant, aggregate) = choices.next(using: &random)
                return [tenant, aggregate]
            }
        }
        let many = chosen(tenants: 200_000, client: 1, seed: 3)
        #expect(many == chosen(tenants: 200_000, client: 1, seed: 3))
        #expect(many != chosen(tenants: 200_000, client: 1, seed: 4))
        #expect(many != chosen(tenants: 200_000, client: 2, seed: 3))
        for (place, most) in [200_000, 1_000].enumerated() {
            let numbers = many.map { $0[place] }
            #expect(numbers.allSatisfy { (0..<most).contains($0) })
            for tenth in 0..<10 {
                let share = numbers.count { $0 * 10 / most == tenth }
                // 200 expected; six standard deviations are 80.
                #expect((120...280).contains(share), "\(share) of 2,000 in tenth \(tenth)")
            }
        }
        #expect(Set(chosen(tenants: 4, client: 6, seed: 3).map { $0[0] }) == [2], "a share of the clients each")
        #expect(Set(chosen(tenants: 5, client: 3, seed: 3).map { $0[0] }) == [0, 1, 2, 3, 4])
    }

    @Test func countsBackASampleOfManyTenants() {
        let few = TenantTally(RunTenants(nil, count: 1_000))
        few.add(acknowledged: 3, tenant: 999)
        #expect(few.tenants.count == 1_000 && few.acknowledged[999] == 3)
        let all = RunTenants(nil, count: 200_001)
        let many = TenantTally(all)
        #expect((900...1_000).contains(many.tenants.count))
        #expect(many.tenants[2] == all[402])
        for tenant in 0..<all.count { many.add(acknowledged: 2, tenant: tenant) }
        many.add(unknown: 5, tenant: 402)
        many.add(unknown: 5, tenant: 403)
        #expect(many.acknowledged == Array(repeating: 2, count: many.tenants.count))
        #expect(many.unknown.reduce(0, +) == 5 && many.unknown[2] == 5)
    }

    @Test func loads() async throws {
        var workload = LoadWorkload(settings())
        workload.aggregates = 3
        workload.events = 7
        let report = try await run { [workload] in try await workload.run($0) }
        #expect(report.failures == [])
        #expect(report.errors == [:])
        #expect(report.calls > 0)
        #expect(report.events == report.calls * 7)
    }

    @Test func reads() async throws {
        var workload = ReadWorkload(settings(clients: 2))
        workload.history = 1_500
        let report = try await run { [workload] in try await workload.run($0) }
        #expect(report.failures == [])
        #expect(report.errors == [:])
        #expect(report.calls > 0)
        #expect(report.events == report.calls * 1_500)
    }

    @Test func deliversToSubscribers() async throws {
        var workload = SubscribeWorkload(settings(connections: 3))
        workload.subscribers = 20
        workload.batch = 5
        workload.eventsPerSecond = 500
        let report = try await run { [workload] in try await workload.run($0) }
        #expect(report.failures == [])
        #expect(report.verified["subscribersComplete"] == 20)
        let stored = try #require(report.verified["stored"])
        #expect(report.verified["delivered"] == stored * 20)
        #expect(report.deliveries > 0)
        #expect(report.deliveryLatency?.count == report.deliveries)
    }

    @Test func deliversThroughAFilter() async throws {
        var workload = SubscribeWorkload(settings())
        workload.subscribers = 4
        workload.batch = 20
        workload.eventsPerSecond = 1_000
        workload.filter = EventFilter(
            aggregateTypes: [BenchNames.aggregateTypes[1], BenchNames.aggregateTypes[2]],
            eventTypes: [BenchNames.eventTypes[3]])
        let report = try await run { [workload] in try await workload.run($0) }
        #expect(report.failures == [])
        let stored = try #require(report.verified["stored"])
        let delivered = try #require(report.verified["toEachSubscriber"])
        // Two of four writers write such aggregates, and a tenth of their events is of that type.
        #expect(delivered > 0 && delivered <= stored * 7 / 100, "\(delivered) of \(stored)")
    }

    @Test func deliversThroughAnUpcaster() async throws {
        var workload = SubscribeWorkload(settings())
        workload.subscribers = 4
        workload.eventsPerSecond = 200
        workload.upcastSteps = 5
        let tenant = TenantID(UUID())
        workload.settings.tenant = tenant
        _ = try await run { [workload] target in
            let report = try await workload.run(target)
            #expect(report.failures == [])
            let stored = try #require(report.verified["stored"])
            #expect(stored > 0 && report.verified["delivered"] == stored * 4)
            let versions = try await target.withClients(1) { clients in
                try await clients[0].read(ReadRequest(tenant: tenant)).reduce(into: Set<UInt32>()) {
                    $0.insert($1.event.schemaVersion)
                }
            }
            #expect(versions == [6])
            return report
        }
    }

    @Test func catchesUp() async throws {
        var workload = CatchUpWorkload(settings())
        workload.subscribers = 3
        workload.history = 2_500
        let report = try await run { [workload] in try await workload.run($0) }
        #expect(report.failures == [])
        #expect(report.calls == 3)
        #expect(report.deliveries == 7_500)
    }

    @Test func mixes() async throws {
        var workload = MixedWorkload(settings())
        workload.aggregates = 3
        workload.events = 10
        workload.subscribers = 2
        let report = try await run { [workload] in try await workload.run($0) }
        #expect(report.failures == [])
        #expect(report.errors == [:])
        let shares = try #require(report.shares)
        #expect(Set(shares.keys) == ["append", "load"])
        #expect(report.verified["subscribersComplete"] == 2)
    }

    @Test func goesOnAfterErrorsAndNamesThem() async throws {
        let engine = FaultyEngine(MemoryEngine())
        engine.failCommits(.unknownAfterCommit, count: 5)
        let report = try await run(engine) { target in
            var settings = RunSettings()
            settings.clients = 1
            settings.warmupSeconds = 0
            settings.seconds = 0.5
            return try await AppendWorkload(settings).run(target)
        }
        #expect(report.errors == ["OUTCOME_UNKNOWN": 5])
        #expect(report.calls > 0)
        // Stored and never acknowledged: that is allowed, and told.
        #expect(report.failures == [])
        #expect(report.verified["outcomeUnknown"] == 5)
        #expect(report.verified["stored"] == report.verified["appended"].map { $0 + 5 })
    }

    @Test func refusesWhatTheServerDoesNotTake() async throws {
        var workload = AppendWorkload(settings())
        workload.batch = 1_001
        await #expect(throws: BenchFailure("--batch is 1001, but the server accepts at most 1000 events per append")) {
            _ = try await run { [workload] in try await workload.run($0) }
        }
        workload.batch = 0
        await #expect(throws: BenchFailure("--batch is 0: give 1 to 100000")) {
            _ = try await run { [workload] in try await workload.run($0) }
        }
        workload.batch = 1
        workload.tenants = 5
        await #expect(
            throws: BenchFailure(
                "--tenants is 5 and --clients 4: with more tenants than clients each append goes to a tenant at random, "
                    + "which takes --aggregates: give 1 or more, or as many clients as tenants")
        ) { _ = try await run { [workload] in try await workload.run($0) } }
        workload.tenants = 1_000_001
        await #expect(throws: BenchFailure("--tenants is 1000001: give 1 to 1000000")) {
            _ = try await run { [workload] in try await workload.run($0) }
        }
        workload.tenants = 2_000
        workload.aggregates = 10_000
        workload.fills = true
        await #expect(
            throws: BenchFailure(
                "--fill would write 20000000 events, one to each of --aggregates 10000 of each of --tenants 2000: give "
                    + "fewer of them, at most 10000000 in all")
        ) { _ = try await run { [workload] in try await workload.run($0) } }
        workload.tenants = 1
        workload.aggregates = 0
        await #expect(throws: BenchFailure("--fill writes to --aggregates, which is 0: give 1 to 10000000 of them")) {
            _ = try await run { [workload] in try await workload.run($0) }
        }
        workload.fills = false
        workload.seed = 1
        await #expect(
            throws: BenchFailure("--seed chooses among --aggregates, which is 0: give 1 to 10000000, or no --seed")
        ) { _ = try await run { [workload] in try await workload.run($0) } }
        var subscribe = SubscribeWorkload(settings())
        subscribe.filter.eventTypes = [BenchNames.eventType]
        await #expect(throws: BenchFailure.self) { _ = try await run { [subscribe] in try await subscribe.run($0) } }
    }
}
