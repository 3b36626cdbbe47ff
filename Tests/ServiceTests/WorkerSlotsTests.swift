import FoundationEssentials
import MartletConsumers
import MartletModel
import MartletTesting
import NIOCore
import Testing

@testable import MartletService

/// What is kept of deliveries that a worker says nothing of.
@Suite struct WorkerSlotsTests {
    private let key = ConsumerKey(bytes: "a:x".utf8)

    private func moment(_ seconds: Int64) -> SlotMachine.Moment {
        SlotMachine.Moment(
            uptime: .uptimeNanoseconds(0) + .seconds(seconds), time: Timestamp(microseconds: seconds * 1_000_000))
    }

    /// A slot whose one event is under way.
    private func slot(_ slots: WorkerSlots, _ deliveries: inout OpenDeliveries) throws -> WorkerSlot {
        var settings = SlotSettings()
        settings.triesMax = 1_000_000
        settings.backoffMin = .milliseconds(1)
        settings.backoffMax = .milliseconds(1)
        let machine = SlotMachine(epoch: 1, progress: SlotProgress(), repeatedTo: .start, settings: settings)
        let slot = WorkerSlot(number: 0, epoch: 1, machine: machine, now: .uptimeNanoseconds(0))
        let place = Checkpoint(position: Position(1), eventID: UUID(high: 1, low: 1))
        slot.machine.take([SlotMachine.Event(place: place, key: key)], scannedTo: place)
        slots.add(slot)
        let delivery = try #require(slot.machine.live(now: moment(0)).first)
        _ = slots.deliver(delivery, of: slot, as: deliveries.add(delivery.number, of: slot))
        return slot
    }

    @Test func aSlotThatGoesTakesItsDeliveriesWithIt() throws {
        let slots = WorkerSlots()
        var deliveries = OpenDeliveries()
        slots.count(try slot(slots, &deliveries))
        #expect(slots.bytes > 0)
        _ = slots.remove(0)
        #expect(slots.bytes == 0, "a worker says nothing of what it no longer has")
    }

    @Test func aDeliveryThatTimedOutIsNotKept() throws {
        let slots = WorkerSlots()
        var deliveries = OpenDeliveries()
        let slot = try slot(slots, &deliveries)
        var bytes: [Int] = []
        for number in 1...100 as ClosedRange<Int64> {
            slot.machine.tick(now: moment(number * 100))
            _ = (slot.machine.nextChange(), slot.machine.saved())
            slot.machine.beginRetries(now: moment(number * 100 + 1))
            if let range = slot.machine.wantsKey {
                let place = Checkpoint(position: Position(1), eventID: UUID(high: 1, low: 1))
                slot.machine.take([SlotMachine.Event(place: place, key: key)], of: range, scannedTo: Position(1))
            }
            let delivery = try #require(slot.machine.retries(now: moment(number * 100 + 1)).first)
            _ = slots.deliver(delivery, of: slot, as: deliveries.add(delivery.number, of: slot))
            if slot.openCount > slot.machine.underWayCount { deliveries.forgetTakenBack(of: slot) }
            slots.count(slot)
            bytes.append(slots.bytes)
        }
        #expect(bytes.last == bytes.first, "one event is under way, however often it was tried")
    }

    @Test func onlySlotsThatHaveSomethingToDoAreLookedAt() throws {
        let bench = try ConsumerBench()
        try bench.put(ConsumerDefinition(slotCount: ConsumerDefinition.slotsMax))
        let worker = try bench.worker("a", creditBytes: 1 << 30)
        #expect(try worker.take().isEmpty && worker.slots.count == ConsumerDefinition.slotsMax)
        let before = worker.slotVisits
        for number in 0..<200 {
            try bench.append("\(number)", to: .new())
            let got = try worker.take()
            #expect(got.map(\.payload) == ["\(number)"])
            worker.acknowledge(got)
        }
        bench.advance(.milliseconds(300))
        // When it is delivered, acknowledged and stored.
        #expect(worker.slotVisits - before <= 200 * 3)
        _ = try worker.take()
        #expect(worker.committed.count > 100)
        bench.advance(.milliseconds(2_500))
        worker.say(.alive)
        #expect(worker.slotVisits - before <= 200 * 3, "an idle slot has nothing to do")
        for _ in 0..<5 {
            bench.advance(.seconds(2))
            worker.say(.alive)
        }
        // Once in a while it is stored what all have read up to.
        #expect(worker.slotVisits - before <= 200 * 3 + 3 * ConsumerDefinition.slotsMax)
        #expect(try bench.describe().checkpoint.position == Position(200))
    }

    @Test func whatWasAcknowledgedBeforeAWorkerLeftIsStored() throws {
        let bench = try ConsumerBench()
        try bench.put(ConsumerDefinition(slotCount: 1))
        for number in 0..<4 { try bench.append("\(number)", to: .new()) }
        let worker = try bench.worker("a")
        let got = try worker.take()
        worker.acknowledge(Array(got.prefix(1)))
        worker.acknowledge(Array(got.dropFirst()))
        worker.leave()
        bench.advance(.seconds(1))
        let settledTo = try bench.describe().settledTo
        #expect(settledTo == Position(4))
    }
}
