import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore

// The stream of a worker: what it says, and what it is sent.

/// What a worker says on the stream of its call.
enum WorkerReplies {
    @unsafe static func decode(
        _ message: UnsafePointer<Martlet__V1__WorkerReplies>
    ) throws(MartletError) -> [WorkerReply] {
        let count = unsafe message.pointee.n_replies
        guard count > 0 else { throw .invalidField("replies", "is empty: send at least 1 reply") }
        guard count <= WorkerReply.countMax else {
            throw .limitExceeded(
                "replies_max", limit: WorkerReply.countMax, actual: count, "send fewer replies in one frame")
        }
        var replies: [WorkerReply] = []
        replies.reserveCapacity(count)
        for index in 0..<count {
            guard let reply = unsafe message.pointee.replies[index] else { continue }
            replies.append(try unsafe WorkerReply(reply, name: "replies[\(index)]"))
        }
        return replies
    }

    static func encode(_ replies: [WorkerReply], to buffer: inout ByteBuffer) {
        var parts = ByteBuffer()
        for reply in replies {
            var part = ByteBuffer()
            reply.encode(to: &part)
            parts.writeField(1, length: part.readableBytes)
            parts.writeImmutableBuffer(part)
        }
        buffer.writeField(9, length: parts.readableBytes)
        buffer.writeImmutableBuffer(parts)
    }
}

extension WorkerReply {
    @unsafe fileprivate init(
        _ message: UnsafePointer<Martlet__V1__WorkerReply>, name: @autoclosure () -> String
    ) throws(MartletError) {
        switch unsafe message.pointee.reply_case {
        case MARTLET__V1__WORKER_REPLY__REPLY_ACKNOWLEDGE:
            let number = try Self.number(
                unsafe message.pointee.acknowledge.pointee.delivery, name: "\(name()).acknowledge")
            self = .acknowledge(number, upTo: unsafe message.pointee.acknowledge.pointee.up_to != 0)
        case MARTLET__V1__WORKER_REPLY__REPLY_REJECT:
            let rejection = unsafe message.pointee.reject.pointee
            let number = try Self.number(unsafe rejection.delivery, name: "\(name()).reject")
            guard unsafe rejection.reason.len <= Self.reasonBytesMax else {
                throw .limitExceeded(
                    "reject_reason_bytes_max", limit: Self.reasonBytesMax, actual: unsafe rejection.reason.len,
                    "give a shorter reason")
            }
            guard let reason = unsafe rejection.reason.text else {
                throw .invalidField("\(name()).reject.reason", "is not UTF-8: send text")
            }
            self = .reject(number, try unsafe Failure(rejection, name: "\(name()).reject"), reason: reason)
        case MARTLET__V1__WORKER_REPLY__REPLY_ALIVE: self = .alive
        default: throw .invalidField(name(), "says nothing: set acknowledge, reject or alive")
        }
    }

    private static func number(
        _ delivery: UInt64, name: @autoclosure () -> String
    ) throws(MartletError) -> UInt64 {
        guard delivery > 0 else {
            throw .invalidField("\(name()).delivery", "is 0 or missing: deliveries are numbered from 1")
        }
        return delivery
    }

    /// Writes the message.
    fileprivate func encode(to buffer: inout ByteBuffer) {
        switch self {
        case .acknowledge(let number, let upTo):
            unsafe withMessage(Martlet__V1__Acknowledgement(), martlet__v1__acknowledgement__init) { message in
                unsafe message.pointee.delivery = number
                unsafe message.pointee.up_to = upTo ? 1 : 0
                unsafe buffer.writeField(1, &message.pointee.base)
            }
        case .reject(let number, let failure, let reason):
            unsafe withCBytes([reason]) { text in
                unsafe withMessage(Martlet__V1__Rejection(), martlet__v1__rejection__init) { message in
                    unsafe message.pointee.delivery = number
                    switch failure {
                    case .retry(nil):
                        unsafe message.pointee.failure_case = MARTLET__V1__REJECTION__FAILURE_RETRY
                        unsafe message.pointee.retry = 1
                    case .retry(let millis?):
                        unsafe message.pointee.failure_case = MARTLET__V1__REJECTION__FAILURE_RETRY_AFTER_MILLIS
                        unsafe message.pointee.retry_after_millis = millis
                    case .park:
                        unsafe message.pointee.failure_case = MARTLET__V1__REJECTION__FAILURE_PARK
                        unsafe message.pointee.park = 1
                    case .stop:
                        unsafe message.pointee.failure_case = MARTLET__V1__REJECTION__FAILURE_STOP
                        unsafe message.pointee.stop = 1
                    }
                    unsafe message.pointee.reason = unsafe text[0]
                    unsafe buffer.writeField(2, &message.pointee.base)
                }
            }
        case .alive: buffer.writeField(3, length: 0)
        }
    }
}

extension WorkerReply.Failure {
    @unsafe fileprivate init(
        _ message: Martlet__V1__Rejection, name: @autoclosure () -> String
    ) throws(MartletError) {
        switch unsafe message.failure_case {
        case MARTLET__V1__REJECTION__FAILURE_RETRY:
            try requireSet(unsafe message.retry, "\(name()).retry")
            self = .retry(afterMillis: nil)
        case MARTLET__V1__REJECTION__FAILURE_RETRY_AFTER_MILLIS:
            self = .retry(afterMillis: unsafe message.retry_after_millis)
        case MARTLET__V1__REJECTION__FAILURE_PARK:
            try requireSet(unsafe message.park, "\(name()).park")
            self = .park
        case MARTLET__V1__REJECTION__FAILURE_STOP:
            try requireSet(unsafe message.stop, "\(name()).stop")
            self = .stop
        default:
            throw .invalidField(
                name(), "does not say what becomes of the delivery: set retry, retry_after_millis, park or stop")
        }
    }
}

// MARK: What a worker is sent

extension ConsumeMessage {
    /// A message to a worker as its call gets it; nil where it cannot be read.
    ///
    /// - Parameter entries: the events of the frame.
    @unsafe static func received(
        _ message: UnsafePointer<Martlet__V1__ConsumeResponse>, entries: ByteBuffer
    ) -> CallMessage? {
        guard let content = unsafe ConsumeMessage(message, entries: entries) else { return nil }
        if unsafe message.pointee.tenant.len == 0 {
            if case .left = content { return nil }
            return .consume(content)
        }
        guard let tenant = unsafe message.pointee.tenant.uuid else { return nil }
        if case .joined = content { return nil }
        return .consumeOf(TenantID(tenant), content)
    }

    /// - Parameter entries: the events of the frame.
    @unsafe private init?(_ message: UnsafePointer<Martlet__V1__ConsumeResponse>, entries: ByteBuffer) {
        switch unsafe message.pointee.message_case {
        case MARTLET__V1__CONSUME_RESPONSE__MESSAGE_ASSIGNED:
            let assigned = unsafe message.pointee.assigned.pointee
            var slots: [Slot] = []
            for index in unsafe 0..<assigned.n_slots {
                guard let slot = unsafe assigned.slots[index]?.pointee,
                    let checkpoint = unsafe Checkpoint(received: slot.checkpoint)
                else { return nil }
                slots.append(Slot(number: Int(unsafe slot.slot), epoch: unsafe slot.epoch, checkpoint: checkpoint))
            }
            self = .assigned(slots)
        case MARTLET__V1__CONSUME_RESPONSE__MESSAGE_REVOKED:
            let revoked = unsafe message.pointee.revoked.pointee
            self = .revoked(unsafe UnsafeBufferPointer(start: revoked.slots, count: revoked.n_slots).map { Int($0) })
        case MARTLET__V1__CONSUME_RESPONSE__MESSAGE_EVENTS:
            guard let deliveries = unsafe Self.deliveries(message.pointee.events),
                deliveries.count == Self.count(entries)
            else { return nil }
            self = .events(entries, deliveries)
        case MARTLET__V1__CONSUME_RESPONSE__MESSAGE_COMMITTED:
            let committed = unsafe message.pointee.committed.pointee
            guard let checkpoint = unsafe Checkpoint(received: committed.checkpoint) else { return nil }
            self = .committed(slot: Int(unsafe committed.slot), checkpoint)
        case MARTLET__V1__CONSUME_RESPONSE__MESSAGE_STOPPED:
            let stopped = unsafe message.pointee.stopped.pointee
            guard let reason = unsafe stopped.reason.text else { return nil }
            self = .stopped(slot: Int(unsafe stopped.slot), reason: reason)
        case MARTLET__V1__CONSUME_RESPONSE__MESSAGE_PAUSED:
            self = .paused(unsafe message.pointee.paused.pointee.paused != 0)
        case MARTLET__V1__CONSUME_RESPONSE__MESSAGE_WAITING:
            self = .waits(creditBytes: unsafe message.pointee.waiting.pointee.credit_bytes)
        case MARTLET__V1__CONSUME_RESPONSE__MESSAGE_JOINED:
            let joined = unsafe message.pointee.joined.pointee
            var tenants: [TenantID] = []
            for index in unsafe 0..<joined.n_tenants {
                guard let tenant = unsafe joined.tenants[index].uuid else { return nil }
                tenants.append(TenantID(tenant))
            }
            self = .joined(tenants)
        case MARTLET__V1__CONSUME_RESPONSE__MESSAGE_LEFT:
            guard let status = unsafe message.pointee.left.pointee.status,
                let error = unsafe MartletError(UnsafePointer(status))
            else { return nil }
            self = .left(error)
        default: return nil
        }
    }

    @unsafe private static func deliveries(
        _ message: UnsafePointer<Martlet__V1__EventsDelivered>
    ) -> [Delivery]? {
        let count = unsafe message.pointee.n_deliveries
        var deliveries: [Delivery] = []
        deliveries.reserveCapacity(count)
        for index in 0..<count {
            guard let delivery = unsafe message.pointee.deliveries[index]?.pointee else { return nil }
            deliveries.append(
                Delivery(
                    number: unsafe delivery.delivery, slot: Int(unsafe delivery.slot), attempt: unsafe delivery.attempt,
                    mayBeRepeated: unsafe delivery.may_be_repeated != 0,
                    key: unsafe ConsumerKey(bytes: delivery.key.bytes),
                    isKeyBlocked: unsafe delivery.key_blocked != 0))
        }
        return deliveries
    }

    /// How many events there are; nil where the entries cannot be told apart.
    private static func count(_ entries: ByteBuffer) -> Int? {
        var rest = entries
        var count = 0
        do throws(RecordFault) {
            while try RecordedEntries.nextRecord(of: &rest) != nil { count += 1 }
            return count
        } catch { return nil }
    }

    /// - Parameter tenant: on a stream over many tenants, whose consumer it is about.
    func encode(of tenant: TenantID? = nil, to buffer: inout ByteBuffer, _ end: inout FrameEnd) {
        if case .events(let entries, let deliveries) = self {
            return Self.encode(entries, deliveries, of: tenant, to: &buffer, &end)
        }
        var part = ByteBuffer()
        if let tenant { part.writeTenant(tenant, field: 10) }
        encodePart(to: &part)
        buffer.writeField(36, length: part.readableBytes)
        buffer.writeImmutableBuffer(part)
    }

    /// Deliveries come by the thousand: they are written where they stay, with the bytes that protobuf-c would write.
    private static func encode(
        _ entries: ByteBuffer, _ deliveries: [Delivery], of tenant: TenantID?, to buffer: inout ByteBuffer,
        _ end: inout FrameEnd
    ) {
        let deliveryBytes = deliveries.reduce(0) { $0 + FieldWriter.size(ofContent: $1.messageBytes) }
        let eventsBytes = deliveryBytes + entries.readableBytes
        let tenantBytes = tenant.map { _ in FieldWriter.size(ofContent: 16) } ?? 0
        let messageBytes = FieldWriter.size(ofContent: eventsBytes) + tenantBytes
        buffer.writeField(36, length: messageBytes)
        if let tenant { buffer.writeTenant(tenant, field: 10) }
        buffer.writeFields(messageBytes - tenantBytes - entries.readableBytes) { writer in
            writer.byte(3 << 3 | 2)
            writer.varint(UInt64(eventsBytes))
            for delivery in deliveries {
                writer.byte(2 << 3 | 2)
                writer.varint(UInt64(delivery.messageBytes))
                delivery.write(to: &writer)
            }
        }
        if !end.detaches(entries) { buffer.writeImmutableBuffer(entries) }
    }

    /// Writes the message's one field.
    private func encodePart(to buffer: inout ByteBuffer) {
        switch self {
        case .assigned(let slots):
            var parts = ByteBuffer()
            for slot in slots { slot.encode(to: &parts) }
            buffer.writeField(1, length: parts.readableBytes)
            buffer.writeImmutableBuffer(parts)
        case .revoked(let slots):
            var numbers = slots.map { UInt32(clamping: $0) }
            unsafe numbers.withUnsafeMutableBufferPointer { numbers in
                unsafe withMessage(Martlet__V1__SlotsRevoked(), martlet__v1__slots_revoked__init) { message in
                    unsafe message.pointee.n_slots = numbers.count
                    unsafe message.pointee.slots = numbers.baseAddress
                    unsafe buffer.writeField(2, &message.pointee.base)
                }
            }
        case .committed(let slot, let checkpoint):
            unsafe checkpoint.withMessage { checkpoint in
                unsafe withMessage(Martlet__V1__SlotCommitted(), martlet__v1__slot_committed__init) { message in
                    unsafe message.pointee.slot = UInt32(clamping: slot)
                    unsafe message.pointee.checkpoint = unsafe checkpoint
                    unsafe buffer.writeField(4, &message.pointee.base)
                }
            }
        case .stopped(let slot, let reason):
            unsafe withCBytes([reason]) { text in
                unsafe withMessage(Martlet__V1__SlotStopped(), martlet__v1__slot_stopped__init) { message in
                    unsafe message.pointee.slot = UInt32(clamping: slot)
                    unsafe message.pointee.reason = unsafe text[0]
                    unsafe buffer.writeField(5, &message.pointee.base)
                }
            }
        case .paused(let isPaused):
            unsafe withMessage(Martlet__V1__ConsumerPaused(), martlet__v1__consumer_paused__init) { message in
                unsafe message.pointee.paused = isPaused ? 1 : 0
                unsafe buffer.writeField(6, &message.pointee.base)
            }
        case .waits(let creditBytes):
            unsafe withMessage(Martlet__V1__WaitingForCredit(), martlet__v1__waiting_for_credit__init) { message in
                unsafe message.pointee.credit_bytes = creditBytes
                unsafe buffer.writeField(7, &message.pointee.base)
            }
        case .joined(let tenants):
            var parts = ByteBuffer()
            for tenant in tenants { parts.writeTenant(tenant, field: 1) }
            buffer.writeField(8, length: parts.readableBytes)
            buffer.writeImmutableBuffer(parts)
        case .left(let error):
            var part = ByteBuffer()
            error.encode(field: 1, to: &part)
            buffer.writeField(9, length: part.readableBytes)
            buffer.writeImmutableBuffer(part)
        case .events: preconditionFailure("events are written where they stay")
        }
    }
}

extension ByteBuffer {
    /// Writes a field that holds a tenant's id.
    mutating func writeTenant(_ tenant: TenantID, field number: UInt32) {
        writeField(number, length: 16)
        writeBytes(tenant.uuid.bytes)
    }
}

extension ConsumeMessage.Slot {
    fileprivate func encode(to buffer: inout ByteBuffer) {
        unsafe checkpoint.withMessage { checkpoint in
            unsafe withMessage(Martlet__V1__AssignedSlot(), martlet__v1__assigned_slot__init) { message in
                unsafe message.pointee.slot = UInt32(clamping: number)
                unsafe message.pointee.epoch = epoch
                unsafe message.pointee.checkpoint = unsafe checkpoint
                unsafe buffer.writeField(1, &message.pointee.base)
            }
        }
    }
}

extension ConsumeMessage.Delivery {
    /// Length of the message.
    fileprivate var messageBytes: Int {
        FieldWriter.size(of: number) + FieldWriter.size(of: UInt64(clamping: slot))
            + FieldWriter.size(of: UInt64(attempt)) + (mayBeRepeated ? 2 : 0)
            + FieldWriter.size(ofContent: key.bytes.count) + (isKeyBlocked ? 2 : 0)
    }

    fileprivate func write(to writer: inout FieldWriter) {
        writer.field(1 << 3, number)
        writer.field(2 << 3, UInt64(clamping: slot))
        writer.field(3 << 3, UInt64(attempt))
        writer.field(4 << 3, mayBeRepeated ? 1 : 0)
        writer.byte(5 << 3 | 2)
        writer.varint(UInt64(key.bytes.count))
        unsafe key.bytes.withUnsafeBytes { unsafe writer.bytes($0) }
        writer.field(6 << 3, isKeyBlocked ? 1 : 0)
    }
}
