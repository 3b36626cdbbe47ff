import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletSession
import NIOCore

/// Recognises the answers that most frames from a server hold, receipts of appends, pages of events and what workers are to
/// handle, in the form in which this code's own server writes them. ``ServerFrameCodec`` goes the long way with what it declines, with the same
/// result.
enum ServerFrameFastPath {
    /// The answer that a message of ServerFrame holds; nil where it is declined.
    static func decode(_ message: ByteBuffer) -> ServerFrame? {
        unsafe message.withUnsafeReadableBytes { unsafe frame($0, message) }
    }

    @unsafe private static func frame(_ bytes: UnsafeRawBufferPointer, _ message: ByteBuffer) -> ServerFrame? {
        var fields = unsafe StrictFields(bytes, 0..<bytes.count)
        guard let callID = fields.number(1 << 3) else { return nil }
        // Keys of fields from 16 on take two bytes.
        if fields.take(0x82, 0x01) {
            guard let content = fields.content(), fields.isAtEnd, let receipt = unsafe receipt(bytes, content) else {
                return nil
            }
            return ServerFrame(CallID(callID), .append(receipt))
        }
        if fields.take(0x8A, 0x01) {
            guard let content = fields.content(), fields.isAtEnd, let page = unsafe page(bytes, content, message) else {
                return nil
            }
            return ServerFrame(CallID(callID), .load(page, nil))
        }
        if fields.take(0x92, 0x01) {
            guard let content = fields.content(), fields.isAtEnd, let page = unsafe page(bytes, content, message) else {
                return nil
            }
            return ServerFrame(CallID(callID), .read(page, nil))
        }
        if fields.take(0xA2, 0x02) {
            guard let content = fields.content(), fields.isAtEnd, let work = unsafe work(bytes, content, message)
            else { return nil }
            return ServerFrame(CallID(callID), work)
        }
        guard fields.take(0x9A, 0x01), let content = fields.content(), fields.isAtEnd,
            let delivery = unsafe delivery(bytes, content, message)
        else { return nil }
        return ServerFrame(CallID(callID), .subscribe(delivery))
    }

    /// More in one frame than are read this way.
    private static let deliveriesMax = 8_192

    /// Events for a worker.
    @unsafe private static func work(
        _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, _ message: ByteBuffer
    ) -> CallMessage? {
        var fields = unsafe StrictFields(bytes, range)
        var tenant: TenantID?
        if fields.take(10 << 3 | 2) {
            guard let content = fields.content(),
                let id = unsafe UUID(bytes: UnsafeRawBufferPointer(rebasing: bytes[content]))
            else { return nil }
            tenant = TenantID(id)
        }
        guard fields.take(3 << 3 | 2), let events = fields.content(), fields.isAtEnd else { return nil }
        fields = unsafe StrictFields(bytes, events)
        var deliveries: [ConsumeMessage.Delivery] = []
        while fields.take(2 << 3 | 2) {
            guard deliveries.count < deliveriesMax, let content = fields.content(),
                let delivery = unsafe workDelivery(bytes, content)
            else { return nil }
            deliveries.append(delivery)
        }
        let entries = fields.rest
        var count = 0
        while fields.take(1 << 3 | 2) {
            guard fields.content() != nil else { return nil }
            count += 1
        }
        guard fields.isAtEnd, count == deliveries.count,
            let page = message.getSlice(at: message.readerIndex + entries.lowerBound, length: entries.count)
        else { return nil }
        let message = ConsumeMessage.events(page, deliveries)
        return tenant.map { .consumeOf($0, message) } ?? .consume(message)
    }

    @unsafe private static func workDelivery(
        _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>
    ) -> ConsumeMessage.Delivery? {
        var fields = unsafe StrictFields(bytes, range)
        guard let number = fields.number(1 << 3), let slot = fields.number(2 << 3).flatMap({ UInt32(exactly: $0) }),
            let attempt = fields.number(3 << 3).flatMap({ UInt32(exactly: $0) }),
            let mayBeRepeated = fields.flag(4 << 3), let key = fields.optional(5 << 3 | 2),
            let isKeyBlocked = fields.flag(6 << 3), fields.isAtEnd
        else { return nil }
        return ConsumeMessage.Delivery(
            number: number, slot: Int(slot), attempt: attempt, mayBeRepeated: mayBeRepeated,
            key: unsafe ConsumerKey(bytes: UnsafeRawBufferPointer(rebasing: bytes[key])), isKeyBlocked: isKeyBlocked)
    }

    /// A message of a subscription that says nothing but its events and the head.
    @unsafe private static func delivery(
        _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, _ message: ByteBuffer
    ) -> SubscriptionMessage? {
        var fields = unsafe StrictFields(bytes, range)
        guard fields.take(2 << 3 | 2), let headRange = fields.content(), let head = unsafe head(bytes, headRange),
            let entries = unsafe page(bytes, fields.rest, message)
        else { return nil }
        return SubscriptionMessage(entries: entries, head: head)
    }

    @unsafe private static func head(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) -> TenantHead? {
        var fields = unsafe StrictFields(bytes, range)
        guard let position = fields.number(1 << 3), let recordedAt = fields.number(2 << 3), fields.isAtEnd else {
            return nil
        }
        return TenantHead(
            position: Position(position), recordedAt: Timestamp(microseconds: Int64(bitPattern: recordedAt)))
    }

    /// The slice of the message, where it is entries and nothing else.
    @unsafe private static func page(
        _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, _ message: ByteBuffer
    ) -> ByteBuffer? {
        var fields = unsafe StrictFields(bytes, range)
        while fields.take(1 << 3 | 2) {
            guard fields.content() != nil else { return nil }
        }
        guard fields.isAtEnd else { return nil }
        return message.getSlice(at: message.readerIndex + range.lowerBound, length: range.count)
    }

    @unsafe private static func receipt(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) -> AppendReceipt? {
        var fields = unsafe StrictFields(bytes, range)
        guard let first = fields.number(2 << 3), let last = fields.number(3 << 3),
            let recordedAt = fields.number(4 << 3), let replayed = fields.flag(5 << 3),
            let checkpointStored = fields.flag(6 << 3)
        else { return nil }
        var aggregates: [AppendedAggregate] = []
        while fields.take(1 << 3 | 2) {
            guard let partRange = fields.content(), let part = unsafe part(bytes, partRange) else { return nil }
            aggregates.append(part)
        }
        guard fields.isAtEnd else { return nil }
        return AppendReceipt(
            aggregates: aggregates, firstPosition: Position(first), lastPosition: Position(last),
            recordedAt: Timestamp(microseconds: Int64(bitPattern: recordedAt)), replayed: replayed,
            checkpointStored: checkpointStored)
    }

    @unsafe private static func part(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) -> AppendedAggregate? {
        var fields = unsafe StrictFields(bytes, range)
        guard fields.take(1 << 3 | 2), let nameRange = fields.content(),
            let name = unsafe AggregateName(canonical: nameRange, of: bytes),
            let first = fields.number(2 << 3), let last = fields.number(3 << 3), let isDue = fields.flag(4 << 3),
            fields.isAtEnd
        else { return nil }
        return AppendedAggregate(
            aggregate: name, firstVersion: Version(first), lastVersion: Version(last), snapshotDue: isDue)
    }
}
