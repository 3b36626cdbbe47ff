import CMartletProtos
public import MartletModel
import MartletRecordCodec
import MartletSession
public import NIOCore

/// What a request is; the number is that of its field in `ClientFrame`.
public enum RequestKind: UInt32, Hashable, Sendable, CaseIterable {
    /// `AppendRequest`.
    case append = 16
    /// `LoadRequest`.
    case load = 17
    /// `ReadRequest`.
    case read = 18
    /// `SubscribeRequest`.
    case subscribe = 19
    /// `GetHeadRequest`.
    case getHead = 20
    /// `GetStatusRequest`.
    case getStatus = 21
    /// `SaveSnapshotRequest`.
    case saveSnapshot = 22
    /// `LoadSnapshotRequest`.
    case loadSnapshot = 23
    /// `ListSnapshotsRequest`.
    case listSnapshots = 24
    /// `DeleteSnapshotsRequest`.
    case deleteSnapshots = 25
    /// `PutSettingsRequest`.
    case putSettings = 26
    /// `GetSettingsRequest`.
    case getSettings = 27
    /// `PutConsumerRequest`.
    case putConsumer = 28
    /// `GetConsumerRequest`.
    case getConsumer = 29
    /// `ListConsumersRequest`.
    case listConsumers = 30
    /// `DeleteConsumerRequest`.
    case deleteConsumer = 31
    /// `ResetConsumerRequest`.
    case resetConsumer = 32
    /// `ListBlockedKeysRequest`.
    case listBlockedKeys = 33
    /// `UnblockKeysRequest`.
    case unblockKeys = 34
    /// `AwaitConsumerRequest`.
    case awaitConsumer = 35
    /// `ConsumeStart`.
    case consume = 36
    /// `ChangeSchedulesRequest`.
    case changeSchedules = 37
    /// `ListSchedulesRequest`.
    case listSchedules = 38
    /// `GetServerInfoRequest`.
    case getServerInfo = 39
}

/// Messages of calls that travel without a frame of ours around them, as gRPC sends them.
///
/// They mean what the frames mean that would hold them: the same decoders and encoders are at work.
public enum BareMessages {
    /// Decodes a request.
    /// - Throws: what is wrong with it.
    public static func request(
        _ message: ByteBuffer, _ kind: RequestKind, limits: Limits
    ) throws(MartletError) -> CallRequest {
        if kind == .append, let append = AppendFastPath.append(message, limits: limits) { return .append(append) }
        switch try body(message, field: kind.rawValue, limits: limits) {
        case .request(let request): return request
        case .malformed(let error): throw error
        default: throw unreadable(message)
        }
    }

    /// Decodes what a worker says: a message of `WorkerReplies`.
    /// - Throws: what is wrong with it.
    public static func replies(_ message: ByteBuffer, limits: Limits) throws(MartletError) -> [WorkerReply] {
        switch try body(message, field: 9, limits: limits) {
        case .replies(let replies): return replies
        case .malformedReplies(let error): throw error
        default: throw unreadable(message)
        }
    }

    /// The message as the frame that would hold it says it.
    private static func body(
        _ message: ByteBuffer, field: UInt32, limits: Limits
    ) throws(MartletError) -> ClientFrame.Body {
        var frame = ByteBuffer()
        frame.reserveCapacity(message.readableBytes + 8)
        frame.writeField(field, length: message.readableBytes)
        frame.writeImmutableBuffer(message)
        do throws(MartletError) {
            return try ClientFrameCodec.unpack(frame, limits: limits).body
        } catch {
            guard error.reason == .badFrame else { throw error }
            throw unreadable(message)
        }
    }

    static func unreadable(_ message: ByteBuffer) -> MartletError {
        MartletError(
            .invalidArgument, reason: .badFrame,
            message: "a message of \(message.readableBytes) bytes is not the request of this method: "
                + "check that the client was generated from martlet.v1")
    }

    /// A message as gRPC sends it: a prefix of 5 bytes, then the message.
    public struct Prefixed {
        /// The prefix, and the message but for ``entries``.
        public var head: ByteBuffer
        /// With what the message ends, where that is long enough to be sent as it lies.
        public var entries: ByteBuffer?

        /// A message of those parts.
        public init(head: ByteBuffer, entries: ByteBuffer? = nil) {
            self.head = head
            self.entries = entries
        }
    }

    /// Bytes before the message: a flag (0: not compressed), the length in 4 bytes big-endian.
    public static let prefixBytes = 5

    /// Encodes a message of a call.
    ///
    /// - Parameter detachedBytesMin: entries of at least so many bytes are not copied.
    public static func encode(_ message: CallMessage, detachedBytesMin: Int) -> Prefixed {
        // It is written with the key and the length that a frame would have; the prefix takes their place.
        var buffer = ByteBuffer()
        buffer.reserveCapacity(192 + min(Int(message.entryBytes), detachedBytesMin))
        buffer.writeInteger(UInt16(0))
        var end = FrameEnd(detachedBytesMin: detachedBytesMin)
        ServerFrameCodec.encode(message, to: &buffer, &end)
        let start = skipKeyAndLength(buffer, from: buffer.readerIndex + 2)
        let length = buffer.writerIndex - start + (end.detached?.readableBytes ?? 0)
        buffer.moveReaderIndex(to: start - prefixBytes)
        buffer.setInteger(UInt8(0), at: start - prefixBytes)
        buffer.setInteger(UInt32(length), at: start - prefixBytes + 1)
        return Prefixed(head: buffer, entries: end.detached)
    }

    /// Where the message begins whose key and length are there. Keys of answers have two bytes.
    private static func skipKeyAndLength(_ buffer: ByteBuffer, from index: Int) -> Int {
        var index = index + 2
        while let byte: UInt8 = buffer.getInteger(at: index), byte >= 0x80 { index += 1 }
        return index + 1
    }

    /// Encodes an error as `CallStatus`, without a prefix.
    public static func callStatus(_ error: MartletError) -> ByteBuffer {
        var buffer = ByteBuffer()
        error.encode(field: 5, to: &buffer)
        // A key of one byte, and the length.
        var start = buffer.readerIndex + 1
        while let byte: UInt8 = buffer.getInteger(at: start), byte >= 0x80 { start += 1 }
        buffer.moveReaderIndex(to: start + 1)
        return buffer
    }

    /// Encodes an error as `CallStatus` without events and without what lies in the call's own status: its code, its message.
    /// Of conflicts and reused ids, so many as fit into that many bytes.
    public static func callStatus(_ error: MartletError, bytesMax: Int) -> ByteBuffer {
        var whole = MartletError(
            error.code, reason: error.reason, message: "", isRetryable: error.isRetryable, conflicts: error.conflicts,
            reusedEventIDs: error.reusedEventIDs, limit: error.limit, failedUpcast: error.failedUpcast,
            comparablePosition: error.comparablePosition, conflictsCount: error.conflictsCount,
            reusedEventIDsCount: error.reusedEventIDsCount)
        whole.conflicts = error.conflicts.map { conflict in
            var conflict = conflict
            conflict.eventsTruncated = conflict.eventsTruncated || conflict.events.readableBytes > 0
            conflict.events = ByteBuffer()
            return conflict
        }
        // They are alike in length, about: half of them until they fit.
        var count = max(error.conflicts.count, error.reusedEventIDs.count)
        while true {
            let status = callStatus(whole.listing(conflictsMax: count, reusedEventIDsMax: count))
            if status.readableBytes <= bytesMax || count == 0 { return status }
            count /= 2
        }
    }
}
