import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore

/// Answers about consumers.
enum ConsumerAnswers {
    /// The answer that a frame holds; nil where it holds another, or one that cannot be read.
    @unsafe static func decode(
        _ frame: UnsafeMutablePointer<Martlet__V1__ServerFrame>, entries: ByteBuffer
    ) -> CallMessage? {
        switch unsafe frame.pointee.body_case {
        case MARTLET__V1__SERVER_FRAME__BODY_PUT_CONSUMER:
            let message = unsafe frame.pointee.put_consumer.pointee
            return .consumerPut(
                PutConsumerReceipt(revision: unsafe message.revision, isNew: unsafe message.is_new != 0))
        case MARTLET__V1__SERVER_FRAME__BODY_GET_CONSUMER:
            return unsafe ConsumerDescription(frame.pointee.get_consumer).map { .consumer($0) }
        case MARTLET__V1__SERVER_FRAME__BODY_LIST_CONSUMERS:
            return unsafe consumers(frame.pointee.list_consumers).map { .consumers($0) }
        case MARTLET__V1__SERVER_FRAME__BODY_DELETE_CONSUMER: return .consumerDeleted
        case MARTLET__V1__SERVER_FRAME__BODY_RESET_CONSUMER:
            let message = unsafe frame.pointee.reset_consumer.pointee
            return .consumerReset(
                ResetConsumerReceipt(
                    after: Position(unsafe message.after_position), before: Position(unsafe message.before_position)))
        case MARTLET__V1__SERVER_FRAME__BODY_LIST_BLOCKED_KEYS:
            return unsafe keys(frame.pointee.list_blocked_keys).map { .blockedKeys($0) }
        case MARTLET__V1__SERVER_FRAME__BODY_UNBLOCK_KEYS:
            return .keysUnblocked(unsafe frame.pointee.unblock_keys.pointee.unblocked)
        case MARTLET__V1__SERVER_FRAME__BODY_AWAIT_CONSUMER:
            return .consumerReached(Position(unsafe frame.pointee.await_consumer.pointee.position))
        case MARTLET__V1__SERVER_FRAME__BODY_CONSUME:
            return unsafe ConsumeMessage.received(frame.pointee.consume, entries: entries)
        default: return nil
        }
    }

    @unsafe private static func consumers(
        _ message: UnsafePointer<Martlet__V1__ListConsumersResponse>
    ) -> [ListedConsumer]? {
        var all: [ListedConsumer] = []
        for index in unsafe 0..<message.pointee.n_consumers {
            guard let listed = unsafe message.pointee.consumers[index]?.pointee,
                let name = unsafe ConsumerName(received: listed.consumer),
                let definition = unsafe ConsumerDefinition(received: listed.definition)
            else { return nil }
            all.append(ListedConsumer(name: name, revision: unsafe listed.revision, definition: definition))
        }
        return all
    }

    @unsafe private static func keys(_ message: UnsafePointer<Martlet__V1__ListBlockedKeysResponse>) -> [ListedKey]? {
        var all: [ListedKey] = []
        for index in unsafe 0..<message.pointee.n_keys {
            guard let key = unsafe message.pointee.keys[index], let listed = unsafe ListedKey(key) else { return nil }
            all.append(listed)
        }
        return all
    }

    static func encode(_ consumers: [ListedConsumer], to buffer: inout ByteBuffer) {
        var parts = ByteBuffer()
        for consumer in consumers {
            unsafe withCBytes([consumer.name.text]) { text in
                unsafe consumer.definition.withMessage { definition in
                    unsafe withMessage(Martlet__V1__ListedConsumer(), martlet__v1__listed_consumer__init) { message in
                        unsafe message.pointee.consumer = unsafe text[0]
                        unsafe message.pointee.revision = consumer.revision
                        unsafe message.pointee.definition = unsafe definition
                        unsafe parts.writeField(1, &message.pointee.base)
                    }
                }
            }
        }
        buffer.writeField(30, length: parts.readableBytes)
        buffer.writeImmutableBuffer(parts)
    }

    static func encodeDeleted(to buffer: inout ByteBuffer) { buffer.writeField(31, length: 0) }

    static func encode(_ keys: [ListedKey], to buffer: inout ByteBuffer) {
        var parts = ByteBuffer()
        for key in keys { key.encode(1, to: &parts) }
        buffer.writeField(33, length: parts.readableBytes)
        buffer.writeImmutableBuffer(parts)
    }

    static func encode(unblocked: UInt64, to buffer: inout ByteBuffer) {
        unsafe withMessage(Martlet__V1__UnblockKeysResponse(), martlet__v1__unblock_keys_response__init) { message in
            unsafe message.pointee.unblocked = unblocked
            unsafe buffer.writeField(34, &message.pointee.base)
        }
    }

    static func encode(reached position: Position, to buffer: inout ByteBuffer) {
        unsafe withMessage(Martlet__V1__AwaitConsumerResponse(), martlet__v1__await_consumer_response__init) {
            message in
            unsafe message.pointee.position = position.rawValue
            unsafe buffer.writeField(35, &message.pointee.base)
        }
    }
}

extension PutConsumerReceipt {
    func encode(to buffer: inout ByteBuffer) {
        unsafe withMessage(Martlet__V1__PutConsumerResponse(), martlet__v1__put_consumer_response__init) { message in
            unsafe message.pointee.revision = revision
            unsafe message.pointee.is_new = isNew ? 1 : 0
            unsafe buffer.writeField(28, &message.pointee.base)
        }
    }
}

extension ResetConsumerReceipt {
    func encode(to buffer: inout ByteBuffer) {
        unsafe withMessage(Martlet__V1__ResetConsumerResponse(), martlet__v1__reset_consumer_response__init) {
            message in
            unsafe message.pointee.after_position = after.rawValue
            unsafe message.pointee.before_position = before.rawValue
            unsafe buffer.writeField(32, &message.pointee.base)
        }
    }
}

// MARK: How a consumer is

extension ConsumerDescription {
    @unsafe init?(_ message: UnsafePointer<Martlet__V1__GetConsumerResponse>) {
        guard let name = unsafe ConsumerName(received: message.pointee.consumer),
            let definition = unsafe ConsumerDefinition(received: message.pointee.definition),
            let checkpoint = unsafe Checkpoint(received: message.pointee.checkpoint)
        else { return nil }
        var slots: [Slot] = []
        for index in unsafe 0..<message.pointee.n_slots {
            guard let slot = unsafe message.pointee.slots[index].flatMap({ unsafe Slot($0) }) else { return nil }
            slots.append(slot)
        }
        var workers: [WorkerName] = []
        for index in unsafe 0..<message.pointee.n_workers {
            guard let worker = unsafe WorkerName(received: message.pointee.workers[index]) else { return nil }
            workers.append(worker)
        }
        var lastFailure: ListedKey?
        if let key = unsafe message.pointee.last_failure {
            guard let listed = unsafe ListedKey(key) else { return nil }
            lastFailure = listed
        }
        var stopped: [StoppedSlot] = []
        for index in unsafe 0..<message.pointee.n_stopped_slots {
            guard let slot = unsafe message.pointee.stopped_slots[index]?.pointee, let reason = unsafe slot.reason.text
            else { return nil }
            stopped.append(StoppedSlot(number: Int(unsafe slot.slot), reason: reason))
        }
        self.init(
            name: name, definition: definition, revision: unsafe message.pointee.revision,
            head: unsafe TenantHead(message.pointee.head), checkpoint: checkpoint, slots: slots, workers: workers,
            blockedKeyCount: Int(unsafe message.pointee.blocked_keys),
            settledTo: Position(unsafe message.pointee.settled_to_position),
            oldest: unsafe message.pointee.oldest.map { oldest in
                unsafe OldestEvent(
                    position: Position(oldest.pointee.position),
                    recordedAt: Timestamp(microseconds: oldest.pointee.recorded_at_micros))
            }, lastFailure: lastFailure, stoppedSlots: stopped)
    }

    func encode(to buffer: inout ByteBuffer) {
        var tail = ByteBuffer()
        oldest?.encode(to: &tail)
        for slot in slots { slot.encode(to: &tail) }
        for worker in workers {
            tail.writeField(10, length: worker.text.utf8.count)
            tail.writeString(worker.text)
        }
        lastFailure?.encode(11, to: &tail)
        for slot in stoppedSlots { slot.encode(to: &tail) }
        unsafe withCBytes([name.text]) { text in
            unsafe definition.withMessage { definition in
                unsafe head.withMessage { head in
                    unsafe checkpoint.withMessage { checkpoint in
                        unsafe withMessage(Martlet__V1__GetConsumerResponse(), martlet__v1__get_consumer_response__init)
                        { message in
                            unsafe message.pointee.consumer = unsafe text[0]
                            unsafe message.pointee.definition = unsafe definition
                            unsafe message.pointee.revision = revision
                            unsafe message.pointee.head = unsafe head
                            unsafe message.pointee.checkpoint = unsafe checkpoint
                            unsafe message.pointee.blocked_keys = UInt32(clamping: blockedKeyCount)
                            unsafe message.pointee.settled_to_position = settledTo.rawValue
                            unsafe buffer.writeField(29, &message.pointee.base, tail: tail)
                        }
                    }
                }
            }
        }
    }
}

extension ConsumerDescription.OldestEvent {
    fileprivate func encode(to buffer: inout ByteBuffer) {
        unsafe withMessage(Martlet__V1__OldestEvent(), martlet__v1__oldest_event__init) { message in
            unsafe message.pointee.position = position.rawValue
            unsafe message.pointee.recorded_at_micros = recordedAt.microseconds
            unsafe buffer.writeField(8, &message.pointee.base)
        }
    }
}

extension ConsumerDescription.Slot {
    @unsafe fileprivate init?(_ message: UnsafePointer<Martlet__V1__ConsumerSlot>) {
        guard let checkpoint = unsafe Checkpoint(received: message.pointee.checkpoint) else { return nil }
        var worker: WorkerName?
        if unsafe message.pointee.worker.len > 0 {
            guard let name = unsafe WorkerName(received: message.pointee.worker) else { return nil }
            worker = name
        }
        self.init(
            number: Int(unsafe message.pointee.slot), epoch: unsafe message.pointee.epoch, checkpoint: checkpoint,
            worker: worker)
    }

    fileprivate func encode(to buffer: inout ByteBuffer) {
        unsafe withCBytes([worker?.text ?? ""]) { text in
            unsafe checkpoint.withMessage { checkpoint in
                unsafe withMessage(Martlet__V1__ConsumerSlot(), martlet__v1__consumer_slot__init) { message in
                    unsafe message.pointee.slot = UInt32(clamping: number)
                    unsafe message.pointee.epoch = epoch
                    unsafe message.pointee.checkpoint = unsafe checkpoint
                    unsafe message.pointee.worker = unsafe text[0]
                    unsafe buffer.writeField(9, &message.pointee.base)
                }
            }
        }
    }
}

extension ConsumerDescription.StoppedSlot {
    fileprivate func encode(to buffer: inout ByteBuffer) {
        unsafe withCBytes([reason]) { text in
            unsafe withMessage(Martlet__V1__SlotStopped(), martlet__v1__slot_stopped__init) { message in
                unsafe message.pointee.slot = UInt32(clamping: number)
                unsafe message.pointee.reason = unsafe text[0]
                unsafe buffer.writeField(12, &message.pointee.base)
            }
        }
    }
}

// MARK: Blocked keys

extension BlockedKey {
    @unsafe fileprivate init?(_ message: UnsafePointer<Martlet__V1__BlockedKey>) {
        guard let first = unsafe Checkpoint(received: message.pointee.first),
            let reason = unsafe message.pointee.reason.text
        else { return nil }
        let until: Until
        switch unsafe message.pointee.until_case {
        case MARTLET__V1__BLOCKED_KEY__UNTIL_RETRY_AT_MICROS:
            until = .retry(at: Timestamp(microseconds: unsafe message.pointee.retry_at_micros))
        case MARTLET__V1__BLOCKED_KEY__UNTIL_PARKED: until = .asked
        default: return nil
        }
        self.init(
            first: first, until: until, reason: reason, tries: unsafe message.pointee.tries,
            since: Timestamp(microseconds: unsafe message.pointee.since_micros))
        isFirstHandled = unsafe message.pointee.first_handled != 0
    }
}

extension ListedKey {
    @unsafe fileprivate init?(_ message: UnsafePointer<Martlet__V1__BlockedKey>) {
        guard let place = unsafe KeyPlace(received: message.pointee.place), let blocked = unsafe BlockedKey(message)
        else { return nil }
        self.init(place: place, blocked: blocked)
    }

    /// Writes it as the field of that number.
    fileprivate func encode(_ field: UInt32, to buffer: inout ByteBuffer) {
        unsafe withCBytes([blocked.reason]) { text in
            unsafe place.withMessage { place in
                unsafe blocked.first.withMessage { first in
                    unsafe withMessage(Martlet__V1__BlockedKey(), martlet__v1__blocked_key__init) { message in
                        unsafe message.pointee.place = unsafe place
                        unsafe message.pointee.first = unsafe first
                        unsafe message.pointee.first_handled = blocked.isFirstHandled ? 1 : 0
                        switch blocked.until {
                        case .retry(let time):
                            unsafe message.pointee.until_case = MARTLET__V1__BLOCKED_KEY__UNTIL_RETRY_AT_MICROS
                            unsafe message.pointee.retry_at_micros = time.microseconds
                        case .asked:
                            unsafe message.pointee.until_case = MARTLET__V1__BLOCKED_KEY__UNTIL_PARKED
                            unsafe message.pointee.parked = 1
                        }
                        unsafe message.pointee.reason = unsafe text[0]
                        unsafe message.pointee.tries = blocked.tries
                        unsafe message.pointee.since_micros = blocked.since.microseconds
                        unsafe buffer.writeField(field, &message.pointee.base)
                    }
                }
            }
        }
    }
}
