import CMartletProtos
import FoundationEssentials
public import MartletModel
import MartletRecordCodec
public import MartletSession
public import NIOCore

/// Frames from client to server, as bytes.
public enum ClientFrameCodec {
    /// Decodes a message that ``FrameDecoder`` cut out.
    ///
    /// A request that is malformed, or unknown, becomes ``ClientFrame/Body/malformed(_:)``: it ends its call
    /// only.
    /// - Throws: what makes the frame as a whole unreadable.
    public static func decode(_ message: ByteBuffer, limits: Limits) throws(MartletError) -> ClientFrame {
        if let append = AppendFastPath.decode(message, limits: limits) { return append }
        return try unpack(message, limits: limits)
    }

    /// Decodes a message by protobuf-c, whatever it holds. ``decode(_:limits:)`` answers the same.
    static func unpack(_ message: ByteBuffer, limits: Limits) throws(MartletError) -> ClientFrame {
        let bytes = message.readableBytes
        let budget = limits.decodeBytesMax(frameBytes: bytes)
        let arena = DecodingArena(budget: limits.unpackBytesMax(frameBytes: bytes))
        let form = WireForm.ofClientFrame(message)
        let plain = form.mustRewrite ? WireForm.plainClientFrame(message, mergesBodies: !form.isWrite) : message
        let frame = unsafe plain.withUnsafeReadableBytes { bytes in
            unsafe arena.withAllocator { allocator -> ClientFrame? in
                guard
                    let frame = unsafe martlet__v1__client_frame__unpack(
                        allocator, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
                else { return nil }
                return unsafe ClientFrame(
                    CallID(frame.pointee.call_id), body(of: frame, limits: limits),
                    timeoutMillis: frame.pointee.timeout_millis, creditBytes: frame.pointee.credit_bytes)
            }
        }
        guard let frame else {
            throw .undecodable("ClientFrame", bytes: bytes, budget: budget, wasExhausted: arena.wasExhausted)
        }
        guard form.isWrite, let finding = form.finding else { return frame }
        return frame.refused(finding.error)
    }

    @unsafe private static func body(
        of frame: UnsafeMutablePointer<Martlet__V1__ClientFrame>, limits: Limits
    ) -> ClientFrame.Body {
        switch unsafe frame.pointee.body_case {
        case MARTLET__V1__CLIENT_FRAME__BODY_HELLO: return unsafe hello(frame.pointee.hello)
        case MARTLET__V1__CLIENT_FRAME__BODY_CREDIT: return unsafe .credit(frame.pointee.credit.pointee.bytes)
        case MARTLET__V1__CLIENT_FRAME__BODY_CANCEL: return .cancel
        case MARTLET__V1__CLIENT_FRAME__BODY_PING: return unsafe .ping(frame.pointee.ping.pointee.token)
        case MARTLET__V1__CLIENT_FRAME__BODY_PONG: return unsafe .pong(frame.pointee.pong.pointee.token)
        case MARTLET__V1__CLIENT_FRAME__BODY_REPLIES:
            do throws(MartletError) {
                return .replies(try unsafe WorkerReplies.decode(frame.pointee.replies))
            } catch { return .malformedReplies(error) }
        default:
            do throws(MartletError) {
                return .request(try unsafe request(of: frame, limits: limits))
            } catch { return .malformed(error) }
        }
    }

    @unsafe private static func request(
        of frame: UnsafeMutablePointer<Martlet__V1__ClientFrame>, limits: Limits
    ) throws(MartletError) -> CallRequest {
        switch unsafe frame.pointee.body_case {
        case MARTLET__V1__CLIENT_FRAME__BODY_APPEND:
            return .append(try unsafe AppendRequest(frame.pointee.append, limits: limits))
        case MARTLET__V1__CLIENT_FRAME__BODY_LOAD:
            return .load(try unsafe LoadRequest(frame.pointee.load, limits: limits))
        case MARTLET__V1__CLIENT_FRAME__BODY_READ:
            return .read(try unsafe ReadRequest(frame.pointee.read, limits: limits))
        case MARTLET__V1__CLIENT_FRAME__BODY_SUBSCRIBE:
            return .subscribe(try unsafe SubscribeRequest(frame.pointee.subscribe, limits: limits))
        case MARTLET__V1__CLIENT_FRAME__BODY_GET_HEAD:
            return .getHead(try unsafe TenantID(field: frame.pointee.get_head.pointee.tenant))
        case MARTLET__V1__CLIENT_FRAME__BODY_GET_STATUS: return .getStatus
        case MARTLET__V1__CLIENT_FRAME__BODY_GET_SERVER_INFO: return .getServerInfo
        case MARTLET__V1__CLIENT_FRAME__BODY_SAVE_SNAPSHOT:
            return .saveSnapshot(try unsafe SaveSnapshotRequest(frame.pointee.save_snapshot, limits: limits))
        case MARTLET__V1__CLIENT_FRAME__BODY_LOAD_SNAPSHOT:
            return .loadSnapshot(try unsafe LoadSnapshotRequest(frame.pointee.load_snapshot, limits: limits))
        case MARTLET__V1__CLIENT_FRAME__BODY_LIST_SNAPSHOTS:
            return try unsafe ListSnapshotsMessage.decode(frame.pointee.list_snapshots)
        case MARTLET__V1__CLIENT_FRAME__BODY_DELETE_SNAPSHOTS:
            return .deleteSnapshots(try unsafe DeleteSnapshotsRequest(frame.pointee.delete_snapshots))
        case MARTLET__V1__CLIENT_FRAME__BODY_PUT_SETTINGS:
            return .putSettings(try unsafe PutSettingsRequest(frame.pointee.put_settings, limits: limits))
        case MARTLET__V1__CLIENT_FRAME__BODY_GET_SETTINGS:
            return try unsafe SettingsMessages.decode(frame.pointee.get_settings)
        default:
            if let request = try unsafe ConsumerRequests.decode(frame, limits: limits) { return request }
            if let request = try unsafe ScheduleRequests.decode(frame, limits: limits) { return request }
            throw MartletError(
                .unimplemented, reason: .unknownCall,
                message: "the frame contains no request that this server knows: "
                    + "compare the versions of client and server")
        }
    }

    @unsafe private static func hello(_ hello: UnsafeMutablePointer<Martlet__V1__Hello>) -> ClientFrame.Body {
        guard let name = unsafe hello.pointee.client_name.text, name.utf8.count <= 256 else {
            return .malformedHello(
                .invalidField(
                    "hello.client_name",
                    "has \(unsafe hello.pointee.client_name.len) bytes: at most 256 bytes of UTF-8 are allowed"))
        }
        let versions = unsafe UnsafeBufferPointer(
            start: hello.pointee.protocol_versions, count: min(64, hello.pointee.n_protocol_versions))
        return unsafe .hello(Hello(protocolVersions: Array(versions), clientName: name))
    }

    /// Appends the frame, with its prefix.
    public static func encode(_ frame: ClientFrame, to buffer: inout ByteBuffer) {
        buffer.writeFrame { buffer in
            let numbers = (frame.callID.rawValue, UInt64(frame.timeoutMillis), frame.creditBytes)
            let size =
                FieldWriter.size(of: numbers.0) + FieldWriter.size(of: numbers.1) + FieldWriter.size(of: numbers.2)
            buffer.writeFields(size) { writer in
                writer.field(1 << 3, numbers.0)
                writer.field(2 << 3, numbers.1)
                writer.field(3 << 3, numbers.2)
            }
            encode(frame.body, to: &buffer)
            return 0
        }
    }

    private static func encode(_ body: ClientFrame.Body, to buffer: inout ByteBuffer) {
        switch body {
        case .hello(let hello):
            var versions = hello.protocolVersions
            unsafe withCBytes([hello.clientName]) { text in
                unsafe versions.withUnsafeMutableBufferPointer { versions in
                    unsafe withMessage(Martlet__V1__Hello(), martlet__v1__hello__init) { message in
                        unsafe message.pointee.client_name = unsafe text[0]
                        unsafe message.pointee.n_protocol_versions = versions.count
                        unsafe message.pointee.protocol_versions = versions.baseAddress
                        unsafe buffer.writeField(4, &message.pointee.base)
                    }
                }
            }
        case .credit(let bytes):
            unsafe withMessage(Martlet__V1__Credit(), martlet__v1__credit__init) { message in
                unsafe message.pointee.bytes = bytes
                unsafe buffer.writeField(5, &message.pointee.base)
            }
        case .cancel:
            unsafe withMessage(Martlet__V1__Cancel(), martlet__v1__cancel__init) { message in
                unsafe buffer.writeField(6, &message.pointee.base)
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
        case .request(let request): request.encode(to: &buffer)
        case .replies(let replies): WorkerReplies.encode(replies, to: &buffer)
        case .malformed, .malformedHello, .malformedReplies:
            preconditionFailure("what is malformed is decoded, never sent")
        }
    }
}
