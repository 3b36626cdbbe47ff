import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletSession
import NIOCore

/// Recognises appends that came as this code's own client and protobuf-c write them, in one pass over the frame's bytes.
///
/// It accepts a part of what the long way accepts, and answers the same there: ``ClientFrameCodec`` goes the long way with
/// all that it declines, which then finds out what is wrong, if anything. The events' bodies are slices of the frame, unless
/// a snapshot made it much larger than they are.
enum AppendFastPath {
    /// The append that a message of ClientFrame holds; nil where it is declined.
    static func decode(_ message: ByteBuffer, limits: Limits) -> ClientFrame? {
        unsafe message.withUnsafeReadableBytes { unsafe frame($0, message, limits) }
    }

    /// The append that a message of AppendRequest is; nil where it is declined.
    static func append(_ message: ByteBuffer, limits: Limits) -> AppendRequest? {
        unsafe message.withUnsafeReadableBytes { unsafe request($0, 0..<$0.count, message, limits) }
    }

    @unsafe private static func frame(
        _ bytes: UnsafeRawBufferPointer, _ message: ByteBuffer, _ limits: Limits
    ) -> ClientFrame? {
        var fields = unsafe StrictFields(bytes, 0..<bytes.count)
        guard let callID = fields.number(1 << 3), let timeoutMillis = fields.number(2 << 3),
            timeoutMillis <= UInt64(UInt32.max), let creditBytes = fields.number(3 << 3),
            // The key of field 16.
            fields.take(0x82, 0x01), let content = fields.content(), fields.isAtEnd,
            let request = unsafe request(bytes, content, message, limits)
        else { return nil }
        return ClientFrame(
            CallID(callID), .request(.append(request)), timeoutMillis: UInt32(truncatingIfNeeded: timeoutMillis),
            creditBytes: creditBytes)
    }

    @unsafe private static func request(
        _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, _ message: ByteBuffer, _ limits: Limits
    ) -> AppendRequest? {
        var fields = unsafe StrictFields(bytes, range)
        guard fields.take(1 << 3 | 2), let tenantRange = fields.content(),
            let tenant = unsafe UUID(bytes: UnsafeRawBufferPointer(rebasing: bytes[tenantRange])),
            var includesConflicts = fields.flag(3 << 3)
        else { return nil }
        var aggregates: [AggregateAppend] = []
        var events = CanonicalEvents(limits: limits)
        var eventCount = 0
        while fields.take(2 << 3 | 2) {
            guard let partRange = fields.content(), aggregates.count < limits.aggregatesPerAppendMax,
                let part = unsafe part(
                    bytes, partRange, message, &events, limits, eventsMax: limits.eventsPerAppendMax - eventCount)
            else { return nil }
            eventCount += part.events.count
            aggregates.append(part)
        }
        if !includesConflicts {
            guard let flag = fields.flag(3 << 3) else { return nil }
            includesConflicts = flag
        }
        var checkpoint: AppendCheckpoint?
        if fields.take(4 << 3 | 2) {
            guard let range = fields.content(),
                let read = unsafe self.checkpoint(UnsafeRawBufferPointer(rebasing: bytes[range]), limits)
            else { return nil }
            checkpoint = read
        }
        var schedules: [ScheduleChange] = []
        while fields.take(5 << 3 | 2) {
            guard let range = fields.content(), schedules.count < ScheduleChange.countMax,
                let change = unsafe change(bytes, range, message, &events)
            else { return nil }
            schedules.append(change)
        }
        guard fields.isAtEnd, !aggregates.isEmpty, areDistinct(aggregates, eventCount, schedules) else { return nil }
        var request = AppendRequest(
            tenant: TenantID(tenant), aggregates: aggregates, includeConflictingEvents: includesConflicts,
            checkpoint: checkpoint, schedules: schedules)
        request.settleBuffers()
        return request
    }

    @unsafe private static func part(
        _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, _ message: ByteBuffer, _ events: inout CanonicalEvents,
        _ limits: Limits, eventsMax: Int
    ) -> AggregateAppend? {
        var fields = unsafe StrictFields(bytes, range)
        guard fields.take(1 << 3 | 2), let nameRange = fields.content(),
            let name = unsafe AggregateName(canonical: nameRange, of: bytes),
            fields.take(2 << 3 | 2), let expectedRange = fields.content(),
            let expected = unsafe expected(bytes, expectedRange)
        else { return nil }
        var all: [EncodedEvent] = []
        while fields.take(3 << 3 | 2) {
            guard let eventRange = fields.content(), all.count < eventsMax,
                let event = unsafe events.event(in: eventRange, of: bytes, message: message)
            else { return nil }
            all.append(event)
        }
        var snapshot: NewSnapshot?
        if fields.take(4 << 3 | 2) {
            guard let range = fields.content(),
                let state = unsafe self.snapshot(UnsafeRawBufferPointer(rebasing: bytes[range]), limits)
            else { return nil }
            snapshot = state
        }
        guard fields.isAtEnd, !all.isEmpty else { return nil }
        return AggregateAppend(aggregate: name, expected: expected, events: all, snapshot: snapshot)
    }

    /// A snapshot is one for many events: protobuf-c reads it, in whatever form it is.
    @unsafe private static func snapshot(_ bytes: UnsafeRawBufferPointer, _ limits: Limits) -> NewSnapshot? {
        let arena = DecodingArena(budget: limits.unpackBytesMax(frameBytes: bytes.count))
        return unsafe arena.withAllocator { allocator -> NewSnapshot? in
            guard
                let message = unsafe martlet__v1__new_snapshot__unpack(
                    allocator, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
            else { return nil }
            // An unknown field keeps a write out, with its number.
            guard unsafe message.pointee.base.n_unknown_fields == 0 else { return nil }
            return try? unsafe NewSnapshot(message, name: "snapshot", limits: limits)
        }
    }

    /// A checkpoint is one for many events, too.
    @unsafe private static func checkpoint(_ bytes: UnsafeRawBufferPointer, _ limits: Limits) -> AppendCheckpoint? {
        let arena = DecodingArena(budget: limits.unpackBytesMax(frameBytes: bytes.count))
        return unsafe arena.withAllocator { allocator -> AppendCheckpoint? in
            guard
                let message = unsafe martlet__v1__append_checkpoint__unpack(
                    allocator, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)),
                unsafe message.pointee.base.n_unknown_fields == 0
            else { return nil }
            return try? unsafe AppendCheckpoint(message)
        }
    }

    @unsafe private static func change(
        _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>, _ message: ByteBuffer, _ events: inout CanonicalEvents
    ) -> ScheduleChange? {
        var fields = unsafe StrictFields(bytes, range)
        if fields.take(2 << 3 | 2) {
            guard let keyRange = fields.content(), fields.isAtEnd else { return nil }
            return unsafe key(bytes, keyRange).map { .cancel($0) }
        }
        guard fields.take(1 << 3 | 2), let setRange = fields.content(), fields.isAtEnd else { return nil }
        var set = unsafe StrictFields(bytes, setRange)
        guard set.take(1 << 3 | 2), let keyRange = set.content(), let key = unsafe key(bytes, keyRange),
            let due = set.number(2 << 3), due <= UInt64(Timestamp.latest.microseconds),
            set.take(3 << 3 | 2), let nameRange = set.content(),
            let name = unsafe AggregateName(canonical: nameRange, of: bytes),
            set.take(4 << 3 | 2), let eventRange = set.content(),
            let event = unsafe events.event(in: eventRange, of: bytes, message: message),
            let lateness = set.number(5 << 3), lateness <= NewSchedule.latenessMillisLimit, set.isAtEnd
        else { return nil }
        return .set(
            NewSchedule(
                key, due: Timestamp(microseconds: Int64(due)), aggregate: name, event: event,
                latenessMillisMax: lateness == 0 ? nil : lateness))
    }

    @unsafe private static func key(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) -> ScheduleKey? {
        unsafe ScheduleKey(received: ProtobufCBinaryData(UnsafeRawBufferPointer(rebasing: bytes[range])))
    }

    @unsafe private static func expected(_ bytes: UnsafeRawBufferPointer, _ range: Range<Int>) -> ExpectedVersion? {
        var fields = unsafe StrictFields(bytes, range)
        let expected: ExpectedVersion
        if fields.take(4 << 3) {
            guard let exact = fields.varint() else { return nil }
            expected = .exact(Version(exact))
        } else if fields.flag(1 << 3) == true {
            expected = .any
        } else if fields.flag(2 << 3) == true {
            expected = .none
        } else if fields.flag(3 << 3) == true {
            expected = .exists
        } else {
            return nil
        }
        return fields.isAtEnd ? expected : nil
    }

    /// Whether no aggregate and no schedule is named twice, and no event's id comes twice.
    private static func areDistinct(
        _ aggregates: [AggregateAppend], _ eventCount: Int, _ schedules: [ScheduleChange]
    ) -> Bool {
        if aggregates.count > 1 {
            var names = Set<AggregateName>(minimumCapacity: aggregates.count)
            for part in aggregates where !names.insert(part.aggregate).inserted { return false }
        }
        if schedules.count > 1 {
            var keys = Set<ScheduleKey>(minimumCapacity: schedules.count)
            for change in schedules where !keys.insert(change.key).inserted { return false }
        }
        guard eventCount + schedules.count > 1 else { return true }
        var ids = Set<UUID>(minimumCapacity: eventCount + schedules.count)
        for part in aggregates {
            for event in part.events where !ids.insert(event.id).inserted { return false }
        }
        for case .set(let schedule) in schedules where !ids.insert(schedule.event.id).inserted { return false }
        return true
    }
}

extension AggregateName {
    /// The name that a message in the form of protobuf-c holds in that range; nil where it is another.
    @unsafe init?(canonical range: Range<Int>, of bytes: UnsafeRawBufferPointer) {
        var fields = unsafe StrictFields(bytes, range)
        guard fields.take(1 << 3 | 2), let typeRange = fields.content(),
            let type = unsafe AggregateType(utf8: UnsafeRawBufferPointer(rebasing: bytes[typeRange])),
            fields.take(2 << 3 | 2), let idRange = fields.content(),
            let id = unsafe UUID(bytes: UnsafeRawBufferPointer(rebasing: bytes[idRange])), fields.isAtEnd
        else { return nil }
        self.init(type: type, id: id)
    }
}
