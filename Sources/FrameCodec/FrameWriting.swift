import CMartletProtos
import MartletModel
import MartletRecordCodec
import MartletSession
import NIOCore

extension ByteBuffer {
    /// Writes a frame around what `message` writes: the prefix first, its length when it is known.
    ///
    /// `message` answers how many bytes of it were not written, since they are sent as they lie.
    mutating func writeFrame(_ message: (inout ByteBuffer) -> Int) {
        let start = writerIndex
        writeInteger(UInt8(0))
        writeInteger(UInt32(0))
        let detachedBytes = message(&self)
        setInteger(UInt32(writerIndex - start - FrameDecoder.prefixBytes + detachedBytes), at: start + 1)
    }

    /// Writes the field `call_id = 1` of a frame.
    mutating func writeCallID(_ id: CallID) {
        guard id != .connection else { return }
        writeInteger(UInt8(0x08))
        writeVarint(id.rawValue)
    }

    /// Writes a message field: what protobuf-c packs of `message`, then `tail`, which holds more fields
    /// of that message, encoded before.
    @unsafe mutating func writeField(
        _ number: UInt32, _ message: UnsafePointer<ProtobufCMessage>, tail: ByteBuffer = ByteBuffer()
    ) {
        let size = unsafe protobuf_c_message_get_packed_size(message)
        writeField(number, length: size + tail.readableBytes)
        unsafe writeMessage(message)
        writeImmutableBuffer(tail)
    }

    /// Writes a message field: what protobuf-c packs of `message`, `fields` of it that were encoded before, and the entries
    /// with which it ends, or leaves those out.
    @unsafe mutating func writeField(
        _ number: UInt32, _ message: UnsafePointer<ProtobufCMessage>, fields: ByteBuffer, entries: ByteBuffer,
        _ end: inout FrameEnd
    ) {
        let size = unsafe protobuf_c_message_get_packed_size(message)
        writeField(number, length: size + fields.readableBytes + entries.readableBytes)
        unsafe writeMessage(message)
        writeImmutableBuffer(fields)
        if !end.detaches(entries) { writeImmutableBuffer(entries) }
    }
}

/// The entries with which a frame ends, where they are many enough to be sent as they lie, without a copy.
struct FrameEnd {
    /// Fewer bytes are copied.
    let detachedBytesMin: Int
    /// What is to be sent after the frame's other bytes; nil where those are all.
    private(set) var detached: ByteBuffer?

    init(detachedBytesMin: Int) { self.detachedBytesMin = detachedBytesMin }

    /// Whether the entries, the last of the frame, are to be left out.
    mutating func detaches(_ entries: ByteBuffer) -> Bool {
        guard entries.readableBytes >= detachedBytesMin else { return false }
        detached = entries
        return true
    }
}

/// Calls `body` with the message that `initialise` makes, as protobuf-c sees it.
@unsafe func withMessage<Message, Result>(
    _ message: Message, _ initialise: (UnsafeMutablePointer<Message>) -> Void,
    _ body: (UnsafeMutablePointer<Message>) throws -> Result
) rethrows -> Result {
    var message = message
    unsafe initialise(&message)
    return try unsafe body(&message)
}

/// Calls `body` with an array of pointers to the messages, as protobuf-c's repeated fields want them.
@unsafe func withPointers<Message, Result>(
    _ messages: [Message], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<Message>?>?, Int) throws -> Result
) rethrows -> Result {
    var messages = messages
    return try unsafe messages.withUnsafeMutableBufferPointer { buffer in
        var pointers: [UnsafeMutablePointer<Message>?] = unsafe buffer.indices.map { index in
            unsafe buffer.baseAddress.map { unsafe $0 + index }
        }
        let count = unsafe pointers.count
        return try unsafe pointers.withUnsafeMutableBufferPointer { pointers in
            try unsafe body(pointers.baseAddress, count)
        }
    }
}

extension MartletError {
    /// A message that is no protobuf message of the kind expected, or needs too much memory.
    static func undecodable(_ kind: String, bytes: Int, budget: Int, wasExhausted: Bool) -> MartletError {
        wasExhausted
            ? MartletError(
                .resourceExhausted, reason: .decodeBudgetExceeded,
                message: "decoding this \(kind) of \(bytes) bytes takes more than \(budget) bytes of memory: "
                    + "send fewer nested messages at once",
                limit: .init(name: "decode_bytes_max", limit: UInt64(budget), actual: UInt64(budget) + 1))
            : MartletError(
                .invalidArgument, reason: .badFrame,
                message: "a frame of \(bytes) bytes is not a \(kind): check that the client speaks martlet/1")
    }
}
