import FoundationEssentials
import MartletModel
import MartletTesting
import MetricsTestKit
import NIOCore
import Testing

@testable import MartletService

/// What the metrics tell of consumers, after what is known to have happened.
@Suite struct ConsumerMetricsTests {
    private static let accounts = (0..<4).map { account("account", $0) }
    private static let orders = (0..<4).map { account("order", $0) }

    private static func account(_ type: String, _ number: Int) -> AggregateName {
        AggregateName(
            type: AggregateType(type) ?? AggregateName.new().type, id: UUID(high: 8, low: UInt64(number)))
    }

    private static func definition(
        slots: Int = 4, isFiltered: Bool = false, _ change: (inout SlotSettings) -> Void = { _ in }
    ) -> ConsumerDefinition {
        var definition = ConsumerDefinition(slotCount: slots)
        if isFiltered { definition.filter.aggregateTypes = [accounts[0].type] }
        change(&definition.delivery)
        return definition
    }

    @Test func lagIsThatOfTheEventsThatTheFilterLetsThrough() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(isFiltered: true))
        for order in Self.orders { try bench.append("0", to: order) }
        let worker = try bench.worker("a")
        bench.pass(.seconds(2), worker)
        #expect(bench.gauge(.consumerPositionsBehind) == 0 && bench.gauge(.consumerOldestUnsettled) == 0)
        for number in 0..<3 {
            try bench.append("\(number)", to: Self.accounts[number])
            try bench.append("\(number)", to: Self.orders[number])
        }
        let committedAt = bench.now
        let got = try worker.take()
        bench.pass(.seconds(3), worker)
        #expect(bench.gauge(.consumerPositionsBehind) == 6, "the first of them is at position 5 of 10")
        let age = Double(bench.now.microseconds - committedAt.microseconds) / 1_000_000
        #expect(abs(try #require(bench.gauge(.consumerOldestUnsettled)) - age) <= 1)
        #expect(bench.gauge(.consumerEventsInFlight) == 3 && bench.gauge(.consumerKeysBlocked) == 0)
        #expect(bench.gauge(.consumerWorkers) == 1 && bench.gauge(.consumerSlots) == 4)
        worker.acknowledge(got.filter { $0.payload == "0" })
        bench.pass(.seconds(2), worker)
        #expect(bench.gauge(.consumerPositionsBehind) == 4 && bench.gauge(.consumerEventsInFlight) == 2)
        worker.acknowledge(got.filter { $0.payload != "0" })
        bench.pass(.seconds(3), worker)
        #expect(bench.gauge(.consumerPositionsBehind) == 0 && bench.gauge(.consumerOldestUnsettled) == 0)
        #expect(bench.gauge(.consumerEventsInFlight) == 0)
        #expect(bench.total(.consumerEventsDelivered) == 3 && bench.total(.consumerEventsAcknowledged) == 3)
        #expect(bench.total(.consumerEventsRedelivered) == 0)
    }

    /// The gauges tell what the description tells, whatever was handled; while keys are blocked, and while events that were
    /// read wait for credit.
    @Test(arguments: [false, true], [false, true])
    func lagIsWhatTheDescriptionTells(isFiltered: Bool, isStarved: Bool) throws {
        var random = SeededGenerator.fromEnvironment()
        let seed = "seed \(random.seed)"
        let bench = try ConsumerBench()
        try bench.put(Self.definition(isFiltered: isFiltered) { $0.acknowledgementTimeout = .seconds(600) })
        func append() throws {
            let type = Bool.random(using: &random) ? "account" : "order"
            let name = Self.account(type, .random(in: 0..<9, using: &random))
            try bench.append(String(repeating: "7", count: .random(in: 1...90, using: &random)), to: name)
        }
        for _ in 0..<40 { try append() }
        let worker = try bench.worker("a", creditBytes: isStarved ? 1 << 10 : 1 << 20)
        var open: [BenchWorker.Delivered] = []
        var worst: UInt64 = 0
        for round in 0..<TestRounds.count(25, long: 300) {
            for _ in 0..<Int.random(in: 0...5, using: &random) { try append() }
            open += try worker.take()
            for _ in 0..<Int.random(in: 0...5, using: &random) where !open.isEmpty {
                let one = open.remove(at: .random(in: open.indices, using: &random))
                if !isStarved, Int.random(in: 0..<9, using: &random) == 0 {
                    worker.say(.reject(one.delivery.number, .park, reason: "by chance"))
                } else {
                    worker.acknowledge([one])
                }
            }
            // Often it has granted less than the next event takes, where that is all that it has.
            worker.addCredit(.random(in: 0...600, using: &random))
            bench.pass(.seconds(3), worker)
            let told = try bench.describe()
            worst = max(worst, told.positionsBehind)
            #expect(bench.gauge(.consumerPositionsBehind) == Double(told.positionsBehind), "\(seed), \(round): \(told)")
            #expect(bench.gauge(.consumerKeysBlocked) == Double(told.blockedKeyCount), "\(seed)")
            let age = told.oldest.map { Double(bench.now.microseconds - $0.recordedAt.microseconds) / 1_000_000 }
            let gauge = try #require(bench.gauge(.consumerOldestUnsettled))
            #expect(abs(gauge - (age ?? 0)) <= 1, "\(seed): \(gauge) s, and it is \(age ?? 0) s")
        }
        #expect(worst > 3, "\(seed): hardly any lag")
    }

    @Test func failuresAreCountedByWhatBecameOfThem() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1) { $0.triesMax = 3 })
        for account in Self.accounts { try bench.append("0", to: account) }
        let worker = try bench.worker("a")
        let got = try worker.take()
        worker.say(.reject(got[0].delivery.number, .park, reason: "never"))
        worker.say(.reject(got[1].delivery.number, .retry(afterMillis: 400), reason: "later"))
        worker.say(.reject(got[1].delivery.number, .retry(afterMillis: 400), reason: "said twice"))
        worker.acknowledge([got[2]])
        bench.pass(.milliseconds(300), worker)
        bench.pass(.seconds(1), worker)
        #expect(bench.gauge(.consumerKeysBlocked) == 2 && bench.gauge(.consumerSlotsStopped) == 0)
        let again = try worker.take()
        #expect(again.map(\.delivery.attempt) == [2])
        worker.acknowledge(again)
        worker.say(.reject(got[3].delivery.number, .stop, reason: "disk full"))
        bench.pass(.seconds(2), worker)
        #expect(bench.total(.consumerEventsDelivered) == 5 && bench.total(.consumerEventsRedelivered) == 1)
        #expect(bench.total(.consumerEventsAcknowledged) == 2 && bench.total(.consumerKeysParked) == 1)
        for kind in ["retry", "park", "stop"] {
            #expect(bench.total(.consumerEventsRejected, kind: kind) == 1, "\(kind)")
        }
        #expect(bench.gauge(.consumerSlotsStopped) == 1 && bench.gauge(.consumerKeysBlocked) == 1)
        #expect(bench.total(.consumerSlotsAssigned) == 1 && bench.total(.consumerSlotsLost) == 0)
    }

    @Test func aKeyThatFailedTooOftenIsParkedAndWhatOperatorsDoIsCounted() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1) { $0.triesMax = 2 })
        try bench.append("0", to: Self.accounts[0])
        try bench.append("1", to: Self.accounts[1])
        let worker = try bench.worker("a")
        var tries = 0
        for _ in 0..<8 {
            for one in try worker.take() {
                tries += 1
                worker.say(.reject(one.delivery.number, .retry(afterMillis: 100), reason: "no"))
            }
            bench.pass(.milliseconds(500), worker)
        }
        #expect(tries == 4 && bench.total(.consumerKeysParked) == 2)
        guard case .blockedKeys(let keys) = try bench.answer(.listBlockedKeys(ListBlockedKeysRequest(bench.id())))
        else {
            throw ConsumerBench.Unexpected()
        }
        try #require(keys.count == 2)
        let asked = UnblockKeysRequest(
            bench.id(),
            keys: [
                .init(keys[0].place), .init(keys[1].place, skipping: keys[1].blocked.first.position),
                // Of an event that it is not blocked by.
                .init(keys[0].place, skipping: Position(77)),
            ])
        #expect(try bench.answer(.unblockKeys(asked)) == .keysUnblocked(2))
        #expect(bench.total(.consumerKeysRetried) == 1 && bench.total(.consumerKeysSkipped) == 1)
        bench.pass(.seconds(2), worker)
        worker.acknowledge(try worker.take())
        bench.pass(.seconds(2), worker)
        #expect(bench.gauge(.consumerKeysBlocked) == 0 && bench.total(.consumerKeysParked) == 2)
        #expect(bench.total(.consumerSlotsAssigned) == 2 && bench.total(.consumerSlotsLost) == 1, "a higher epoch")
    }

    @Test func whatIsNotAcknowledgedInTimeIsCounted() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1) { $0.acknowledgementTimeout = .seconds(1) })
        try bench.append("0", to: Self.accounts[0])
        let worker = try bench.worker("a")
        let late = try worker.take()
        bench.pass(.milliseconds(1_600), worker)
        worker.acknowledge(late)
        bench.pass(.seconds(1), worker)
        #expect(bench.total(.consumerEventsTimedOut) == 1 && bench.total(.consumerEventsAcknowledged) == 0)
        #expect(bench.gauge(.consumerKeysBlocked) == 1)
        while worker.messages.isEmpty, bench.now.microseconds < 60_000_000 { bench.pass(.seconds(1), worker) }
        let again = try worker.take()
        #expect(again.map(\.delivery.attempt) == [2])
        worker.acknowledge(again)
        bench.pass(.seconds(2), worker)
        #expect(bench.total(.consumerEventsDelivered) == 2 && bench.total(.consumerEventsRedelivered) == 1)
        #expect(bench.total(.consumerEventsAcknowledged) == 1)
        #expect(bench.total(.consumerEventsRejected, kind: "retry") == 0, "nobody said so")
    }

    @Test func whatBecameOfASlotCountsThoughItIsLostAtOnce() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1))
        try bench.append("0", to: Self.accounts[0])
        let worker = try bench.worker("a")
        worker.say(.reject(try #require(try worker.take().first).delivery.number, .park, reason: "no"))
        bench.pass(.milliseconds(200), worker)
        guard case .blockedKeys(let keys) = try bench.answer(.listBlockedKeys(ListBlockedKeysRequest(bench.id())))
        else {
            throw ConsumerBench.Unexpected()
        }
        let retry = UnblockKeysRequest(bench.id(), keys: keys.map { .init($0.place) })
        #expect(try bench.answer(.unblockKeys(retry)) == .keysUnblocked(1))
        bench.pass(.seconds(2), worker)
        #expect(bench.total(.consumerSlotsLost) == 1 && bench.total(.consumerKeysParked) == 1)
    }

    @Test func anEventThatWaitsForCreditGrowsOld() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1))
        try bench.append(String(repeating: "7", count: 2_000), to: Self.accounts[0])
        let worker = try bench.worker("a", creditBytes: 1_000)
        bench.pass(.seconds(5), worker)
        #expect(bench.gauge(.consumerPositionsBehind) == 1 && bench.gauge(.consumerEventsInFlight) == 0)
        #expect(try #require(bench.gauge(.consumerOldestUnsettled)) >= 4)
    }

    @Test func fencesThatRefuseAreCounted() throws {
        let bench = try ConsumerBench(servers: 2)
        try bench.put(Self.definition(slots: 1))
        try bench.append("0", to: Self.accounts[0])
        let old = try bench.worker("a", on: 1)
        let got = try old.take()
        // Its server stands still before it stores that.
        old.acknowledge(got)
        bench.servers[1].isStopped = true
        let new = try bench.worker("b")
        for _ in 0..<4 { bench.pass(.seconds(1), new) }
        #expect(try new.take().count == 1)
        #expect(bench.total(.consumerFenced, kind: "progress", on: 1) == 0)
        bench.servers[1].isStopped = false
        bench.pass(.seconds(1), new)
        #expect(bench.total(.consumerFenced, kind: "progress", on: 1) >= 1)
        #expect(bench.total(.consumerFenced, kind: "append") == 0)
        let event = got[0].event
        var append = AppendRequest.of([try .sample()], to: Self.accounts[1], tenant: bench.tenant)
        append.checkpoint = AppendCheckpoint(
            consumer: bench.id().name, slot: 0, epoch: 1,
            event: Checkpoint(position: event.position, eventID: event.event.id), key: got[0].delivery.key,
            isKeyBlocked: false)
        let error = #expect(throws: MartletError.self) { try bench.answer(.append(append)) }
        #expect(error?.reason == .fenced && bench.total(.consumerFenced, kind: "append") == 1)
        #expect(bench.total(.consumerFenced, kind: "progress") == 0, "the one in force is not fenced")
    }

    @Test func aStoppedSlotFallsBehind() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1))
        try bench.append("0", to: Self.accounts[0])
        let worker = try bench.worker("a")
        worker.say(.reject(try #require(try worker.take().first).delivery.number, .stop, reason: "disk full"))
        // It takes part in no reading any more, so that nobody else follows the tenant.
        for _ in 0..<4 {
            try bench.append("1", to: Self.accounts[1])
            bench.pass(.seconds(2), worker)
        }
        #expect(bench.gauge(.consumerSlotsStopped) == 1 && bench.gauge(.consumerPositionsBehind) == 5)
        #expect(try #require(bench.gauge(.consumerOldestUnsettled)) >= 7)
    }

    @Test func serversTellOfTheSlotsThatTheirWorkersHave() throws {
        let bench = try ConsumerBench(servers: 2)
        try bench.put(Self.definition(slots: 8))
        let workers = [try bench.worker("a"), try bench.worker("b"), try bench.worker("c", on: 1)]
        for _ in 0..<3 { bench.pass(.seconds(1), workers) }
        for number in 0..<30 { try bench.append("0", to: Self.account("account", number)) }
        for _ in 0..<2 { bench.pass(.seconds(1), workers) }
        #expect(bench.gauge(.consumerWorkers) == 2 && bench.gauge(.consumerWorkers, on: 1) == 1)
        let slots = (0..<2).map { bench.gauge(.consumerSlots, on: $0) ?? 0 }
        #expect(slots[0] + slots[1] == 8 && slots[1] > 0)
        let inFlight = (0..<2).map { bench.gauge(.consumerEventsInFlight, on: $0) ?? 0 }
        #expect(inFlight[0] + inFlight[1] == 30 && inFlight[1] > 0)
        let behind = (0..<2).compactMap { bench.gauge(.consumerPositionsBehind, on: $0) }.max()
        #expect(behind == Double(try bench.describe().positionsBehind))
    }
}

extension ConsumerBench {
    /// Time passes, and these workers say that they are there.
    func pass(_ time: TimeAmount, _ workers: BenchWorker...) { pass(time, workers) }

    func pass(_ time: TimeAmount, _ workers: [BenchWorker]) {
        var left = time
        while left > .nanoseconds(0) {
            let step = min(left, .seconds(1))
            advance(step)
            for worker in workers { worker.say(.alive) }
            left = left - step
        }
    }

    /// What a gauge of a consumer was set to last; nil where there is none.
    func gauge(_ name: MetricName, of consumer: String = "balances", on server: Int = 0) -> Double? {
        let labels = [("tenant", "\(tenant)"), ("consumer", consumer)]
        return try? servers[server].metrics.expectGauge(name.rawValue, labels).lastValue
    }

    /// What a counter has come to.
    func total(_ name: MetricName, kind: String? = nil, on server: Int = 0) -> Int64 {
        let labels = kind.map { [("kind", $0)] } ?? []
        return (try? servers[server].metrics.expectCounter(name.rawValue, labels).totalValue) ?? -1
    }
}
