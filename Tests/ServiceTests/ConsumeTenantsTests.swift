import FoundationEssentials
import MartletAccess
import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletTenants
import MartletTesting
import NIOCore
import Testing

@testable import MartletService

/// A worker that follows the consumers of one name of many tenants.
@Suite struct ConsumeTenantsTests {
    private let consumer: ConsumerName
    private let name: WorkerName

    init() throws {
        consumer = try #require(ConsumerName("balances"))
        name = try #require(WorkerName("w"))
    }

    private func tenant(_ number: UInt64) -> TenantID { TenantID(UUID(high: 7, low: number)) }

    private func put(
        _ tenant: TenantID, slots: Int = 2, named name: String = "balances", on bench: ConsumerBench
    ) throws {
        let id = ConsumerID(tenant: tenant, name: try #require(ConsumerName(name)))
        _ = try bench.answer(
            .putConsumer(PutConsumerRequest(id, ConsumerDefinition(slotCount: slots), expected: .any)))
    }

    private func append(_ payloads: [String], to tenant: TenantID, on bench: ConsumerBench) throws {
        let events = try payloads.map { try EncodedEvent.sample("\"\($0)\"") }
        let type = AggregateType("Account")
        let aggregate = AggregateName(type: type, id: UUID(high: 9, low: 1))
        _ = try bench.answer(.append(.of(events, to: aggregate, tenant: tenant)))
    }

    private func worker(
        _ bench: ConsumerBench, of tenants: Set<TenantID> = [], named name: WorkerName? = nil,
        creditBytes: UInt64 = 1 << 20, as principal: Principal = .anybody
    ) -> BenchTenantsWorker {
        let connection = BenchConnection(bench.service, bench.servers[0].loop, as: principal)
        let worker = BenchTenantsWorker(
            connection, ConsumeTenantsRequest(consumer, of: tenants, worker: name ?? self.name),
            creditBytes: creditBytes)
        bench.run()
        return worker
    }

    /// Lets time pass in which the worker says that it is there.
    private func advance(_ bench: ConsumerBench, _ time: TimeAmount, _ workers: BenchTenantsWorker...) {
        var left = time
        while left > .nanoseconds(0) {
            for worker in workers { worker.say(.alive) }
            bench.advance(min(left, .milliseconds(500)))
            left = left - min(left, .milliseconds(500))
        }
    }

    @Test func everyTenantThatHasTheConsumerIsWorkedOn() throws {
        let bench = try ConsumerBench()
        for number in 1...3 as ClosedRange<UInt64> {
            try put(tenant(number), on: bench)
            try append(["a\(number)", "b\(number)"], to: tenant(number), on: bench)
        }
        try put(tenant(4), named: "others", on: bench)
        let worker = worker(bench)
        let delivered = try worker.take()
        #expect(worker.joined == (1...3).map { tenant($0) })
        #expect(worker.slots.mapValues(\.count) == [tenant(1): 2, tenant(2): 2, tenant(3): 2])
        for number in 1...3 as ClosedRange<UInt64> {
            #expect(delivered.filter { $0.tenant == tenant(number) }.map(\.payload) == ["a\(number)", "b\(number)"])
        }
        #expect(delivered.map(\.delivery.number) == Array(1...6), "numbers count over the stream")

        worker.say(.acknowledge(6, upTo: true))
        advance(bench, .seconds(1), worker)
        _ = try worker.take()
        #expect(worker.committed == [tenant(1): Position(2), tenant(2): Position(2), tenant(3): Position(2)])
    }

    @Test func aSingleReplyIsAboutItsTenantAlone() throws {
        let bench = try ConsumerBench()
        for number in 1...2 as ClosedRange<UInt64> {
            try put(tenant(number), on: bench)
            try append(["x"], to: tenant(number), on: bench)
        }
        let worker = worker(bench)
        let delivered = try worker.take()
        let second = try #require(delivered.first { $0.tenant == tenant(2) })
        worker.acknowledge([second])
        advance(bench, .seconds(1), worker)
        _ = try worker.take()
        #expect(worker.committed == [tenant(2): Position(1)])
        worker.say(.acknowledge(9, upTo: false))
        #expect(worker.error?.reason == .neverDelivered)
    }

    @Test func aTenantThatGetsTheConsumerLaterIsJoined() throws {
        let bench = try ConsumerBench()
        let worker = worker(bench)
        _ = try worker.take()
        #expect(worker.joinings == 1 && worker.joined.isEmpty, "the stream has begun, with no tenant")
        try append(["x"], to: tenant(1), on: bench)
        try put(tenant(1), on: bench)
        advance(bench, ConsumeTenantsCall.lookEvery + .seconds(1), worker)
        #expect(try worker.take().map(\.payload) == ["x"])
        #expect(worker.joined == [tenant(1)] && worker.joinings == 2)
    }

    @Test func aConsumerThatIsDeletedLeavesTheOthersAlone() throws {
        let bench = try ConsumerBench()
        for number in 1...2 as ClosedRange<UInt64> {
            try put(tenant(number), on: bench)
            try append(["a"], to: tenant(number), on: bench)
        }
        let worker = worker(bench)
        let delivered = try worker.take()
        _ = try bench.answer(.deleteConsumer(ConsumerID(tenant: tenant(1), name: consumer)))
        advance(bench, .seconds(5), worker)
        try append(["b"], to: tenant(2), on: bench)
        bench.run()
        #expect(try worker.take().map(\.payload) == ["b"])
        #expect(worker.left == [tenant(1): [.consumerNotFound]])
        // What was delivered of it is no longer open, and that is no error.
        worker.acknowledge(delivered)
        #expect(worker.error == nil)

        try put(tenant(1), on: bench)
        advance(bench, .seconds(5), worker)
        #expect(try worker.take().filter { $0.tenant == tenant(1) }.map(\.payload) == ["a"])
        #expect(worker.joined == [tenant(1), tenant(2), tenant(1)])
    }

    /// The tenant with little to deliver has it after at most a turn of the one that has much.
    @Test func tenantsDeliverInTurn() throws {
        let bench = try ConsumerBench()
        let payload = String(repeating: "x", count: 1_000)
        for number in 1...3 as ClosedRange<UInt64> { try put(tenant(number), on: bench) }
        for _ in 0..<5 { try append(Array(repeating: payload, count: 200), to: tenant(1), on: bench) }
        try append(["second"], to: tenant(2), on: bench)
        let worker = worker(bench, creditBytes: 8 << 10)
        var bytes = 0
        var appendedAt: [TenantID: Int] = [tenant(2): 0]
        var waited: [TenantID: Int] = [:]
        for _ in 0..<200 where waited.count < 2 {
            let delivered = try worker.take()
            for one in delivered {
                bytes += one.event.event.payload.readableBytes
                if let start = appendedAt[one.tenant], waited[one.tenant] == nil { waited[one.tenant] = bytes - start }
            }
            worker.acknowledge(delivered)
            if bytes > 200_000, appendedAt[tenant(3)] == nil {
                appendedAt[tenant(3)] = bytes
                try append(["third"], to: tenant(3), on: bench)
            }
            worker.addCredit(8 << 10)
            bench.run()
        }
        #expect(waited.count == 2 && waited.values.allSatisfy { $0 <= 64 << 10 }, "\(waited)")
        #expect(bytes > 200_000, "the one with much goes on")
    }

    /// What needs much credit is not overtaken for ever by what needs little.
    @Test func whoWaitsForCreditKeepsItsPlace() throws {
        let bench = try ConsumerBench()
        for number in 1...2 as ClosedRange<UInt64> { try put(tenant(number), on: bench) }
        let worker = worker(bench, creditBytes: 2_000)
        try append([String(repeating: "x", count: 10_000)], to: tenant(1), on: bench)
        bench.run()
        _ = try worker.take()
        let wanted = try #require(worker.waitsForCredit[tenant(1)])
        for number in 0..<5 {
            try append(["small \(number)"], to: tenant(2), on: bench)
            worker.addCredit(1_000)
            bench.run()
            #expect(try worker.take().isEmpty, "credit is kept for the one that waits")
        }
        worker.addCredit(wanted)
        bench.run()
        let payloads = try worker.take().map(\.payload.utf8.count)
        #expect(payloads.first == 10_000, "\(payloads)")
        worker.addCredit(10_000)
        bench.run()
        #expect(try worker.take().count + payloads.count == 6)
    }

    @Test func aSocketThatTakesNothingHoldsAll() throws {
        let bench = try ConsumerBench()
        for number in 1...3 as ClosedRange<UInt64> { try put(tenant(number), on: bench) }
        let worker = worker(bench)
        _ = try worker.take()
        worker.connection.isWritable = false
        for number in 1...3 as ClosedRange<UInt64> { try append(["a"], to: tenant(number), on: bench) }
        bench.run()
        #expect(try worker.take().isEmpty)
        worker.connection.isWritable = true
        worker.connection.pump()
        bench.run()
        #expect(try worker.take().count == 3)
    }

    @Test func moreTenantsThanOneStreamFollowsEndIt() throws {
        let bench = try ConsumerBench { $0.tenantsPerStreamMax = 2 }
        for number in 1...2 as ClosedRange<UInt64> { try put(tenant(number), on: bench) }
        let worker = worker(bench)
        #expect(worker.error == nil)
        try put(tenant(3), on: bench)
        advance(bench, .seconds(3), worker)
        #expect(worker.error?.reason == .tooManyTenants && worker.error?.limit?.actual == 3)
        // Each stream with its own.
        let named = self.worker(bench, of: [tenant(1), tenant(3)])
        _ = try named.take()
        #expect(named.error == nil && Set(named.joined) == [tenant(1), tenant(3)])
    }

    @Test func aNewerStreamOfTheNameEndsTheOlderOne() throws {
        let bench = try ConsumerBench()
        for number in 1...2 as ClosedRange<UInt64> { try put(tenant(number), on: bench) }
        let old = worker(bench)
        let new = worker(bench)
        advance(bench, .seconds(2), new)
        _ = try new.take()
        #expect(old.error?.reason == .workerReplaced)
        #expect(new.error == nil && new.slots.mapValues(\.count) == [tenant(1): 2, tenant(2): 2])
    }

    @Test func twoWorkersShareTheSlotsOfEachTenant() throws {
        let bench = try ConsumerBench()
        for number in 1...2 as ClosedRange<UInt64> { try put(tenant(number), slots: 4, on: bench) }
        let first = worker(bench)
        let second = worker(bench, named: WorkerName("other"))
        advance(bench, .seconds(5), first, second)
        _ = (try first.take(), try second.take())
        for number in 1...2 as ClosedRange<UInt64> {
            let slots = [first, second].map { $0.slots[tenant(number), default: [:]].keys }
            #expect(slots.map(\.count) == [2, 2] && Set(slots.joined()).count == 4)
        }
    }

    @Test func aSilentWorkerLosesItsStream() throws {
        let bench = try ConsumerBench()
        try put(tenant(1), on: bench)
        let busy = worker(bench)
        let idle = worker(bench, of: [tenant(5)], named: WorkerName("idle"))
        bench.advance(.seconds(8))
        #expect(busy.error?.reason == .workerSilent)
        #expect(idle.error?.reason == .workerSilent, "also one without any tenant")
    }

    @Test func onlyTenantsOfThePrincipalAreFollowed() throws {
        let bench = try ConsumerBench()
        for number in 1...3 as ClosedRange<UInt64> { try put(tenant(number), on: bench) }
        let principal = Principal(identity: "two", tenants: .only([tenant(1), tenant(3)]))
        let worker = worker(bench, as: principal)
        _ = try worker.take()
        #expect(Set(worker.joined) == [tenant(1), tenant(3)])
        let refused = self.worker(bench, of: [tenant(1), tenant(2)], named: WorkerName("no"), as: principal)
        #expect(refused.error?.reason == .tenantNotAllowed)
    }

    /// What the server does for itself, such as looking for schedules that are due, does not wait for such streams.
    @Test func nothingIsOnTheServersOwnAccount() throws {
        let bench = try ConsumerBench()
        for number in 1...3 as ClosedRange<UInt64> { try put(tenant(number), on: bench) }
        let pool = bench.service.pools.calls
        let before = pool.bytes(of: .tenant(tenant(2)))
        let named = worker(bench, of: [tenant(3), tenant(2)])
        let anybody = worker(bench, named: WorkerName("other"))
        let principal = Principal(identity: "one", tenants: .only([tenant(3)]))
        let one = worker(bench, named: WorkerName("third"), as: principal)
        #expect([named, anybody, one].allSatisfy { $0.error == nil })
        #expect(pool.bytes(of: .tenant(EventStore.serverOwner)) == 0)
        #expect(pool.bytes(of: .tenant(tenant(2))) > before + 2 * CallRequest.workerStateBytes, "the smallest one's")
    }

    /// A tenant whose account is full is left, and joined when there is room, while others go on.
    @Test func aTenantWithoutRoomIsTriedAgain() throws {
        let bench = try ConsumerBench()
        for number in 1...2 as ClosedRange<UInt64> {
            try put(tenant(number), on: bench)
            try append(["a"], to: tenant(number), on: bench)
        }
        let pool = bench.service.pools.calls
        var taken = 0
        while pool.take(1_024, for: .tenant(tenant(1))) { taken += 1_024 }
        let worker = worker(bench)
        advance(bench, .seconds(3), worker)
        #expect(try worker.take().map(\.tenant) == [tenant(2)])
        #expect(worker.left[tenant(1)]?.allSatisfy { $0 == .tooManyCalls } == true)
        let before = try #require(worker.left[tenant(1)]).count
        #expect(before <= 3, "it waits longer each time")
        pool.give(taken, for: .tenant(tenant(1)))
        advance(bench, .seconds(10), worker)
        #expect(try worker.take().map(\.tenant) == [tenant(1)])
    }

    /// Ten streams over 100 tenants that are cancelled at once leave nothing behind.
    @Test func nothingIsHeldAfterwards() throws {
        let bench = try ConsumerBench()
        for number in 1...100 as ClosedRange<UInt64> { try put(tenant(number), slots: 1, on: bench) }
        let before = bench.service.pools.calls.bytes
        let workers = (0..<10).map { worker(bench, named: WorkerName("w\($0)")) }
        for worker in workers { _ = try worker.take() }
        #expect(workers.allSatisfy { $0.joined.count == 100 })
        #expect(bench.service.pools.calls.bytes >= before + 1_000 * CallRequest.workerStateBytes)
        for worker in workers { worker.cancel() }
        bench.run()
        #expect(bench.service.pools.calls.bytes == before)
        bench.advance(.seconds(5))
        let id = ConsumerID(tenant: tenant(100), name: consumer)
        guard case .consumer(let description) = try bench.answer(.getConsumer(id)) else {
            throw ConsumerBench.Unexpected()
        }
        #expect(description.workers.isEmpty)
    }
}
