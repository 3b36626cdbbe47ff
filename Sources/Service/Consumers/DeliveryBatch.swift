import MartletModel
import NIOCore

/// Events that go into one message to a worker.
struct DeliveryBatch {
    private var entries = ByteBuffer()
    private var deliveries: [ConsumeMessage.Delivery] = []
    var isEmpty: Bool { deliveries.isEmpty }

    /// Bytes of events that wait to be sent.
    var bytes: Int { entries.readableBytes }

    /// Adds an event.
    mutating func add(_ entry: ByteBuffer, _ delivery: ConsumeMessage.Delivery) {
        entries.writeImmutableBuffer(entry)
        deliveries.append(delivery)
    }

    /// What was added; nil for nothing.
    mutating func takeMessage() -> (message: ConsumeMessage, count: Int)? {
        guard !deliveries.isEmpty else { return nil }
        defer {
            entries = ByteBuffer()
            deliveries = []
        }
        return (.events(entries, deliveries), deliveries.count)
    }
}
