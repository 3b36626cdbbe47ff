public import MartletModel
import MartletRecordCodec
public import NIOCore

// What gRPC's streams from the client hold beside the requests that the native protocol has, too.

extension BareMessages {
    /// One append of a session: a message of `AppendSessionRequest`.
    public struct SessionAppend {
        /// By what the client knows it, above 0.
        public var requestID: UInt64
        /// Milliseconds until its deadline; 0 means none.
        public var timeoutMillis: UInt32
        /// The append, or what is wrong with it.
        public var request: Result<CallRequest, MartletError>
    }

    /// Decodes an append of a session.
    /// - Throws: what makes the message as a whole unreadable.
    public static func sessionAppend(
        _ message: ByteBuffer, limits: Limits
    ) throws(MartletError) -> SessionAppend {
        var requestID: UInt64 = 0
        var timeoutMillis: UInt64 = 0
        var append: ByteBuffer?
        try eachField(of: message) { (field, slice) throws(MartletError) in
            switch (field.number, field.value) {
            case (1, .varint(let number)): requestID = number
            case (2, .content):
                guard append == nil else { throw .invalidField("append", "comes twice: send one append in a message") }
                append = slice
            case (3, .varint(let number)): timeoutMillis = number
            default: throw unknown(field)
            }
        }
        guard requestID > 0 else {
            throw .invalidField("request_id", "is 0 or missing: number the appends of a session upward from 1")
        }
        guard timeoutMillis <= UInt64(UInt32.max) else {
            throw .invalidField("timeout_millis", "is \(timeoutMillis): at most \(UInt32.max) is allowed")
        }
        let request: Result<CallRequest, MartletError>
        do throws(MartletError) {
            guard let append else { throw .invalidField("append", "is missing: send one append in each message") }
            request = .success(try self.request(append, .append, limits: limits))
        } catch { request = .failure(error) }
        return SessionAppend(requestID: requestID, timeoutMillis: UInt32(timeoutMillis), request: request)
    }

    /// What an append of a session comes to: a message of `AppendSessionResponse`, with its prefix.
    public static func encode(
        _ outcome: Result<AppendReceipt, MartletError>, of requestID: UInt64
    ) -> ByteBuffer {
        var content: ByteBuffer
        let field: UInt32
        switch outcome {
        case .success(let receipt):
            content = encode(.append(receipt), detachedBytesMin: .max).head
            content.moveReaderIndex(forwardBy: prefixBytes)
            field = 2
        case .failure(let error):
            content = callStatus(error)
            field = 3
        }
        var buffer = ByteBuffer()
        buffer.reserveCapacity(content.readableBytes + 32)
        buffer.writeInteger(UInt8(0))
        buffer.writeInteger(UInt32(0))
        buffer.writeInteger(UInt8(1 << 3))
        buffer.writeVarint(requestID)
        buffer.writeField(field, length: content.readableBytes)
        buffer.writeImmutableBuffer(content)
        buffer.setInteger(UInt32(buffer.readableBytes - prefixBytes), at: buffer.readerIndex + 1)
        return buffer
    }

    /// A message on the stream of a worker: `ConsumeRequest`.
    public enum WorkerMessage {
        /// It begins.
        case start(CallRequest)
        /// It says something.
        case replies([WorkerReply])
    }

    /// Decodes what a worker sends.
    /// - Throws: what is wrong with it.
    public static func workerMessage(_ message: ByteBuffer, limits: Limits) throws(MartletError) -> WorkerMessage {
        var found: (number: UInt32, content: ByteBuffer)?
        try eachField(of: message) { (field, slice) throws(MartletError) in
            guard field.number == 1 || field.number == 2, let slice else { throw unknown(field) }
            guard found == nil else {
                throw .invalidField("message", "holds more than one of start and replies: send one in each message")
            }
            found = (field.number, slice)
        }
        guard let found else { throw .invalidField("message", "is empty: send start first, then replies") }
        return found.number == 1
            ? .start(try request(found.content, .consume, limits: limits))
            : .replies(try replies(found.content, limits: limits))
    }

    private static func unknown(_ field: LenientFields.Field) -> MartletError {
        .invalidField(
            "the message",
            "holds field \(field.number), which this server does not know: omit it, or use a newer server")
    }

    /// Goes through the fields of a message, with what the length-delimited ones hold.
    private static func eachField(
        of message: ByteBuffer, _ body: (LenientFields.Field, ByteBuffer?) throws(MartletError) -> Void
    ) throws(MartletError) {
        var fields = LenientFields(0..<message.readableBytes)
        func next() -> LenientFields.Field? {
            unsafe message.withUnsafeReadableBytes { bytes in
                let typed = unsafe bytes.assumingMemoryBound(to: UInt8.self)
                return unsafe fields.next(in: typed.span)
            }
        }
        while let field = next() {
            let slice = field.content.flatMap {
                message.getSlice(at: message.readerIndex + $0.lowerBound, length: $0.count)
            }
            try body(field, slice)
        }
        guard !fields.isBroken else { throw unreadable(message) }
    }
}
