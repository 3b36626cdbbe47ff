import MartletModel
import NIOCore

/// Events that go into one message to a worker.
struct DeliveryBatch {
    private var entries = ByteBuffer()
    private var deliveries: [ConsumeMessage.Delivery] = []
    /// How much the last message had: the next one has about as much.
    private var last = (bytes: 0, count: 0)
    var isEmpty: Bool { deliveries.isEmpty }

    /// Bytes of events that wait to be sent.
    var bytes: Int { entries.readableBytes }

    /// Adds an event.
    mutating func add(_ entry: ByteBuffer, _ delivery: ConsumeMessage.Delivery) {
        if deliveries.isEmpty {
            entries.reserveCapacity(max(last.bytes, entry.readableBytes))
            deliveries.reserveCapacity(last.count)
        }
        entries.writeImmutableBuffer(entry)
        deliveries.append(delivery)
    }

    /// What was added; nil for nothing.
    mutating func takeMessage() -> (message: ConsumeMessage, count: Int)? {
        guard !deliveries.isEmpty else { return nil }
        last = (entries.readableBytes, deliveries.count)
        // It may wait long for the socket.
        if entries.storageCapacity > 2 * entries.readableBytes { entries = ByteBuffer(buffer: entries) }
        defer {
            entries = ByteBuffer()
            deliveries = []
        }
        return (.events(entries, deliveries), deliveries.count)
    }
}
