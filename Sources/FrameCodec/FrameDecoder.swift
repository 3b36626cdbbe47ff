public import MartletModel
public import NIOCore

/// Cuts a byte stream into frames: one flag byte, the length in 4 bytes big-endian, one protobuf message.
///
/// The declared length is checked before a body is buffered, so that what is held is never more than one
/// frame and one read.
public struct FrameDecoder: Sendable {
    /// Length of what precedes each message.
    public static let prefixBytes = 5

    private static let looseBytesMax = 2 << 10
    /// What must have come of a frame before memory is taken for the rest.
    private static let reservedFromBytes = 16 << 10
    /// What one read may bring beyond the frame.
    private static let readBytesMax = 64 << 10

    private let frameBytesMax: Int
    private var buffer = ByteBuffer()

    /// A decoder that refuses longer frames.
    public init(limits: Limits) { frameBytesMax = limits.frameBytesMax }

    /// Adds bytes as they came in.
    public mutating func feed(_ bytes: ByteBuffer) {
        if buffer.readableBytes == 0 {
            buffer = bytes
        } else {
            buffer.discardReadBytes()
            buffer.writeImmutableBuffer(bytes)
        }
    }

    /// Length of the frame that has begun and is not whole, with its prefix; 0 without one, or before its length came.
    public var awaitedFrameBytes: Int {
        guard let length: UInt32 = buffer.getInteger(at: buffer.readerIndex + 1) else { return 0 }
        return Self.prefixBytes + Int(length)
    }

    /// Takes the next whole message; nil until more bytes come in.
    /// - Throws: what is wrong with the stream, which cannot be read any further.
    public mutating func next() throws(MartletError) -> ByteBuffer? {
        guard let flag: UInt8 = buffer.getInteger(at: buffer.readerIndex) else { return nil }
        guard flag == 0 else {
            throw MartletError(
                .invalidArgument, reason: .badFrame,
                message: "the frame starts with flag byte \(flag), but only 0 (not compressed) is supported: "
                    + "check that the client speaks martlet/1")
        }
        guard let length: UInt32 = buffer.getInteger(at: buffer.readerIndex + 1) else { return nil }
        guard Int(length) <= frameBytesMax else {
            throw MartletError(
                .resourceExhausted, reason: .frameTooLarge,
                message: "frame_bytes_max is \(frameBytesMax), but this frame declares \(length): send smaller frames",
                limit: .init(name: "frame_bytes_max", limit: UInt64(frameBytesMax), actual: UInt64(length)))
        }
        guard buffer.readableBytes >= Self.prefixBytes + Int(length) else {
            makeRoom(frameBytes: Self.prefixBytes + Int(length))
            return nil
        }
        buffer.moveReaderIndex(forwardBy: Self.prefixBytes)
        let message = buffer.readSlice(length: Int(length))
        let isLoose = Self.isLoose(Int(length), in: buffer)
        // What was read is held no longer than it is needed.
        if buffer.readableBytes == 0 { buffer = ByteBuffer() }
        guard isLoose, let message else { return message }
        var own = ByteBuffer()
        own.reserveCapacity(message.readableBytes)
        own.writeImmutableBuffer(message)
        return own
    }

    /// Whether so many bytes are to leave the buffer that they came in, because it is much larger: they may wait long.
    public static func isLoose(_ bytes: Int, in buffer: ByteBuffer) -> Bool {
        buffer.storageCapacity > 4 * bytes + looseBytesMax
    }

    /// A large frame comes in several reads: they go to where it stays, without growing it read by read.
    private mutating func makeRoom(frameBytes: Int) {
        guard buffer.readableBytes >= Self.reservedFromBytes,
            buffer.writableBytes < frameBytes - buffer.readableBytes
        else { return }
        var whole = ByteBuffer()
        whole.reserveCapacity(frameBytes + Self.readBytesMax)
        whole.writeImmutableBuffer(buffer)
        buffer = whole
    }
}
