import MartletFrameCodec
public import MartletModel
import MartletRecordCodec
import NIOCore

// How an error of ours travels over gRPC: a code and a message as everywhere, and in `grpc-status-details-bin` a
// `google.rpc.Status` with `ErrorInfo`, `RetryInfo` where the call may be sent again, and `martlet.v1.CallStatus` with all
// that is known.

extension GRPCStatus {
    /// The domain of our reasons, in `google.rpc.ErrorInfo`.
    public static let errorDomain = "martlet.v1"
    /// The details in bytes, as base64: clients refuse trailers that are much longer.
    public static let detailsTextBytesMax = 4_096
    private static let detailsBytesMax = detailsTextBytesMax / 4 * 3
    /// After so long a call that may succeed is best sent again, in milliseconds.
    private static let retryMillis = 100

    /// How a call ends that failed.
    public init(_ error: MartletError) {
        self.init(error.code, error.message, details: Array(Self.details(of: error).readableBytesView))
    }

    private static func details(of error: MartletError) -> ByteBuffer {
        var status = ByteBuffer()
        status.writeVarint(1 << 3)
        status.writeVarint(UInt64(error.code.rawValue))
        status.writeText(2, error.message.prefix(utf8Bytes: 512))
        var info = ByteBuffer()
        info.writeText(1, error.reason.rawValue)
        info.writeText(2, errorDomain)
        status.writeAny("google.rpc.ErrorInfo", info)
        if error.isRetryable {
            var duration = ByteBuffer()
            duration.writeVarint(2 << 3)
            duration.writeVarint(UInt64(retryMillis) * 1_000_000)
            var retry = ByteBuffer()
            retry.writeField(1, duration)
            status.writeAny("google.rpc.RetryInfo", retry)
        }
        let typeBytes = 64
        let left = detailsBytesMax - status.readableBytes - typeBytes
        status.writeAny("martlet.v1.CallStatus", BareMessages.callStatus(error, bytesMax: left))
        return status
    }
}

extension String {
    /// What of the text fits into so many bytes of UTF-8.
    fileprivate func prefix(utf8Bytes bytesMax: Int) -> String {
        guard utf8.count > bytesMax else { return self }
        var end = utf8.index(utf8.startIndex, offsetBy: bytesMax)
        while end.samePosition(in: unicodeScalars) == nil { end = utf8.index(before: end) }
        return String(self[..<end])
    }
}

extension ByteBuffer {
    fileprivate mutating func writeText(_ number: UInt32, _ text: String) {
        guard !text.isEmpty else { return }
        writeField(number, length: text.utf8.count)
        writeString(text)
    }

    fileprivate mutating func writeField(_ number: UInt32, _ content: ByteBuffer) {
        writeField(number, length: content.readableBytes)
        writeImmutableBuffer(content)
    }

    /// Writes a `google.protobuf.Any` among `google.rpc.Status.details`.
    fileprivate mutating func writeAny(_ type: String, _ content: ByteBuffer) {
        var any = ByteBuffer()
        any.writeText(1, "type.googleapis.com/\(type)")
        any.writeField(2, content)
        writeField(3, any)
    }
}
