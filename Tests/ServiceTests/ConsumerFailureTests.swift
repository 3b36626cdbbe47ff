import FoundationEssentials
import MartletModel
import MartletTenants
import MartletTesting
import NIOCore
import Testing

@testable import MartletService

/// What the description of a consumer tells of what failed.
@Suite struct ConsumerFailureTests {
    private static let accounts = (0..<4).map {
        AggregateName(type: "account", id: UUID(high: 6, low: UInt64($0)))
    }

    private static func definition(
        slots: Int = 1, _ change: (inout SlotSettings) -> Void = { _ in }
    ) -> ConsumerDefinition {
        var definition = ConsumerDefinition(slotCount: slots)
        change(&definition.delivery)
        return definition
    }

    /// A consumer of one slot, which its worker has stopped.
    private func stopped(
        _ bench: ConsumerBench, reason: String = "disk full"
    ) throws -> BenchWorker {
        try bench.put(Self.definition())
        try bench.append("0", to: Self.accounts[0])
        let worker = try bench.worker("a")
        worker.say(.reject(try #require(try worker.take().first).delivery.number, .stop, reason: reason))
        _ = try worker.take()
        #expect(worker.stopped.count == 1)
        return worker
    }

    @Test func theKeyThatFailedLastIsTheLastFailureOnEveryServer() throws {
        let bench = try ConsumerBench(servers: 2)
        try bench.put(Self.definition(slots: 7))
        for account in Self.accounts { try bench.append("0", to: account) }
        let worker = try bench.worker("a", on: 1)
        let events = try worker.take()
        #expect(try bench.describe().lastFailure == nil)
        for index in [2, 0, 3, 1] {
            let event = try #require(events.first { $0.event.aggregate == Self.accounts[index] })
            bench.advance(.milliseconds(100))
            worker.say(.reject(event.delivery.number, .park, reason: "no \(index)"))
            bench.advance(.milliseconds(500))
            let last = try #require(try bench.describe().lastFailure)
            let key = event.delivery.key
            #expect(last.place == KeyPlace(slot: key.slot(of: 7), key: key), "of \(index)")
            #expect(last.blocked.reason == "no \(index)" && last.blocked.tries == 1)
            #expect(last.blocked.first == Checkpoint(position: event.event.position, eventID: event.event.event.id))
        }
        // It is forgotten with the key, and the one before it is the last again.
        let place = try #require(try bench.describe().lastFailure?.place)
        let skip = UnblockKeysRequest.Key(place, skipping: Position(2))
        _ = try bench.answer(.unblockKeys(UnblockKeysRequest(bench.id(), keys: [skip])))
        for _ in 0..<4 {
            worker.say(.alive)
            bench.advance(.seconds(1))
        }
        #expect(try bench.describe().lastFailure?.blocked.reason == "no 3")
        _ = try bench.answer(.resetConsumer(ResetConsumerRequest(bench.id(), start: .after(.start))))
        #expect(try bench.describe().lastFailure == nil)
    }

    @Test func aStoppedSlotIsKnownWhileItsWorkerHasIt() throws {
        let bench = try ConsumerBench()
        let worker = try stopped(bench)
        let stop = ConsumerDescription.StoppedSlot(number: 0, reason: "disk full")
        #expect(try bench.describe().stoppedSlots == [stop])
        // Nothing changes with an equal definition, and with time.
        try bench.put(Self.definition())
        for _ in 0..<5 {
            worker.say(.alive)
            bench.advance(.seconds(1))
        }
        #expect(try bench.describe().stoppedSlots == [stop])
        worker.leave()
        bench.run()
        #expect(try bench.describe().stoppedSlots.isEmpty)
        #expect(bench.service.groups.stops(of: bench.id()).isEmpty)
        let next = try bench.worker("b")
        #expect(try next.take().count == 1)
        #expect(try bench.describe().stoppedSlots.isEmpty, "it goes on with another worker")
    }

    @Test(arguments: ["reset", "put", "unblock"])
    func aStopIsForgottenWhenItsSlotGoesOn(_ change: String) throws {
        // The server of the worker hears of it only when its group is tended.
        let bench = try ConsumerBench(servers: 2)
        try bench.put(Self.definition { $0.triesMax = 1 })
        for account in Self.accounts.prefix(2) { try bench.append("0", to: account) }
        let worker = try bench.worker("a")
        let events = try worker.take()
        worker.say(.reject(events[0].delivery.number, .park, reason: "parked"))
        bench.advance(.milliseconds(500))
        worker.say(.reject(events[1].delivery.number, .stop, reason: "stopped"))
        bench.run()
        #expect(try bench.describe().stoppedSlots.map(\.reason) == ["stopped"])
        let request: CallRequest =
            switch change {
            case "reset": .resetConsumer(ResetConsumerRequest(bench.id(), start: .after(.start)))
            case "put":
                .putConsumer(PutConsumerRequest(bench.id(), Self.definition { $0.triesMax = 9 }, expected: .any))
            default:
                .unblockKeys(
                    UnblockKeysRequest(
                        bench.id(), keys: [.init(KeyPlace(slot: 0, key: events[0].delivery.key))]))
            }
        let other = BenchConnection(bench.servers[1].service, bench.servers[1].loop)
        let call = other.start(request)
        bench.run()
        #expect(other.calls[call]?.messages.count == 1)
        #expect(try bench.describe().stoppedSlots.isEmpty)
        #expect(bench.service.groups.stops(of: bench.id()).count == 1, "its server does not know yet")
        for _ in 0..<2 {
            worker.say(.alive)
            bench.advance(.seconds(1))
        }
        #expect(bench.service.groups.stops(of: bench.id()).isEmpty)
        #expect(try bench.describe().stoppedSlots.isEmpty)
    }

    @Test func theStopsOfOtherServersAreNotKnown() throws {
        let bench = try ConsumerBench(servers: 2)
        try bench.put(Self.definition())
        try bench.append("0", to: Self.accounts[0])
        let worker = try bench.worker("a", on: 1)
        worker.say(.reject(try #require(try worker.take().first).delivery.number, .stop, reason: "disk full"))
        bench.run()
        #expect(bench.servers[1].service.groups.stops(of: bench.id()).map(\.reason) == ["disk full"])
        #expect(try bench.describe().stoppedSlots.isEmpty)
    }

    @Test func aStopForTooManyBlockedKeysSaysSo() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition { $0.blockedKeysMax = 0 })
        try bench.append("0", to: Self.accounts[0])
        let worker = try bench.worker("a")
        worker.say(.reject(try #require(try worker.take().first).delivery.number, .park, reason: "no"))
        bench.run()
        let description = try bench.describe()
        #expect(description.stoppedSlots.first?.reason.contains("blocked_keys_max") == true, "\(description)")
        #expect(description.lastFailure == nil)
    }

    @Test func aReasonIsCutAndOnTheAccountOfItsTenant() throws {
        let bench = try ConsumerBench()
        let held = { bench.service.pools.calls.bytes(of: .tenant(bench.tenant)) }
        try bench.put(Self.definition(slots: 64))
        let accounts = (0..<64).map { number in
            let numbers = (0...).lazy.map { UUID(high: 7, low: $0) }
            return numbers.map { AggregateName(type: Self.accounts[0].type, id: $0) }
                .first { ConsumerKey(.aggregate, aggregate: $0) { _ in nil }.slot(of: 64) == number }
        }
        for account in accounts { try bench.append("0", to: try #require(account)) }
        let worker = try bench.worker("a")
        let events = try worker.take()
        let before = held()
        let reason = String(repeating: "ä", count: 3_000)
        for event in events { worker.say(.reject(event.delivery.number, .stop, reason: reason)) }
        bench.run()
        let stops = try bench.describe().stoppedSlots
        let cut = String(repeating: "ä", count: 512)
        #expect(stops == (0..<64).map { ConsumerDescription.StoppedSlot(number: $0, reason: cut) })
        #expect(held() - before > 50_000, "64 reasons of 1,024 bytes, less what the deliveries took")
        worker.leave()
        bench.run()
        #expect(bench.service.pools.calls.bytes == 0)
    }

    @Test func theFirstHundredStoppedSlotsAreListed() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1_024))
        for _ in 0..<130 { try bench.append("0", to: .new()) }
        let worker = try bench.worker("a")
        let events = try worker.take()
        let slots = Set(events.map(\.delivery.slot)).sorted()
        try #require(slots.count > 100)
        for event in events { worker.say(.reject(event.delivery.number, .stop, reason: "\(event.delivery.slot)")) }
        bench.run()
        let stops = try bench.describe().stoppedSlots
        #expect(stops == slots.prefix(100).map { ConsumerDescription.StoppedSlot(number: $0, reason: "\($0)") })
    }
}
