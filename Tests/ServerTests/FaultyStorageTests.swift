import FoundationEssentials
import MartletClient
import MartletModel
import MartletStorageMemory
import MartletTLSOpenSSL
import MartletTesting
import NIOCore
import Testing

/// Storage that fails: clear retryable errors, recovery without a restart, nothing acknowledged that is not stored.
@Suite struct FaultyStorageTests {
    private struct Bench: Sendable {
        let client: MartletClient
        let engine: FaultyEngine
        let tenant = TenantID(UUID())
        let name: AggregateName
        let kind: EventType

        func append(_ id: UUID = .v7(), timeout: Duration? = nil) async throws(MartletError) -> AppendReceipt {
            let event = NewEvent(id: id, type: kind, payload: ByteBuffer(string: "1"))
            return try await client.append(
                [NewAggregateEvents(aggregate: name, expected: .any, events: [event])], tenant: tenant, timeout: timeout
            )
        }
    }

    private func withBench(
        retryFor budget: Duration, _ body: @escaping @Sendable (Bench) async throws -> Void
    ) async throws {
        let engine = FaultyEngine(MemoryEngine())
        try await TestServer.with(engine) { server in
            var configuration = server.clientConfiguration
            configuration.retryBudget = budget
            try await MartletClient.withClient(configuration, logger: .silent) { client in
                try await body(
                    Bench(
                        client: client, engine: engine,
                        name: AggregateName(type: AggregateType("t"), id: UUID()),
                        kind: EventType("E")))
            }
        }
    }

    @Test(arguments: [
        (FaultyEngine.CommitFault.unavailable, Reason.storageUnavailable), (.full, .storageFull),
        (.unknownAfterCommit, .outcomeUnknown), (.unknownWithoutCommit, .outcomeUnknown),
    ])
    func failuresAreToldAndRetryable(_ fault: FaultyEngine.CommitFault, _ reason: Reason) async throws {
        try await withBench(retryFor: .zero) { bench in
            let id = UUID.v7()
            bench.engine.failCommits(fault, count: 1)
            let error = await #expect(throws: MartletError.self) { try await bench.append(id) }
            #expect(error?.reason == reason && error?.isRetryable == true)
            // The same call again, without a restart.
            let receipt = try await bench.append(id)
            #expect(receipt.replayed == (fault == .unknownAfterCommit))
            #expect(try await bench.client.head(of: bench.tenant).position == Position(1))
        }
    }

    @Test func theClientRetriesUntilStorageIsBack() async throws {
        try await withBench(retryFor: .seconds(20)) { bench in
            for fault: FaultyEngine.CommitFault in [.unavailable, .full, .unknownAfterCommit, .unknownWithoutCommit] {
                bench.engine.failCommits(fault, count: 3)
                _ = try await bench.append()
            }
            #expect(try await bench.client.head(of: bench.tenant).position == Position(4))
        }
    }

    @Test func readsFailAndComeBack() async throws {
        try await withBench(retryFor: .zero) { bench in
            _ = try await bench.append()
            bench.engine.failReads(true)
            let error = await #expect(throws: MartletError.self) { try await bench.client.head(of: bench.tenant) }
            #expect(error?.reason == .storageUnavailable && error?.isRetryable == true)
            let status = try await bench.client.status()
            #expect(!status.storageReady && !status.storageMessage.isEmpty)
            bench.engine.failReads(false)
            #expect(try await bench.client.status().storageReady)
            #expect(try await bench.client.head(of: bench.tenant).position == Position(1))
        }
    }

    /// The command's exit code says it to a script.
    @Test func statusFailsWhileStorageDoes() async throws {
        let engine = FaultyEngine(MemoryEngine())
        try await TestServer.with(engine) { server in
            let configuration = server.clientConfiguration
            let settings = [
                "MARTLET_SERVER": "\(configuration.host):\(configuration.port)",
                "MARTLET_CA": configuration.tls.caFile ?? "",
            ]
            engine.failReads(true)
            let failed = try await Binary.run(["status"], environment: settings)
            #expect(failed.code == 4 && failed.output.contains(#""storage_ready":false"#), "\(failed)")
            #expect(failed.errors.contains("the server answers, and its storage does not"), "\(failed)")
            engine.failReads(false)
            #expect(try await Binary.run(["status"], environment: settings).code == 0)
        }
    }

    @Test func subscriptionsOutliveAStorageFailure() async throws {
        try await withBench(retryFor: .seconds(20)) { bench in
            for _ in 0..<3 { _ = try await bench.append() }
            bench.engine.failReads(true)
            let before = bench.engine.asked
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    // Once the subscription has met the failure.
                    while bench.engine.asked == before { try await Task.sleep(for: .milliseconds(1)) }
                    bench.engine.failReads(false)
                }
                group.addTask {
                    var positions: [UInt64] = []
                    for try await item in bench.client.subscribe(SubscribeRequest(tenant: bench.tenant)) {
                        if case .events(let events, _) = item { positions += events.map(\.position.rawValue) }
                        if positions.count == 3 { break }
                    }
                    #expect(positions == [1, 2, 3])
                }
                try await group.waitForAll()
            }
        }
    }
}
