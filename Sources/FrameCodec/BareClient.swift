package import MartletModel
import MartletRecordCodec
import MartletSession
package import NIOCore

// The client's side of messages without frames.

extension BareMessages {
    /// Encodes a request, without a prefix, and says what it is.
    package static func encode(_ request: CallRequest) -> (kind: RequestKind?, message: ByteBuffer) {
        var buffer = ByteBuffer()
        request.encode(to: &buffer)
        let (number, start) = keyAndStart(of: buffer)
        buffer.moveReaderIndex(to: start)
        return (RequestKind(rawValue: number), buffer)
    }

    /// Encodes what a worker says: a message of `WorkerReplies`, without a prefix.
    package static func encode(_ replies: [WorkerReply]) -> ByteBuffer {
        var buffer = ByteBuffer()
        WorkerReplies.encode(replies, to: &buffer)
        buffer.moveReaderIndex(to: keyAndStart(of: buffer).start)
        return buffer
    }

    /// The number of the field that a buffer holds, and where its content begins.
    private static func keyAndStart(of buffer: ByteBuffer) -> (number: UInt32, start: Int) {
        var numbers: [UInt64] = []
        var index = buffer.readerIndex
        while numbers.count < 2 {
            var value: UInt64 = 0
            var shift: UInt64 = 0
            while let byte: UInt8 = buffer.getInteger(at: index) {
                index += 1
                value |= UInt64(byte & 0x7F) << shift
                shift += 7
                if byte < 0x80 { break }
            }
            numbers.append(value)
        }
        return (UInt32(truncatingIfNeeded: numbers[0] >> 3), index)
    }

    /// Decodes a part or an answer of a call.
    /// - Throws: what is wrong with it.
    package static func answer(
        _ message: ByteBuffer, to kind: RequestKind, limits: Limits
    ) throws(MartletError) -> CallMessage {
        guard case .message(let answer) = try frame(message, field: kind.rawValue, limits).body else {
            throw unreadable(message)
        }
        return answer
    }

    /// Decodes a message of `CallStatus`; nil where it is OK.
    /// - Throws: what is wrong with it.
    package static func callStatus(
        decoding message: ByteBuffer, limits: Limits
    ) throws(MartletError) -> MartletError? {
        guard case .status(let error) = try frame(message, field: 5, limits).body else { throw unreadable(message) }
        return error
    }

    private static func frame(
        _ message: ByteBuffer, field: UInt32, _ limits: Limits
    ) throws(MartletError) -> ServerFrame {
        var frame = ByteBuffer()
        frame.writeField(field, length: message.readableBytes)
        frame.writeImmutableBuffer(message)
        return try ServerFrameCodec.decode(frame, limits: limits)
    }
}
