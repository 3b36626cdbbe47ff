import MartletFrameCodec
import MartletModel
import NIOCore

/// Cuts the bytes of a stream into messages: a flag byte, the length in 4 bytes big-endian, the message.
///
/// The declared length is checked before a message is waited for.
struct MessageReader {
    /// A message as it came.
    struct Message {
        var bytes: ByteBuffer
        var isCompressed: Bool
    }

    private let messageBytesMax: Int
    private var buffer = ByteBuffer()

    init(messageBytesMax: Int) { self.messageBytesMax = messageBytesMax }

    /// What came and was not taken.
    var heldBytes: Int { buffer.readableBytes }

    /// The stream ends between two messages.
    var isBetweenMessages: Bool { buffer.readableBytes == 0 }

    /// Length of the message that has begun and is not whole, with its prefix; 0 without one, or before its length came.
    var awaitedBytes: Int {
        guard let length: UInt32 = buffer.getInteger(at: buffer.readerIndex + 1),
            buffer.readableBytes < Int(length) + BareMessages.prefixBytes
        else { return 0 }
        return Int(length) + BareMessages.prefixBytes
    }

    mutating func feed(_ bytes: ByteBuffer) {
        if buffer.readableBytes == 0 {
            buffer = bytes
        } else {
            buffer.discardReadBytes()
            let whole = min(awaitedBytes, messageBytesMax + BareMessages.prefixBytes)
            if buffer.capacity < whole { buffer.reserveCapacity(whole) }
            buffer.writeImmutableBuffer(bytes)
        }
    }

    /// Takes the next whole message; nil until more bytes come in.
    /// - Throws: what is wrong with the stream, which cannot be read any further.
    mutating func next() throws(MartletError) -> Message? {
        guard let flag: UInt8 = buffer.getInteger(at: buffer.readerIndex) else { return nil }
        guard flag <= 1 else {
            throw MartletError(
                .internal, reason: .badFrame,
                message: "a message begins with flag byte \(flag): 0 is not compressed, 1 is compressed")
        }
        guard let length: UInt32 = buffer.getInteger(at: buffer.readerIndex + 1) else { return nil }
        guard Int(length) <= messageBytesMax else {
            throw MartletError(
                .resourceExhausted, reason: .frameTooLarge,
                message: "frame_bytes_max is \(messageBytesMax), but this message declares \(length) bytes: "
                    + "send smaller messages",
                limit: .init(name: "frame_bytes_max", limit: UInt64(messageBytesMax), actual: UInt64(length)))
        }
        guard buffer.readableBytes >= BareMessages.prefixBytes + Int(length) else { return nil }
        buffer.moveReaderIndex(forwardBy: BareMessages.prefixBytes)
        guard var message = buffer.readSlice(length: Int(length)) else { return nil }
        if FrameDecoder.isLoose(Int(length), in: buffer) {
            var own = ByteBuffer()
            own.reserveCapacity(message.readableBytes)
            own.writeImmutableBuffer(message)
            message = own
        }
        // What was read is held no longer than it is needed.
        if buffer.readableBytes == 0 { buffer = ByteBuffer() }
        return Message(bytes: message, isCompressed: flag == 1)
    }

    /// Nothing more is read of the stream.
    mutating func drop() { buffer = ByteBuffer() }
}
