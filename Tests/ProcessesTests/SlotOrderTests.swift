import FoundationEssentials
import MartletClient
import MartletEventSourcing
import MartletModel
import NIOCore
import Testing

@testable import MartletProcesses

@Suite struct SlotOrderTests {
    private let type = AggregateType("order")

    private func event(_ position: UInt64, key: UInt64 = 1) throws -> ConsumedEvent {
        let aggregate = AggregateName(type: type, id: UUID(high: 1, low: key))
        let event = RecordedEvent(
            position: Position(position), version: Version(1), recordedAt: .now(), aggregate: aggregate,
            event: NewEvent(type: EventType("Placed"), payload: ByteBuffer(string: "{}")))
        return ConsumedEvent(event, slot: 0, key: ConsumerKey(.aggregate, aggregate: aggregate) { _ in nil })
    }

    @Test func eventsComeInTheirOrder() throws {
        var order = SlotOrder(checkpoint: .start)
        let events = [try event(1), try event(2)]
        order.add(events)
        #expect(order.next() == .handle(events[0]))
        #expect(order.next() == .handle(events[1]))
        #expect(order.next() == nil)
    }

    @Test func nothingComesBeforeARejectionIsStored() throws {
        var order = SlotOrder(checkpoint: .start)
        let (first, other) = (try event(1), try event(2, key: 2))
        order.add([first, other])
        #expect(order.next() == .handle(first))
        order.reject(first)
        #expect(order.next() == nil)
        order.note(committed: .start)
        #expect(order.next() == nil)
        order.note(committed: Position(1))
        #expect(order.next() == .handle(other))
    }

    @Test func laterEventsOfARejectedKeyArePassedOverUntilItComesAgain() throws {
        var order = SlotOrder(checkpoint: Position(5))
        let (first, later) = (try event(4), try event(6))
        order.add([first, later])
        #expect(order.next() == .handle(first))
        // Below what is stored: its key is stored as blocked already.
        order.reject(first)
        #expect(order.next() == .passOver(later))
        order.add([first, later])
        #expect(order.next() == .handle(first))
        #expect(order.next() == .handle(later))
    }

    @Test func aStoppedSlotBeginsAnew() throws {
        var order = SlotOrder(checkpoint: .start)
        let (first, later) = (try event(1), try event(2))
        order.add([first, later])
        #expect(order.next() == .handle(first))
        order.reject(first)
        #expect(order.stop() == [later])
        order.add([first, later])
        #expect(order.next() == .handle(first))
        #expect(order.next() == .handle(later))
    }

    @Test func aLostSlotPassesAllOver() throws {
        var order = SlotOrder(checkpoint: .start)
        let (first, later) = (try event(1), try event(2))
        order.add([first])
        order.reject(first)
        order.lose()
        #expect(order.next() == .passOver(first))
        order.add([later])
        #expect(order.next() == .passOver(later))
    }
}

extension ConsumedEvent {
    fileprivate init(_ event: RecordedEvent, slot: Int, key: ConsumerKey) {
        self.init(
            event: event, delivery: ConsumerDelivery(stream: 1, number: event.position.rawValue), slot: slot, epoch: 1,
            attempt: 1, mayBeRepeated: false, key: key, isKeyBlocked: false, creditBytes: 0)
    }
}
