import FoundationEssentials
import MartletModel
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import MartletClient

/// Workers of many tenants' consumers against the real server, over TLS.
@Suite(.timeLimit(.minutes(2))) struct TenantsConsumptionTests {
    private let tenants = (1...3).map { Sample.tenant($0) }

    private func id(_ tenant: TenantID) throws -> ConsumerID {
        ConsumerID(tenant: tenant, name: try Sample.consumer().name)
    }

    private func put(
        _ tenant: TenantID, _ client: MartletClient, _ definition: ConsumerDefinition = Sample.definition()
    ) async throws {
        try await client.putConsumer(PutConsumerRequest(try id(tenant), definition))
    }

    private func fill(_ tenant: TenantID, _ count: Int, _ client: MartletClient) async throws {
        for index in 0..<UInt64(count) {
            _ = try await client.append(
                [Sample.event()], to: try Sample.aggregate(1 + index % 6), expecting: .any, tenant: tenant)
        }
    }

    /// Waits until the consumer of a tenant is done with all that there is.
    private func settled(_ tenant: TenantID, _ client: MartletClient) async throws {
        let head = try await client.head(of: tenant).position
        #expect(try await client.awaitConsumer(try id(tenant), position: head, timeout: .seconds(30)) >= head)
    }

    private func withServer(
        tenantsMax: Int = 1_000, _ body: @escaping @Sendable (TestServer, MartletClient) async throws -> Void
    ) async throws {
        var limits = Limits()
        limits.consumerLeaseMillis = 1_500
        limits.tenantsPerStreamMax = tenantsMax
        try await TestServer.with(MemoryEngine(), limits: limits) { server in
            try await server.withClient { client in try await body(server, client) }
        }
    }

    /// What comes of each key of a tenant is in order and without a gap; what comes again on a later stream starts no later
    /// than where the key was.
    private func expectOrder(_ taken: [TenantsWorker.Taken]) {
        struct Key: Hashable {
            var tenant: TenantID
            var aggregate: AggregateName
        }
        var versions: [Key: (stream: UInt64, version: UInt64)] = [:]
        for (tenant, consumed) in taken.map({ ($0.tenant, $0.event) }) {
            let key = Key(tenant: tenant, aggregate: consumed.event.aggregate)
            let version = consumed.event.version.rawValue
            let last = versions[key] ?? (0, 0)
            if last.stream == consumed.delivery.stream {
                #expect(version == last.version + 1)
            } else {
                #expect(version <= last.version + 1)
            }
            versions[key] = (consumed.delivery.stream, version)
        }
    }

    @Test func aWorkerGetsEverythingOfEachTenantAndGoesOnAfterALostConnection() async throws {
        try await withServer { server, other in
            for tenant in tenants {
                try await put(tenant, other)
                try await fill(tenant, 30, other)
            }
            let proxy = try await ChoppingProxy.start(to: server.port)
            try await MartletClient.withClient(server.clientConfiguration(port: proxy.port)) { client in
                let worker = TenantsWorker(client.consume(try Sample.work(of: [])))
                let first = try await worker.take(90)
                for tenant in tenants { #expect(first.of(tenant).positions.sorted() == Array(1...30)) }
                expectOrder(first)
                #expect(first.map(\.event.delivery.number) == Array(1...90), "numbers count over the whole stream")
                // All of the first tenant, and the first event of each key of another one.
                for event in first.of(tenants[0]) { worker.consumption.acknowledge(event.delivery) }
                for event in first.of(tenants[1]) where event.event.version == Version(1) {
                    worker.consumption.acknowledge(event.delivery)
                }
                try await settled(tenants[0], other)
                let epochs = await worker.epochs
                proxy.chop()
                while await worker.revocations.count < 3 { try await worker.next() }
                #expect(await worker.revocations.values.allSatisfy { $0 == [[0, 1, 2, 3]] })
                try await worker.hold(slots: 4, of: tenants)
                for (tenant, slots) in await worker.epochs {
                    for (slot, epoch) in slots { #expect(epoch > epochs[tenant]?[slot] ?? 0) }
                }
                try await fill(tenants[2], 1, other)
                var second: [TenantsWorker.Taken] = []
                while !Set(7...30).isSubset(of: second.of(tenants[1]).positions)
                    || !Set(1...31).isSubset(of: second.of(tenants[2]).positions)
                { second += try await worker.take(1) }
                #expect(second.of(tenants[0]).isEmpty, "all of it is settled")
                expectOrder(first + second)
                if let last = second.last { worker.consumption.acknowledge(upTo: last.event.delivery) }
                for tenant in tenants { try await settled(tenant, other) }
            }
            await proxy.stop()
        }
    }

    @Test func aTenantIsJoinedWhenItGetsItsConsumerAndLeftWhenItLosesIt() async throws {
        try await withServer { _, client in
            let worker = TenantsWorker(client.consume(try Sample.work(of: [])))
            #expect(try await worker.next() == .joined([]))
            try await put(tenants[0], client)
            try await fill(tenants[0], 2, client)
            let first = try await worker.take(2)
            #expect(first.allSatisfy { $0.tenant == tenants[0] })
            try await put(tenants[1], client)
            try await worker.hold(slots: 4, of: [tenants[0], tenants[1]])
            let epochs = await worker.epochs[tenants[1]] ?? [:]
            try await client.deleteConsumer(try id(tenants[1]))
            try await worker.leave(tenants[1])
            #expect(await worker.left[tenants[1]]?.reason == .consumerNotFound)
            #expect(await worker.epochs.keys.elementsEqual([tenants[0]]), "the other one is still there")
            try await put(tenants[1], client)
            try await fill(tenants[1], 1, client)
            let again = try await worker.take(1)
            #expect(again[0].tenant == tenants[1])
            #expect(again[0].event.epoch > epochs[again[0].event.slot] ?? .max)
            for taken in first + again { worker.consumption.acknowledge(taken.event.delivery) }
            for tenant in tenants[0...1] { try await settled(tenant, client) }
        }
    }

    @Test func onlyTheTenantsThatWereNamedAreJoined() async throws {
        try await withServer { _, client in
            for tenant in tenants {
                try await put(tenant, client)
                try await fill(tenant, 3, client)
            }
            let worker = TenantsWorker(client.consume(try Sample.work(of: [tenants[0], tenants[2]])))
            let events = try await worker.take(6)
            #expect(Set(events.map(\.tenant)) == [tenants[0], tenants[2]])
            #expect(await Set(worker.epochs.keys) == [tenants[0], tenants[2]])
        }
    }

    @Test func workersOfOneTenantAndOfAllShareItsSlots() async throws {
        try await withServer { _, client in
            for tenant in tenants { try await put(tenant, client) }
            let all = TenantsWorker(client.consume(try Sample.work("all", of: [])))
            try await all.hold(slots: 4, of: tenants)
            let one = TestWorker(
                client.consume(ConsumeRequest(try id(tenants[1]), worker: try Sample.work("one").worker)))
            async let gotSome: Void = one.hold(slots: 2)
            while await all.epochs[tenants[1]]?.count != 2 { try await all.next() }
            try await gotSome
            #expect(await all.epochs[tenants[0]]?.count == 4)
            let slots = await (all.epochs[tenants[1]]?.keys.sorted() ?? [], one.epochs.keys.sorted())
            #expect((slots.0 + slots.1).sorted() == [0, 1, 2, 3])
        }
    }

    @Test func aNewerStreamOfTheSameNameEndsAnOlderOne() async throws {
        try await withServer { _, client in
            for tenant in tenants { try await put(tenant, client) }
            let first = TenantsWorker(client.consume(try Sample.work(of: [])))
            try await first.hold(slots: 4, of: tenants)
            let second = TenantsWorker(client.consume(try Sample.work(of: [])))
            try await second.hold(slots: 4, of: tenants)
            let end = await failure { while try await first.next() != nil {} }
            #expect(end?.reason == .workerReplaced)
            #expect(try await first.next() == nil)
        }
    }

    @Test func moreTenantsThanAStreamFollowsAreRefused() async throws {
        try await withServer(tenantsMax: 2) { _, client in
            for tenant in tenants { try await put(tenant, client) }
            let worker = TenantsWorker(client.consume(try Sample.work(of: [])))
            let end = await failure { while try await worker.next() != nil {} }
            #expect(end?.reason == .tooManyTenants && end?.isRetryable == false, "\(end as Any)")
            let some = TenantsWorker(client.consume(try Sample.work(of: Set(tenants.prefix(2)))))
            try await some.hold(slots: 4, of: Array(tenants.prefix(2)))
        }
    }

    @Test func aRejectedEventHoldsUpItsKeyAlone() async throws {
        try await withServer { _, client in
            for tenant in tenants {
                try await put(tenant, client)
                try await fill(tenant, 12, client)
            }
            let worker = TenantsWorker(client.consume(try Sample.work(of: [])))
            var isRejected = false
            for taken in try await worker.take(36) {
                // The same aggregate is another key in each tenant.
                if taken.tenant == tenants[1], taken.event.event.position == Position(1) {
                    worker.consumption.reject(taken.event.delivery, .park, reason: "bad")
                    isRejected = true
                } else {
                    worker.consumption.acknowledge(taken.event.delivery)
                }
            }
            #expect(isRejected)
            for tenant in tenants { try await settled(tenant, client) }
            for tenant in tenants {
                let blocked = try await client.blockedKeys(of: try id(tenant))
                #expect(blocked.map(\.blocked.first.position) == (tenant == tenants[1] ? [Position(1)] : []))
            }
        }
    }

    @Test(arguments: [1, 2_000]) func aSmallWindowIsSharedByAllTenants(windowBytes: Int) async throws {
        try await withServer { _, client in
            for tenant in tenants {
                try await put(tenant, client)
                try await fill(tenant, 60, client)
            }
            let consumption = client.consume(try Sample.work(of: []), windowBytes: windowBytes)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for try await item in consumption {
                        guard case .of(_, .events(let events)) = item else { continue }
                        for event in events { consumption.acknowledge(event.delivery) }
                    }
                }
                for tenant in tenants { try await settled(tenant, client) }
                group.cancelAll()
            }
        }
    }
}
