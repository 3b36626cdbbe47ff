import CMartletProtos
import FoundationEssentials
public import MartletModel
import MartletRecordCodec
public import MartletSession
public import NIOCore

extension ServerFrameCodec {
    /// Decodes a message that ``FrameDecoder`` cut out. Events stay encoded, as slices of it.
    /// - Throws: what makes the frame unreadable.
    public static func decode(_ message: ByteBuffer, limits: Limits) throws(MartletError) -> ServerFrame {
        if let answer = ServerFrameFastPath.decode(message) { return answer }
        return try unpack(message, limits: limits)
    }

    /// Decodes a message by protobuf-c, whatever it holds. ``decode(_:limits:)`` answers the same.
    static func unpack(_ message: ByteBuffer, limits: Limits) throws(MartletError) -> ServerFrame {
        let bytes = message.readableBytes
        guard let (head, entries) = Entries.split(message) else {
            throw .undecodable("ServerFrame", bytes: bytes, budget: 0, wasExhausted: false)
        }
        let plain = WireForm.ofServerFrame(head).mustRewrite ? WireForm.plainServerFrame(head) : head
        let budget = limits.decodeBytesMax(frameBytes: head.readableBytes)
        let arena = DecodingArena(budget: limits.unpackBytesMax(frameBytes: head.readableBytes))
        let frame = unsafe plain.withUnsafeReadableBytes { bytes in
            unsafe arena.withAllocator { allocator -> ServerFrame? in
                guard
                    let frame = unsafe martlet__v1__server_frame__unpack(
                        allocator, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)),
                    let body = unsafe body(of: frame, entries: entries, limits: limits)
                else { return nil }
                return ServerFrame(CallID(unsafe frame.pointee.call_id), body)
            }
        }
        guard let frame else {
            throw .undecodable("ServerFrame", bytes: bytes, budget: budget, wasExhausted: arena.wasExhausted)
        }
        return frame
    }

    @unsafe private static func body(
        of frame: UnsafeMutablePointer<Martlet__V1__ServerFrame>, entries: ByteBuffer, limits: Limits
    ) -> ServerFrame.Body? {
        switch unsafe frame.pointee.body_case {
        case MARTLET__V1__SERVER_FRAME__BODY_WELCOME:
            return unsafe Welcome(frame.pointee.welcome, local: limits).map { .welcome($0) }
        case MARTLET__V1__SERVER_FRAME__BODY_STATUS:
            if unsafe frame.pointee.status.pointee.code == StatusCode.ok.rawValue { return .status(nil) }
            return unsafe MartletError(frame.pointee.status).map { .status($0) }
        case MARTLET__V1__SERVER_FRAME__BODY_GO_AWAY:
            return unsafe .goAway(
                lastCallID: CallID(frame.pointee.go_away.pointee.last_call_id),
                message: frame.pointee.go_away.pointee.message.text ?? "")
        case MARTLET__V1__SERVER_FRAME__BODY_PING: return unsafe .ping(frame.pointee.ping.pointee.token)
        case MARTLET__V1__SERVER_FRAME__BODY_PONG: return unsafe .pong(frame.pointee.pong.pointee.token)
        default: return unsafe message(of: frame, entries: entries, limits: limits).map { .message($0) }
        }
    }

    @unsafe private static func message(
        of frame: UnsafeMutablePointer<Martlet__V1__ServerFrame>, entries: ByteBuffer, limits: Limits
    ) -> CallMessage? {
        switch unsafe frame.pointee.body_case {
        case MARTLET__V1__SERVER_FRAME__BODY_APPEND:
            return unsafe AppendReceipt(frame.pointee.append).map { .append($0) }
        case MARTLET__V1__SERVER_FRAME__BODY_LOAD:
            let waiting = unsafe frame.pointee.load.pointee.waiting_for_credit_bytes
            if unsafe waiting > 0 && entries.readableBytes == 0 && frame.pointee.load.pointee.view == nil {
                return .loadWaits(creditBytes: waiting)
            }
            var view = unsafe LoadView(frame.pointee.load.pointee.view)
            if unsafe frame.pointee.load.pointee.snapshot != nil {
                guard view != nil, let snapshot = unsafe Snapshot(frame.pointee.load.pointee.snapshot) else {
                    return nil
                }
                view?.snapshot = snapshot
            }
            return .load(entries, view)
        case MARTLET__V1__SERVER_FRAME__BODY_READ:
            let waiting = unsafe frame.pointee.read.pointee.waiting_for_credit_bytes
            if unsafe waiting > 0 && entries.readableBytes == 0 && frame.pointee.read.pointee.view == nil {
                return .readWaits(creditBytes: waiting)
            }
            return unsafe .read(entries, ReadView(frame.pointee.read.pointee.view))
        case MARTLET__V1__SERVER_FRAME__BODY_SUBSCRIBE:
            return unsafe .subscribe(SubscriptionMessage(frame.pointee.subscribe, entries: entries))
        case MARTLET__V1__SERVER_FRAME__BODY_GET_HEAD:
            return unsafe .head(TenantHead(frame.pointee.get_head.pointee.head))
        case MARTLET__V1__SERVER_FRAME__BODY_GET_STATUS:
            return unsafe ServerStatus(frame.pointee.get_status).map { .serverStatus($0) }
        case MARTLET__V1__SERVER_FRAME__BODY_GET_SERVER_INFO:
            return unsafe ServerInfo(frame.pointee.get_server_info, local: limits).map { .serverInfo($0) }
        case MARTLET__V1__SERVER_FRAME__BODY_SAVE_SNAPSHOT:
            return unsafe .snapshotSaved(SaveSnapshotReceipt(frame.pointee.save_snapshot))
        case MARTLET__V1__SERVER_FRAME__BODY_LOAD_SNAPSHOT:
            return unsafe LoadedSnapshot(frame.pointee.load_snapshot).map { .snapshot($0) }
        case MARTLET__V1__SERVER_FRAME__BODY_LIST_SNAPSHOTS:
            return unsafe SnapshotListMessage.decode(frame.pointee.list_snapshots).map { .snapshots($0) }
        case MARTLET__V1__SERVER_FRAME__BODY_DELETE_SNAPSHOTS:
            return unsafe .snapshotsDeleted(frame.pointee.delete_snapshots.pointee.deleted)
        case MARTLET__V1__SERVER_FRAME__BODY_PUT_SETTINGS:
            return unsafe .settingsPut(revision: frame.pointee.put_settings.pointee.revision)
        case MARTLET__V1__SERVER_FRAME__BODY_GET_SETTINGS:
            return unsafe .settings(
                SettingsDocument(
                    document: ByteBuffer(bytes: frame.pointee.get_settings.pointee.document.bytes),
                    revision: frame.pointee.get_settings.pointee.revision))
        default: return unsafe ConsumerAnswers.decode(frame, entries: entries) ?? ScheduleAnswers.decode(frame)
        }
    }
}

/// Takes the events out of a frame that streams them, so that they stay encoded.
private enum Entries {
    private enum Level {
        /// A frame.
        case frame
        /// What a worker is sent.
        case consume
        /// A message whose field 1 is events.
        case events

        /// What a field of that number holds; nil where no events are in it.
        func inside(_ number: UInt32) -> Level? {
            switch (self, number) {
            case (.frame, 17...19), (.consume, 3): .events
            case (.frame, 36): .consume
            default: nil
            }
        }
    }

    /// The frame without its events, and its events as entries; nil where the bytes are no message.
    static func split(_ message: ByteBuffer) -> (head: ByteBuffer, entries: ByteBuffer)? {
        var entries = ByteBuffer()
        let head = keep(0..<message.readableBytes, of: message, .frame, &entries)
        return head.map { ($0, entries) }
    }

    /// What a message holds beside events; nil where the bytes are none.
    private static func keep(
        _ range: Range<Int>, of message: ByteBuffer, _ level: Level, _ entries: inout ByteBuffer
    ) -> ByteBuffer? {
        var head = ByteBuffer()
        var fields = LenientFields(range)
        while let field = fields.next(in: message.readableBytesUInt8Span) {
            guard let content = field.content, let inside = level.inside(field.number) else {
                head.copy(field.start..<fields.offset, of: message)
                continue
            }
            let kept =
                inside == .events
                ? takeEvents(content, of: message, &entries) : keep(content, of: message, inside, &entries)
            guard let kept else { return nil }
            head.writeField(field.number, length: kept.readableBytes)
            head.writeImmutableBuffer(kept)
        }
        return fields.isBroken ? nil : head
    }

    private static func takeEvents(
        _ range: Range<Int>, of message: ByteBuffer, _ entries: inout ByteBuffer
    ) -> ByteBuffer? {
        var kept = ByteBuffer()
        var mayBeEntries = true
        var fields = LenientFields(range)
        while let field = fields.next(in: message.readableBytesUInt8Span) {
            let isEntry = field.number == 1 && field.content != nil
            // The server writes the events last and in one piece: the rest of the body is theirs.
            if isEntry, mayBeEntries {
                mayBeEntries = false
                if let rest = message.part(field.start..<range.upperBound), isEntries(rest) {
                    if entries.readableBytes == 0 { entries = rest } else { entries.writeImmutableBuffer(rest) }
                    return kept
                }
            }
            if isEntry {
                entries.copy(field.start..<fields.offset, of: message)
            } else {
                kept.copy(field.start..<fields.offset, of: message)
            }
        }
        return fields.isBroken ? nil : kept
    }

    private static func isEntries(_ body: ByteBuffer) -> Bool {
        var rest = body
        do throws(RecordFault) {
            while try RecordedEntries.nextRecord(of: &rest) != nil {}
            return true
        } catch { return false }
    }
}

extension ByteBuffer {
    /// A range of what is readable, without copying it.
    fileprivate func part(_ range: Range<Int>) -> ByteBuffer? {
        getSlice(at: readerIndex + range.lowerBound, length: range.count)
    }

    /// Appends a range of what is readable of another.
    fileprivate mutating func copy(_ range: Range<Int>, of source: ByteBuffer) {
        if let part = source.part(range) { writeImmutableBuffer(part) }
    }
}

extension TenantHead {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__Head>?) {
        self.init(
            position: Position(unsafe message?.pointee.position ?? 0),
            recordedAt: Timestamp(microseconds: unsafe message?.pointee.recorded_at_micros ?? 0))
    }
}

extension LoadView {
    @unsafe init?(_ message: UnsafePointer<Martlet__V1__LoadView>?) {
        guard let message = unsafe message?.pointee else { return nil }
        self.init(
            version: Version(unsafe message.version), position: Position(unsafe message.position),
            snapshotsSkipped: Int(unsafe message.snapshots_skipped))
    }
}

extension ReadView {
    @unsafe init?(_ message: UnsafePointer<Martlet__V1__ReadView>?) {
        guard let message = unsafe message?.pointee else { return nil }
        self.init(to: Position(unsafe message.to_position), head: unsafe TenantHead(message.head))
    }
}

extension SubscriptionMessage {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__SubscribeResponse>, entries: ByteBuffer) {
        let signal: Signal? =
            switch unsafe message.pointee.signal_case {
            case MARTLET__V1__SUBSCRIBE_RESPONSE__SIGNAL_STARTED:
                unsafe .started(after: Position(message.pointee.started.pointee.after_position))
            case MARTLET__V1__SUBSCRIBE_RESPONSE__SIGNAL_CAUGHT_UP:
                unsafe .caughtUp(Position(message.pointee.caught_up.pointee.position))
            case MARTLET__V1__SUBSCRIBE_RESPONSE__SIGNAL_FELL_BEHIND:
                unsafe .fellBehind(Position(message.pointee.fell_behind.pointee.position))
            case MARTLET__V1__SUBSCRIBE_RESPONSE__SIGNAL_CHECKPOINT:
                unsafe .checkpoint(Position(message.pointee.checkpoint.pointee.position))
            case MARTLET__V1__SUBSCRIBE_RESPONSE__SIGNAL_HEARTBEAT:
                unsafe .heartbeat(
                    Position(message.pointee.heartbeat.pointee.position),
                    waitingForCreditBytes: message.pointee.heartbeat.pointee.waiting_for_credit_bytes)
            case MARTLET__V1__SUBSCRIBE_RESPONSE__SIGNAL_UPCASTERS_CHANGED:
                unsafe .upcastersChanged(
                    Position(message.pointee.upcasters_changed.pointee.position),
                    revision: message.pointee.upcasters_changed.pointee.revision)
            default: nil
            }
        self.init(entries: entries, head: unsafe TenantHead(message.pointee.head), signal: signal)
    }
}

extension AppendReceipt {
    @unsafe init?(_ message: UnsafePointer<Martlet__V1__AppendResponse>) {
        var aggregates: [AppendedAggregate] = []
        for index in unsafe 0..<message.pointee.n_aggregates {
            guard let part = unsafe message.pointee.aggregates[index],
                let name = unsafe AggregateName(received: part.pointee.aggregate)
            else { return nil }
            aggregates.append(
                AppendedAggregate(
                    aggregate: name, firstVersion: Version(unsafe part.pointee.first_version),
                    lastVersion: Version(unsafe part.pointee.last_version),
                    snapshotDue: unsafe part.pointee.snapshot_due != 0))
        }
        self.init(
            aggregates: aggregates, firstPosition: Position(unsafe message.pointee.first_position),
            lastPosition: Position(unsafe message.pointee.last_position),
            recordedAt: Timestamp(microseconds: unsafe message.pointee.recorded_at_micros),
            replayed: unsafe message.pointee.replayed != 0,
            checkpointStored: unsafe message.pointee.checkpoint_stored != 0)
    }
}

extension AggregateName {
    @unsafe init?(received message: UnsafePointer<Martlet__V1__AggregateName>?) {
        guard let message = unsafe message?.pointee, let type = unsafe message.type.text.flatMap(AggregateType.init),
            let id = unsafe message.id.uuid
        else { return nil }
        self.init(type: type, id: id)
    }
}

extension MartletError {
    @unsafe init?(_ message: UnsafePointer<Martlet__V1__CallStatus>) {
        var conflicts: [VersionConflict] = []
        for index in unsafe 0..<message.pointee.n_conflicts {
            guard let conflict = unsafe message.pointee.conflicts[index].flatMap({ unsafe VersionConflict($0) }) else {
                return nil
            }
            conflicts.append(conflict)
        }
        var reusedIDs: [ReusedEventID] = []
        for index in unsafe 0..<message.pointee.n_reused_event_ids {
            guard let reused = unsafe message.pointee.reused_event_ids[index],
                let aggregate = unsafe AggregateName(received: reused.pointee.aggregate),
                let id = unsafe reused.pointee.event_id.uuid
            else { return nil }
            reusedIDs.append(
                ReusedEventID(
                    id: id, aggregate: aggregate, version: Version(unsafe reused.pointee.version),
                    position: Position(unsafe reused.pointee.position)))
        }
        var violation: LimitViolation?
        if let limit = unsafe message.pointee.limit?.pointee {
            violation = LimitViolation(
                name: unsafe limit.name.text ?? "", limit: unsafe limit.limit, actual: unsafe limit.actual)
        }
        self.init(
            StatusCode(rawValue: unsafe message.pointee.code),
            reason: Reason(rawValue: unsafe message.pointee.reason.text ?? ""),
            message: unsafe message.pointee.message.text ?? "", isRetryable: unsafe message.pointee.retryable != 0,
            conflicts: conflicts, reusedEventIDs: reusedIDs, limit: violation,
            failedUpcast: unsafe FailedUpcast(message.pointee.upcast_failure),
            comparablePosition: unsafe message.pointee.history_change.map {
                unsafe Position($0.pointee.comparable_position)
            }, conflictsCount: Int(unsafe message.pointee.conflicts_total),
            reusedEventIDsCount: Int(unsafe message.pointee.reused_event_ids_total))
    }
}

extension VersionConflict {
    @unsafe init?(_ message: UnsafePointer<Martlet__V1__VersionConflict>) {
        guard let aggregate = unsafe AggregateName(received: message.pointee.aggregate),
            let expected = unsafe ExpectedVersion(message.pointee.expected)
        else { return nil }
        var events = ByteBuffer()
        for index in unsafe 0..<message.pointee.n_events {
            guard let event = unsafe message.pointee.events[index] else { return nil }
            var record = ByteBuffer()
            unsafe record.writeMessage(&event.pointee.base)
            RecordedEntries.write(record: record, to: &events)
        }
        self.init(
            aggregate: aggregate, expected: expected, actual: Version(unsafe message.pointee.actual), events: events,
            eventsTruncated: unsafe message.pointee.events_truncated != 0)
    }
}

extension ServerStatus {
    @unsafe init?(_ message: UnsafePointer<Martlet__V1__GetStatusResponse>) {
        self.init()
        guard let serverVersion = unsafe message.pointee.server_version.text,
            let storageEngine = unsafe message.pointee.storage_engine.text,
            let storageMessage = unsafe message.pointee.storage_message.text
        else { return nil }
        self.serverVersion = serverVersion
        self.storageEngine = storageEngine
        self.storageMessage = storageMessage
        storageReady = unsafe message.pointee.storage_ready != 0
        schemaVersion = unsafe message.pointee.schema_version
        uptimeMicros = unsafe message.pointee.uptime_micros
        serverTime = Timestamp(microseconds: unsafe message.pointee.server_time_micros)
        connections = unsafe message.pointee.connections
        subscriptions = unsafe message.pointee.subscriptions
        waitingAppendBytes = unsafe message.pointee.waiting_append_bytes
        eventsAppended = unsafe message.pointee.events_appended
        eventsDelivered = unsafe message.pointee.events_delivered
        isDraining = unsafe message.pointee.draining != 0
        snapshotsSkipped = unsafe message.pointee.snapshots_skipped
        upcastFailures = unsafe message.pointee.upcast_failures
        processCPUMicros = unsafe message.pointee.process_cpu_micros
        residentBytes = unsafe message.pointee.resident_bytes
        residentPeakBytes = unsafe message.pointee.resident_peak_bytes
    }
}
