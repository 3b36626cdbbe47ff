import MartletModel
import NIOCore

/// Events that go into one message to a worker, as far as it has granted credit.
struct DeliveryBatch {
    private var entries = ByteBuffer()
    private var deliveries: [ConsumeMessage.Delivery] = []
    private var creditBytes: UInt64
    /// The worker was told that the next event needs so much.
    private var toldBytes: Int?

    init(creditBytes: UInt64) { self.creditBytes = creditBytes }

    /// Bytes of events that wait to be sent.
    var bytes: Int { entries.readableBytes }

    mutating func addCredit(_ bytes: UInt64) {
        let (sum, isTooMuch) = creditBytes.addingReportingOverflow(bytes)
        creditBytes = isTooMuch ? .max : sum
    }

    /// Whether the worker has granted that much.
    func has(credit bytes: Int) -> Bool { UInt64(bytes) <= creditBytes }

    /// What the worker is told, once, where it has granted less than that, and nothing is on its way that it could grant
    /// again.
    mutating func waits(for bytes: Int) -> ConsumeMessage? {
        guard deliveries.isEmpty, toldBytes != bytes else { return nil }
        toldBytes = bytes
        return .waits(creditBytes: UInt64(bytes))
    }

    /// Adds an event for which there is credit.
    mutating func add(_ entry: ByteBuffer, _ delivery: ConsumeMessage.Delivery) {
        entries.writeImmutableBuffer(entry)
        deliveries.append(delivery)
        creditBytes -= min(creditBytes, UInt64(entry.readableBytes))
        toldBytes = nil
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
