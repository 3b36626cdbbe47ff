import FoundationEssentials
import MartletConsumers
import MartletModel
import MartletTesting
import NIOCore
import Testing

@Suite struct SlotMachineTests {
    private let keys = (0..<8).map { ConsumerKey(bytes: "k\($0)".utf8) }

    private func now(_ seconds: Int64) -> SlotMachine.Moment {
        SlotMachine.Moment(
            uptime: .uptimeNanoseconds(UInt64(1_000_000_000 * (seconds + 1))),
            time: Timestamp(microseconds: seconds * 1_000_000))
    }

    private func place(_ position: UInt64) -> Checkpoint {
        Checkpoint(position: Position(position), eventID: position == 0 ? nil : UUID(high: 7, low: position))
    }

    private func event(_ position: UInt64, _ key: Int) -> SlotMachine.Event {
        SlotMachine.Event(place: place(position), key: keys[key])
    }

    private func machine(_ progress: SlotProgress = SlotProgress(), _ settings: SlotSettings = SlotSettings())
        -> Slot
    {
        Slot(SlotMachine(epoch: 3, progress: progress, repeatedTo: .start, settings: settings))
    }

    /// A machine that has delivered events of those keys, at positions from 1.
    private func delivered(_ keys: [Int], _ settings: SlotSettings = SlotSettings()) -> Slot {
        let machine = self.machine(SlotProgress(), settings)
        machine.take(keys.enumerated().map { event(UInt64($0 + 1), $1) }, scannedTo: place(UInt64(keys.count)))
        #expect(machine.deliveries(now: now(0)).map(\.number) == Array(1...UInt64(keys.count)))
        return machine
    }

    @Test func theFloorIsBelowWhatIsUnderWay() {
        let machine = delivered([0, 1, 2])
        #expect(machine.nextChange() == nil)
        #expect(machine.acknowledge(2) == .taken && machine.acknowledge(3) == .taken)
        #expect(machine.nextChange() == nil && machine.oldest == event(1, 0), "the first one holds them back")
        #expect(machine.acknowledge(1) == .taken)
        #expect(
            machine.nextChange() == SlotChange(epoch: 3, from: place(0), to: place(3), blocked: [:]))
        #expect(machine.nextChange() == nil, "one change at a time")
        #expect(machine.saved() == place(3) && machine.isDrained)
    }

    @Test func whatIsScannedWithoutAMatchMovesTheFloor() {
        let machine = self.machine()
        machine.take([], scannedTo: place(500))
        #expect(machine.nextChange()?.to == place(500) && machine.wantsEvents == Position(500))
    }

    @Test func whatWasNeverDeliveredIsNotTaken() {
        let machine = delivered([0, 1])
        for number in [UInt64(0), 3, .max] {
            #expect(machine.acknowledge(number) == .neverDelivered)
            #expect(machine.reject(number, .park, reason: "", now: now(0)) == .neverDelivered)
        }
        #expect(machine.acknowledge(1) == .taken && machine.acknowledge(1) == .late)
        #expect(machine.reject(1, .park, reason: "", now: now(0)) == .late)
    }

    @Test func aFailedEventStopsItsKeyAlone() throws {
        let machine = delivered([0, 1, 0, 2])
        #expect(machine.reject(1, .park, reason: "no such account", now: now(5)) == .taken)
        // The key's other delivery is taken back, and others are settled as ever.
        #expect(machine.acknowledge(3) == .late)
        #expect(machine.acknowledge(2) == .taken && machine.acknowledge(4) == .taken)
        machine.take([event(5, 0), event(6, 1)], scannedTo: place(6))
        #expect(machine.deliveries(now: now(5)).isEmpty, "not before it is stored")
        let change = try #require(machine.nextChange())
        let blocked = BlockedKey(
            first: place(1), until: .asked, reason: "no such account", tries: 1, since: now(5).time)
        #expect(change.to == place(5) && change.blocked == [keys[0]: blocked])
        _ = machine.saved()
        #expect(machine.deliveries(now: now(5)).map(\.event) == [event(6, 1)])

        #expect(machine.deliveries(now: now(9)).isEmpty && machine.wantsKey == nil, "nobody has asked for it")
    }

    @Test func aKeyIsTriedFromItsFirstEventToTheLastOneThatWasPassedOver() throws {
        let machine = delivered([0, 1, 0, 2])
        #expect(machine.reject(1, .retry(after: .seconds(4)), reason: "busy", now: now(5)) == .taken)
        #expect(machine.acknowledge(2) == .taken && machine.acknowledge(4) == .taken)
        machine.take([event(5, 0), event(6, 1)], scannedTo: place(6))
        _ = (machine.nextChange(), machine.saved())
        #expect(machine.deliveries(now: now(8)).map(\.event) == [event(6, 1)])
        #expect(machine.acknowledge(5) == .taken)
        #expect(machine.deliveries(now: now(9)).isEmpty)
        let range = try #require(machine.wantsKey)
        #expect(range == SlotMachine.KeyRange(key: keys[0], after: .start, to: Position(5)))
        machine.take([event(1, 0), event(3, 0)], of: range, scannedTo: Position(4))
        let again = machine.deliveries(now: now(9))
        #expect(again.map(\.event) == [event(1, 0), event(3, 0)] && again.map(\.attempt) == [2, 1])
        #expect(again.map(\.mayBeRepeated) == [true, true], "it was delivered before, and taken back")
        let rest = try #require(machine.wantsKey)
        #expect(rest.after == Position(4))
        machine.take([event(5, 0)], of: rest, scannedTo: Position(5))
        for delivery in again { #expect(machine.acknowledge(delivery.number) == .taken) }
        let last = machine.deliveries(now: now(9))
        #expect(last.map(\.event) == [event(5, 0)] && last.map(\.mayBeRepeated) == [false], "it was passed over")
        #expect(machine.acknowledge(last[0].number) == .taken)
        #expect(machine.progress == SlotProgress(floor: place(6), blocked: [:]))
        machine.take([event(7, 0)], scannedTo: place(7))
        #expect(machine.deliveries(now: now(9)).map(\.event) == [event(7, 0)], "it goes on as ever")
    }

    /// A worker that is late has handled what was taken back from it: it comes again, and says so, however often its key fails.
    @Test func whatWasTakenBackIsMarkedWhenItComesAgain() throws {
        let machine = delivered([0, 0, 0])
        // Out of turn, which holds nothing up: it comes again with the others.
        #expect(machine.acknowledge(2) == .taken)
        for (time, first) in [(5, UInt64(1)), (20, 4)] {
            #expect(machine.reject(first, .retry(after: .seconds(1)), reason: "late", now: now(Int64(time))) == .taken)
            _ = (machine.nextChange(), machine.saved())
            #expect(machine.deliveries(now: now(Int64(time) + 1)).isEmpty)
            let range = try #require(machine.wantsKey)
            machine.take([event(1, 0), event(2, 0), event(3, 0)], of: range, scannedTo: range.to)
            let again = machine.deliveries(now: now(Int64(time) + 1))
            #expect(again.map(\.event.place) == [place(1), place(2), place(3)])
            #expect(again.map(\.mayBeRepeated) == [true, true, true], "\(time)")
        }
    }

    @Test func triesWaitLongerAndLonger() throws {
        var settings = SlotSettings()
        settings.triesMax = 4
        settings.backoffMin = .seconds(2)
        settings.backoffMax = .seconds(5)
        let machine = delivered([0], settings)
        var number: UInt64 = 1
        var at: Int64 = 0
        for delay in [Int64(2), 4, 5] {
            #expect(machine.reject(number, .retry(after: nil), reason: "busy", now: now(at)) == .taken)
            _ = (machine.nextChange(), machine.saved())
            #expect(machine.progress.blocked[keys[0]]?.until == .retry(at: now(at + delay).time))
            #expect(machine.deliveries(now: now(at + delay - 1)).isEmpty && machine.wantsKey == nil)
            at += delay
            #expect(machine.deliveries(now: now(at)).isEmpty)
            machine.take([event(1, 0)], of: try #require(machine.wantsKey), scannedTo: Position(1))
            number = try #require(machine.deliveries(now: now(at)).first).number
        }
        #expect(machine.reject(number, .retry(after: .seconds(1)), reason: "busy", now: now(at)) == .taken)
        #expect(machine.progress.blocked[keys[0]]?.until == .asked, "parked")
        #expect(
            machine.progress.blocked[keys[0]]?.tries == 4 && machine.progress.blocked[keys[0]]?.since == now(0).time)
    }

    @Test func aSkippedEventIsNotTriedAgain() throws {
        let machine = delivered([0, 0, 1])
        #expect(machine.reject(1, .park, reason: "poison", now: now(0)) == .taken)
        #expect(machine.acknowledge(3) == .taken)
        let next = self.machine(try #require(machine.progress.unblocked(keys[0], isFirstHandled: true)))
        #expect(next.deliveries(now: now(0)).isEmpty)
        let range = try #require(next.wantsKey)
        #expect(range.after == Position(1))
        next.take([event(2, 0)], of: range, scannedTo: range.to)
        let again = next.deliveries(now: now(0))
        #expect(again.map(\.event) == [event(2, 0)] && again.map(\.attempt) == [1])
        #expect(next.acknowledge(1) == .taken && next.progress.blocked.isEmpty)
    }

    @Test func aParkedKeyIsTriedAgainWhenAnOperatorHasSaidSo() throws {
        let machine = delivered([0, 1])
        #expect(machine.reject(1, .park, reason: "no such account", now: now(5)) == .taken)
        let next = self.machine(try #require(machine.progress.unblocked(keys[0], isFirstHandled: false)))
        #expect(next.deliveries(now: now(5)).isEmpty)
        next.take([event(1, 0)], of: try #require(next.wantsKey), scannedTo: Position(1))
        let again = next.deliveries(now: now(5))
        #expect(again.map(\.event) == [event(1, 0)] && again.map(\.attempt) == [2])
    }

    @Test func whatIsNotAcknowledgedInTimeIsRejected() {
        let machine = delivered([0, 1])
        #expect(machine.acknowledge(1) == .taken)
        machine.tick(now: now(29))
        #expect(machine.underWayCount == 1)
        machine.tick(now: now(33))
        #expect(machine.underWayCount == 0 && machine.acknowledge(2) == .late)
        #expect(machine.progress.blocked[keys[1]]?.reason == "not acknowledged in time")
    }

    @Test func oneBlockedKeyTooManyStopsTheSlot() {
        var settings = SlotSettings()
        settings.blockedKeysMax = 1
        let machine = delivered([0, 1, 2], settings)
        #expect(machine.reject(1, .park, reason: "a", now: now(0)) == .taken && machine.stop == nil)
        #expect(machine.reject(2, .park, reason: "b", now: now(0)) == .taken && machine.stop == .blockedKeysFull)
        // What is under way may still be settled; nothing of the key that did not find room is lost.
        #expect(machine.acknowledge(3) == .taken && machine.isDrained == false)
        #expect(machine.nextChange()?.to == place(1) && machine.wantsEvents == nil)
        #expect(machine.deliveries(now: now(0)).isEmpty)
    }

    @Test func aWorkerMayStopTheSlot() {
        let machine = delivered([0, 1])
        #expect(machine.reject(1, .stop, reason: "disk full", now: now(0)) == .taken)
        #expect(machine.stop == .asked(reason: "disk full") && machine.progress == SlotProgress())
    }

    @Test func theWindowAndWhatIsUnderWayAreBounded() {
        var settings = SlotSettings()
        settings.windowEventsMax = 4
        settings.inFlightMax = 2
        let machine = self.machine(SlotProgress(), settings)
        machine.take((1...4).map { event($0, Int($0)) }, scannedTo: place(4))
        #expect(machine.wantsEvents == nil, "the window is full")
        #expect(machine.deliveries(now: now(0)).count == 2)
        #expect(machine.acknowledge(2) == .taken)
        #expect(machine.deliveries(now: now(0)).count == 1)
        #expect(machine.wantsEvents == nil, "the first one holds the floor")
        #expect(machine.acknowledge(1) == .taken && machine.wantsEvents == Position(4))
    }

    @Test func aChangeThatWasNotStoredIsPartOfTheNext() throws {
        let machine = delivered([0, 1])
        _ = machine.reject(1, .park, reason: "a", now: now(0))
        let first = try #require(machine.nextChange())
        machine.notSaved()
        _ = machine.acknowledge(2)
        let second = try #require(machine.nextChange())
        #expect(second.from == place(0) && second.to == place(2) && second.blocked == first.blocked)
        machine.fence()
        #expect(machine.nextChange() == nil && machine.stop == .fenced && machine.underWayCount == 0)
    }

    @Test func slotsArePinned() throws {
        // Clients and later versions compute the same.
        let name = AggregateName(type: AggregateType("account"), id: UUID(high: 1, low: 2))
        let key = ConsumerKey(.aggregate, aggregate: name) { _ in nil }
        #expect(key.description == "a:account/00000000-0000-0001-0000-000000000002")
        #expect(ConsumerKey(.aggregateType, aggregate: name) { _ in nil }.description == "t:account")
        #expect(ConsumerKey(.tag("order"), aggregate: name) { $0 == "order" ? "o-17" : nil }.description == "g:o-17")
        #expect(ConsumerKey(.tag("order"), aggregate: name) { _ in nil } == key, "without the tag, the aggregate")
        // FNV-1a of "" and "a", from the method's own tables.
        #expect(ConsumerKey(bytes: []).slot(of: 1 << 32) == 0xcbf2_9ce4 ^ 0x8422_2325)
        #expect(ConsumerKey(bytes: "a".utf8).slot(of: 1 << 32) == 0xaf63_dc4c ^ 0x8601_ec8c)
        var counts = [Int](repeating: 0, count: 16)
        for number in 0..<16_000 { counts[ConsumerKey(bytes: "a:account/\(number)".utf8).slot(of: 16)] += 1 }
        #expect(counts.allSatisfy { (850...1_150).contains($0) }, "\(counts)")
        let long = ConsumerKey(bytes: [UInt8](repeating: 7, count: 300))
        #expect(long.bytes.count == ConsumerKey.bytesMax)
    }

    @Test func reasonsAreCutAtACharacter() {
        let reason = String(repeating: "x", count: 1_023) + "é"
        let blocked = BlockedKey(first: place(1), until: .asked, reason: reason, tries: 1, since: now(0).time)
        #expect(blocked.reason == String(repeating: "x", count: 1_023))
    }
}

extension SlotProgress {
    /// What is stored once an operator has retried or skipped a key; nil where it is not blocked.
    func unblocked(_ key: ConsumerKey, isFirstHandled: Bool) -> SlotProgress? {
        guard var blocked = blocked[key] else { return nil }
        blocked.until = .retry(at: Timestamp(microseconds: 0))
        blocked.isFirstHandled = blocked.isFirstHandled || isFirstHandled
        var progress = self
        progress.blocked[key] = blocked
        return progress
    }
}

/// A machine that is changed where it is.
private final class Slot {
    private var machine: SlotMachine

    init(_ machine: consuming SlotMachine) { self.machine = machine }

    var wantsEvents: Position? { machine.wantsEvents }
    var wantsKey: SlotMachine.KeyRange? { machine.wantsKey }
    var progress: SlotProgress { machine.progress }
    var stop: SlotMachine.Stop? { machine.stop }
    var oldest: SlotMachine.Event? { machine.oldest }
    var underWayCount: Int { machine.underWayCount }
    var isDrained: Bool { machine.isDrained }

    func take(_ events: [SlotMachine.Event], scannedTo: Checkpoint) { machine.take(events, scannedTo: scannedTo) }

    func take(_ events: [SlotMachine.Event], of range: SlotMachine.KeyRange, scannedTo: Position) {
        machine.take(events, of: range, scannedTo: scannedTo)
    }

    func deliveries(now: SlotMachine.Moment) -> [SlotMachine.Delivery] { machine.deliveries(now: now) }
    func acknowledge(_ number: UInt64) -> SlotMachine.Answer { machine.acknowledge(number) }

    func reject(
        _ number: UInt64, _ how: SlotMachine.Rejection, reason: String, now: SlotMachine.Moment
    ) -> SlotMachine.Answer { machine.reject(number, how, reason: reason, now: now) }

    func tick(now: SlotMachine.Moment) { machine.tick(now: now) }
    func nextChange() -> SlotChange? { machine.nextChange() }
    func saved() -> Checkpoint { machine.saved() }
    func notSaved() { machine.notSaved() }
    func fence() { machine.fence() }
}

extension SlotMachine {
    /// All that is to be sent now: events of keys that are tried again, then those that follow.
    mutating func deliveries(now: Moment) -> [Delivery] {
        beginRetries(now: now)
        return retries(now: now) + live(now: now)
    }
}
