import MartletModel
import NIOCore

/// A stream of HTTP/2 that is open on either side, or whose answer waits for the client.
public class HTTP2Stream {
    /// How what is sent on a stream ends, once what waits has been sent.
    enum Ending {
        /// With the last DATA.
        case data
        /// With trailers.
        case trailers(GRPCStatus)
    }

    /// Names it within its connection: the stream's number.
    public let id: UInt64
    var number: UInt32 { UInt32(truncatingIfNeeded: id) }

    /// The client sends nothing more.
    var isInputClosed = false
    /// The server sends nothing more.
    var isOutputClosed = false
    /// What the client may still send before it is given more.
    var receiveWindow = HTTP2Windows.initial
    /// Bytes of DATA that are to come, where the request has a content-length.
    var contentLeft: Int?

    /// What the client takes now; below 0 where it has made its window smaller.
    var sendWindow: Int
    /// What waits for the client's windows.
    var waiting: [ByteBuffer] = []
    /// The bytes of it.
    var waitingBytes = 0
    var ending: Ending?
    /// It is among those that are sent from when the connection's window opens.
    var isQueued = false

    init(_ id: UInt64, sendWindow: Int) {
        self.id = id
        self.sendWindow = sendWindow
    }
}

/// A request that is no call. It is answered when it has ended.
final class PlainRequest: HTTP2Stream {
    private let status: Int
    private let text: String
    private let isHead: Bool
    /// Bytes that have come of it.
    var bytes = 0
    var isAnswered = false

    init(_ id: UInt64, sendWindow: Int, status: Int, text: String, isHead: Bool) {
        self.status = status
        self.text = text
        self.isHead = isHead
        super.init(id, sendWindow: sendWindow)
    }

    /// The fields of the answer.
    var fields: [AnswerField] {
        [
            .status(status), .literal("content-type", "text/plain; charset=utf-8"),
            .literal("content-length", "\(text.utf8.count + 1)"),
        ]
    }

    /// A line of text; nothing for HEAD.
    var body: ByteBuffer? { isHead ? nil : ByteBuffer(string: text + "\n") }
}
