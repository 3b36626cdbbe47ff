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
        var subscribe = SubscribeWorkload(settings())
        subscribe.filter.eventTypes = [BenchNames.eventType]
        await #expect(throws: BenchFailure.self) { _ = try await run { [subscribe] in try await subscribe.run($0) } }
    }
}
