import CMartletZlib
import MartletModel
import NIOCore

/// Messages that are compressed by gzip (RFC 1952), by the system's zlib.
enum Gzip {
    /// What a message of that many compressed bytes may become: 1 MiB, and 32 times as much as it is.
    static func inflatedBytesMax(compressedBytes: Int, messageBytesMax: Int) -> Int {
        min(messageBytesMax, (1 << 20) + 32 * compressedBytes)
    }

    /// How many frames without content a message counts for that has become so long: payloads that compress as they usually do
    /// count for none.
    static func controlFrames(inflatedBytes: Int, compressedBytes: Int) -> Int {
        max(0, inflatedBytes - 32 * compressedBytes) / (64 << 10)
    }

    /// 15 bits of window, in the form of gzip.
    private static let windowBits: CInt = 15 + 16
    private static let stepBytes = 64 << 10

    /// - Throws: what is wrong with the message.
    static func inflate(_ message: ByteBuffer, messageBytesMax: Int) throws(MartletError) -> ByteBuffer {
        let bytesMax = inflatedBytesMax(compressedBytes: message.readableBytes, messageBytesMax: messageBytesMax)
        var inflated = ByteBuffer()
        var stream = unsafe z_stream()
        guard unsafe martlet_inflateInit2(&stream, windowBits) == Z_OK else { throw unreadable }
        defer { unsafe inflateEnd(&stream) }
        let outcome: CInt = unsafe message.withUnsafeReadableBytes { bytes in
            unsafe stream.next_in = UnsafeMutablePointer(
                mutating: bytes.bindMemory(to: UInt8.self).baseAddress)
            unsafe stream.avail_in = UInt32(bytes.count)
            var outcome = Z_OK
            while outcome == Z_OK, inflated.readableBytes <= bytesMax {
                unsafe inflated.writeWithUnsafeMutableBytes(minimumWritableBytes: stepBytes) { target in
                    unsafe stream.next_out = target.bindMemory(to: UInt8.self).baseAddress
                    unsafe stream.avail_out = UInt32(stepBytes)
                    unsafe outcome = CMartletZlib.inflate(&stream, Z_NO_FLUSH)
                    return unsafe stepBytes - Int(stream.avail_out)
                }
                // All was read, and there is no end.
                if outcome == Z_BUF_ERROR { break }
            }
            return outcome
        }
        guard inflated.readableBytes <= bytesMax else {
            throw MartletError(
                .resourceExhausted, reason: .frameTooLarge,
                message: "a compressed message of \(message.readableBytes) bytes becomes more than \(bytesMax): "
                    + "send it as it is",
                limit: .init(
                    name: "inflated_bytes_max", limit: UInt64(bytesMax), actual: UInt64(inflated.readableBytes)))
        }
        guard outcome == Z_STREAM_END, unsafe stream.avail_in == 0 else { throw unreadable }
        return inflated
    }

    /// The message compressed, for speed rather than for size.
    static func deflate(_ message: ByteBuffer) -> ByteBuffer {
        var deflated = ByteBuffer()
        var stream = unsafe z_stream()
        guard unsafe martlet_deflateInit2(&stream, Z_BEST_SPEED, windowBits) == Z_OK else {
            preconditionFailure("zlib takes these parameters")
        }
        defer { unsafe deflateEnd(&stream) }
        let bound = unsafe Int(deflateBound(&stream, UInt(message.readableBytes)))
        unsafe message.withUnsafeReadableBytes { bytes in
            unsafe stream.next_in = UnsafeMutablePointer(mutating: bytes.bindMemory(to: UInt8.self).baseAddress)
            unsafe stream.avail_in = UInt32(bytes.count)
            unsafe deflated.writeWithUnsafeMutableBytes(minimumWritableBytes: bound) { target in
                unsafe stream.next_out = target.bindMemory(to: UInt8.self).baseAddress
                unsafe stream.avail_out = UInt32(bound)
                let outcome = unsafe CMartletZlib.deflate(&stream, Z_FINISH)
                precondition(outcome == Z_STREAM_END, "there is room for the worst case")
                return unsafe bound - Int(stream.avail_out)
            }
        }
        return deflated
    }

    private static let unreadable = MartletError(
        .internal, reason: .badFrame,
        message: "a message is said to be compressed by gzip and is not: check grpc-encoding")
}
