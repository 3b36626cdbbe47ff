import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
public import MartletSession
public import NIOCore

/// Frames from server to client, as bytes.
public enum ServerFrameCodec {
    /// Appends the frame, with its prefix. Entries are copied as they are.
    public static func encode(_ frame: ServerFrame, to buffer: inout ByteBuffer) {
        _ = encode(frame, to: &buffer, detachedBytesMin: .max)
    }

    /// Appends the frame, with its prefix, but for the entries that it ends with where these are at least so many bytes.
    /// - Returns: those entries, which the peer must get right after what was appended.
    public static func encode(
        _ frame: ServerFrame, to buffer: inout ByteBuffer, detachedBytesMin: Int
    ) -> ByteBuffer? {
        var end = FrameEnd(detachedBytesMin: detachedBytesMin)
        buffer.writeFrame { buffer in
            buffer.writeCallID(frame.callID)
            encode(frame.body, to: &buffer, &end)
            return end.detached?.readableBytes ?? 0
        }
        return end.detached
    }

    private static func encode(_ body: ServerFrame.Body, to buffer: inout ByteBuffer, _ end: inout FrameEnd) {
        switch body {
        case .welcome(let welcome): welcome.encode(to: &buffer)
        case .status(let error): encode(status: error, to: &buffer)
        case .goAway(let lastCallID, let text):
            unsafe withCBytes([text]) { text in
                unsafe withMessage(Martlet__V1__GoAway(), martlet__v1__go_away__init) { message in
                    unsafe message.pointee.message = unsafe text[0]
                    unsafe message.pointee.last_call_id = lastCallID.rawValue
                    unsafe buffer.writeField(6, &message.pointee.base)
                }
            }
        case .ping(let token):
            unsafe withMessage(Martlet__V1__Ping(), martlet__v1__ping__init) { message in
                unsafe message.pointee.token = token
                unsafe buffer.writeField(7, &message.pointee.base)
            }
        case .pong(let token):
            unsafe withMessage(Martlet__V1__Pong(), martlet__v1__pong__init) { message in
                unsafe message.pointee.token = token
                unsafe buffer.writeField(8, &message.pointee.base)
            }
        case .message(let message): encode(message, to: &buffer, &end)
        }
    }

    /// Writes the field that holds a message of a call, but for the entries that are to be sent as they lie.
    static func encode(_ message: CallMessage, to buffer: inout ByteBuffer, _ end: inout FrameEnd) {
        switch message {
        case .append(let receipt): receipt.encode(to: &buffer)
        case .load(let entries, let view): encode(load: entries, view, to: &buffer, &end)
        case .read(let entries, let view): encode(read: entries, view, to: &buffer, &end)
        case .loadWaits(let creditBytes):
            unsafe withMessage(Martlet__V1__LoadResponse(), martlet__v1__load_response__init) { message in
                unsafe message.pointee.waiting_for_credit_bytes = creditBytes
                unsafe buffer.writeField(17, &message.pointee.base)
            }
        case .readWaits(let creditBytes):
            unsafe withMessage(Martlet__V1__ReadResponse(), martlet__v1__read_response__init) { message in
                unsafe message.pointee.waiting_for_credit_bytes = creditBytes
                unsafe buffer.writeField(18, &message.pointee.base)
            }
        case .subscribe(let message): message.encode(to: &buffer, &end)
        case .head(let head):
            unsafe withMessage(Martlet__V1__GetHeadResponse(), martlet__v1__get_head_response__init) { message in
                unsafe head.withMessage { head in
                    unsafe message.pointee.head = unsafe head
                    unsafe buffer.writeField(20, &message.pointee.base)
                }
            }
        case .serverStatus(let status): status.encode(to: &buffer)
        case .serverInfo(let info): info.encode(to: &buffer)
        case .snapshotSaved(let receipt): receipt.encode(to: &buffer)
        case .snapshot(let loaded): loaded.encode(to: &buffer)
        case .snapshots(let all): SnapshotListMessage.encode(all, to: &buffer)
        case .snapshotsDeleted(let count): SettingsMessages.encode(deleted: count, to: &buffer)
        case .settingsPut(let revision): SettingsMessages.encode(revision: revision, to: &buffer)
        case .settings(let settings): SettingsMessages.encode(settings, to: &buffer)
        case .consumerPut(let receipt): receipt.encode(to: &buffer)
        case .consumer(let description): description.encode(to: &buffer)
        case .consumers(let all): ConsumerAnswers.encode(all, to: &buffer)
        case .consumerDeleted: ConsumerAnswers.encodeDeleted(to: &buffer)
        case .consumerReset(let receipt): receipt.encode(to: &buffer)
        case .blockedKeys(let keys): ConsumerAnswers.encode(keys, to: &buffer)
        case .keysUnblocked(let count): ConsumerAnswers.encode(unblocked: count, to: &buffer)
        case .consumerReached(let position): ConsumerAnswers.encode(reached: position, to: &buffer)
        case .consume(let message): message.encode(to: &buffer, &end)
        case .consumeOf(let tenant, let message): message.encode(of: tenant, to: &buffer, &end)
        case .schedulesChanged(let outcomes): ScheduleAnswers.encode(outcomes, to: &buffer)
        case .schedules(let all): ScheduleAnswers.encode(all, to: &buffer)
        }
    }

    private static func encode(
        load entries: ByteBuffer, _ view: LoadView?, to buffer: inout ByteBuffer, _ end: inout FrameEnd
    ) {
        unsafe withMessage(Martlet__V1__LoadView(), martlet__v1__load_view__init) { viewMessage in
            unsafe withMessage(Martlet__V1__LoadResponse(), martlet__v1__load_response__init) { message in
                if let view {
                    unsafe viewMessage.pointee.version = view.version.rawValue
                    unsafe viewMessage.pointee.position = view.position.rawValue
                    unsafe viewMessage.pointee.snapshots_skipped = UInt32(clamping: view.snapshotsSkipped)
                    unsafe message.pointee.view = unsafe viewMessage
                }
                var fields = ByteBuffer()
                view?.snapshot?.encode(field: 3, to: &fields)
                unsafe buffer.writeField(17, &message.pointee.base, fields: fields, entries: entries, &end)
            }
        }
    }

    private static func encode(
        read entries: ByteBuffer, _ view: ReadView?, to buffer: inout ByteBuffer, _ end: inout FrameEnd
    ) {
        unsafe (view?.head ?? .empty).withMessage { head in
            unsafe withMessage(Martlet__V1__ReadView(), martlet__v1__read_view__init) { viewMessage in
                unsafe withMessage(Martlet__V1__ReadResponse(), martlet__v1__read_response__init) { message in
                    if let view {
                        unsafe viewMessage.pointee.to_position = view.to.rawValue
                        unsafe viewMessage.pointee.head = unsafe head
                        unsafe message.pointee.view = unsafe viewMessage
                    }
                    unsafe buffer.writeField(18, &message.pointee.base, fields: ByteBuffer(), entries: entries, &end)
                }
            }
        }
    }

    private static func encode(status error: MartletError?, to buffer: inout ByteBuffer) {
        guard let error else {
            // Field 5, an empty message: OK is 0.
            buffer.writeInteger(UInt16(5 << 3 | 2) << 8)
            return
        }
        error.encode(field: 5, to: &buffer)
    }
}

extension MartletError {
    /// Writes the field that holds the status.
    func encode(field: UInt32, to buffer: inout ByteBuffer) {
        var details = ByteBuffer()
        for conflict in conflicts { conflict.encode(to: &details) }
        for reused in reusedEventIDs { reused.encode(to: &details) }
        failedUpcast?.encode(to: &details)
        if let position = comparablePosition {
            unsafe withMessage(Martlet__V1__HistoryChange(), martlet__v1__history_change__init) { message in
                unsafe message.pointee.comparable_position = position.rawValue
                unsafe details.writeField(9, &message.pointee.base)
            }
        }
        unsafe withCBytes([reason.rawValue, message, limit?.name ?? ""]) { text in
            unsafe withMessage(Martlet__V1__LimitViolation(), martlet__v1__limit_violation__init) { limit in
                unsafe withMessage(Martlet__V1__CallStatus(), martlet__v1__call_status__init) { message in
                    unsafe message.pointee.code = code.rawValue
                    unsafe message.pointee.reason = unsafe text[0]
                    unsafe message.pointee.message = unsafe text[1]
                    unsafe message.pointee.retryable = isRetryable ? 1 : 0
                    if conflictsCount > conflicts.count {
                        unsafe message.pointee.conflicts_total = UInt32(clamping: conflictsCount)
                    }
                    if reusedEventIDsCount > reusedEventIDs.count {
                        unsafe message.pointee.reused_event_ids_total = UInt32(clamping: reusedEventIDsCount)
                    }
                    if let violation = self.limit {
                        unsafe limit.pointee.name = unsafe text[2]
                        unsafe limit.pointee.limit = violation.limit
                        unsafe limit.pointee.actual = violation.actual
                        unsafe message.pointee.limit = unsafe limit
                    }
                    unsafe buffer.writeField(field, &message.pointee.base, tail: details)
                }
            }
        }
    }
}

extension TenantHead {
    /// Calls `body` with the head as protobuf-c sees it.
    @unsafe func withMessage<Result>(
        _ body: (UnsafeMutablePointer<Martlet__V1__Head>) throws -> Result
    ) rethrows -> Result {
        try unsafe MartletFrameCodec.withMessage(Martlet__V1__Head(), martlet__v1__head__init) { message in
            unsafe message.pointee.position = position.rawValue
            unsafe message.pointee.recorded_at_micros = recordedAt.microseconds
            return try unsafe body(message)
        }
    }
}

extension VersionConflict {
    fileprivate func encode(to buffer: inout ByteBuffer) {
        unsafe aggregate.withMessage { aggregate in
            unsafe expected.withMessage { expected in
                unsafe withMessage(Martlet__V1__VersionConflict(), martlet__v1__version_conflict__init) { message in
                    unsafe message.pointee.aggregate = unsafe aggregate
                    unsafe message.pointee.expected = unsafe expected
                    unsafe message.pointee.actual = actual.rawValue
                    unsafe message.pointee.events_truncated = eventsTruncated ? 1 : 0
                    unsafe buffer.writeField(5, &message.pointee.base, tail: events)
                }
            }
        }
    }
}

extension ReusedEventID {
    fileprivate func encode(to buffer: inout ByteBuffer) {
        unsafe aggregate.withMessage { aggregate in
            unsafe withCBytes(id) { id in
                unsafe withMessage(Martlet__V1__ReusedEventId(), martlet__v1__reused_event_id__init) { message in
                    unsafe message.pointee.event_id = unsafe id
                    unsafe message.pointee.aggregate = unsafe aggregate
                    unsafe message.pointee.version = version.rawValue
                    unsafe message.pointee.position = position.rawValue
                    unsafe buffer.writeField(6, &message.pointee.base)
                }
            }
        }
    }
}

extension SubscriptionMessage {
    fileprivate func encode(to buffer: inout ByteBuffer, _ end: inout FrameEnd) {
        unsafe head.withMessage { head in
            unsafe withMessage(Martlet__V1__SubscribeResponse(), martlet__v1__subscribe_response__init) { message in
                unsafe message.pointee.head = unsafe head
                var fields = ByteBuffer()
                signal?.encode(to: &fields)
                unsafe buffer.writeField(19, &message.pointee.base, fields: fields, entries: entries, &end)
            }
        }
    }
}

extension SubscriptionMessage.Signal {
    /// Writes the signal as its field of SubscribeResponse.
    fileprivate func encode(to buffer: inout ByteBuffer) {
        switch self {
        case .started(let position):
            unsafe withMessage(Martlet__V1__SubscriptionStarted(), martlet__v1__subscription_started__init) { message in
                unsafe message.pointee.after_position = position.rawValue
                unsafe buffer.writeField(3, &message.pointee.base)
            }
        case .caughtUp(let position):
            unsafe withMessage(Martlet__V1__CaughtUp(), martlet__v1__caught_up__init) { message in
                unsafe message.pointee.position = position.rawValue
                unsafe buffer.writeField(4, &message.pointee.base)
            }
        case .fellBehind(let position):
            unsafe withMessage(Martlet__V1__FellBehind(), martlet__v1__fell_behind__init) { message in
                unsafe message.pointee.position = position.rawValue
                unsafe buffer.writeField(5, &message.pointee.base)
            }
        case .checkpoint(let position):
            unsafe withMessage(Martlet__V1__Checkpoint(), martlet__v1__checkpoint__init) { message in
                unsafe message.pointee.position = position.rawValue
                unsafe buffer.writeField(6, &message.pointee.base)
            }
        case .heartbeat(let position, let waitingForCreditBytes):
            unsafe withMessage(Martlet__V1__Heartbeat(), martlet__v1__heartbeat__init) { message in
                unsafe message.pointee.position = position.rawValue
                unsafe message.pointee.waiting_for_credit_bytes = waitingForCreditBytes
                unsafe buffer.writeField(7, &message.pointee.base)
            }
        case .upcastersChanged(let position, let revision):
            unsafe withMessage(Martlet__V1__UpcastersChanged(), martlet__v1__upcasters_changed__init) { message in
                unsafe message.pointee.position = position.rawValue
                unsafe message.pointee.revision = revision
                unsafe buffer.writeField(8, &message.pointee.base)
            }
        }
    }
}

extension ServerStatus {
    fileprivate func encode(to buffer: inout ByteBuffer) {
        unsafe withCBytes([serverVersion, storageEngine, storageMessage]) { text in
            unsafe withMessage(Martlet__V1__GetStatusResponse(), martlet__v1__get_status_response__init) { message in
                unsafe message.pointee.server_version = unsafe text[0]
                unsafe message.pointee.storage_engine = unsafe text[1]
                unsafe message.pointee.storage_ready = storageReady ? 1 : 0
                unsafe message.pointee.storage_message = unsafe text[2]
                unsafe message.pointee.schema_version = schemaVersion
                unsafe message.pointee.uptime_micros = uptimeMicros
                unsafe message.pointee.server_time_micros = serverTime.microseconds
                unsafe message.pointee.connections = connections
                unsafe message.pointee.subscriptions = subscriptions
                unsafe message.pointee.waiting_append_bytes = waitingAppendBytes
                unsafe message.pointee.events_appended = eventsAppended
                unsafe message.pointee.events_delivered = eventsDelivered
                unsafe message.pointee.draining = isDraining ? 1 : 0
                unsafe message.pointee.snapshots_skipped = snapshotsSkipped
                unsafe message.pointee.upcast_failures = upcastFailures
                unsafe message.pointee.process_cpu_micros = processCPUMicros
                unsafe message.pointee.resident_bytes = residentBytes
                unsafe message.pointee.resident_peak_bytes = residentPeakBytes
                unsafe buffer.writeField(21, &message.pointee.base)
            }
        }
    }
}
