import MartletFrameCodec
import MartletModel
import MartletService
public import NIOCore
import NIOHPACK

/// A call over gRPC: a stream of its connection. Used on the connection's event loop.
public final class GRPCCall: HTTP2Stream {
    /// What was sent of the answer.
    enum Answer {
        case nothing
        case headers
        /// The end, too, perhaps behind messages that wait for the client.
        case all
    }

    let method: GRPCMethod
    let headers: HPACKHeaders
    /// nil once the stream is closed.
    var connection: HTTP2Connection?
    /// What carries it out; nil before it begins, and when it is over.
    var handler: (any GRPCHandler)?
    /// Until when it must have ended, as long as nobody else looks after that.
    var deadline: NIODeadline?
    /// Time that the client gave it, in milliseconds, rounded up; 0 for none.
    public internal(set) var timeoutMillis: UInt32 = 0

    // What comes in.
    var reader: MessageReader
    /// Messages of the client are compressed by gzip, where they say so.
    var hasGzip = false
    var receivedCount = 0
    /// Whether the message that the handler is given was compressed.
    public internal(set) var isMessageCompressed = false
    var isEndDelivered = false
    /// The handler takes no messages now.
    private(set) var isPaused = false
    /// What of ``HTTP2Connection/heldBytes`` is of this call.
    var countedBytes = 0
    /// What it holds besides its messages.
    let stateBytes: Int
    /// Room for a large message.
    var account: InboundAccount?

    // What goes out.
    var answer = Answer.nothing
    /// It was told that there is no room.
    var isBlocked = false
    /// The client takes answers that are compressed by gzip.
    public internal(set) var acceptsGzip = false
    /// Messages of the answer may be compressed.
    private(set) var compresses = false
    var metadataToSend: [GRPCMetadatum] = []

    init(
        _ stream: UInt32, _ method: GRPCMethod, _ headers: HPACKHeaders, _ head: RequestHead,
        _ connection: HTTP2Connection
    ) {
        self.method = method
        self.headers = headers
        self.connection = connection
        eventLoop = connection.eventLoop
        reader = MessageReader(messageBytesMax: connection.limits.frameBytesMax)
        stateBytes = OpenCallsAccount.bytes(fields: head.fieldCount, contentBytes: head.contentBytes)
        acceptsGzip = head.acceptsGzip
        super.init(UInt64(stream), sendWindow: connection.initialSendWindow)
        contentLeft = head.contentLength
    }

    /// Whether the answer is complete, or nobody waits for it any more: nothing can be sent.
    public var isOver: Bool { handler == nil }

    /// Where it is used.
    public let eventLoop: any EventLoop
    /// The connection that it came by; nil once that is gone.
    var calls: MartletCalls? { connection?.martletCalls }

    /// The fields that the client sent along, those of HTTP/2 and gRPC itself apart.
    public var requestMetadata: [GRPCMetadatum] {
        headers.compactMap { name, value, _ in
            Self.isReserved(name) ? nil : GRPCMetadatum(name, value)
        }
    }

    private static func isReserved(_ name: String) -> Bool {
        name.hasPrefix(":") || name.hasPrefix("grpc-") || name == "content-type" || name == "te"
            || name == "user-agent"
    }

    /// Fields that the answer begins with; before the first message.
    public func setInitialMetadata(_ metadata: [GRPCMetadatum]) { metadataToSend = metadata }

    /// Messages of the answer may be compressed by gzip, if the client takes that; before the first message.
    public func allowCompression() { compresses = acceptsGzip }

    /// How many bytes the client takes now, as one message, a larger one apart: 0 for none. ``GRPCHandler/pump(_:)`` is called
    /// when that has changed.
    public var room: Int { connection?.room(of: self) ?? 0 }

    /// Sends a message, compressed where that was allowed.
    public func send(_ message: ByteBuffer, compressed: Bool = false) {
        let isCompressed = compressed && compresses
        let content = isCompressed ? Gzip.deflate(message) : message
        var head = ByteBuffer()
        head.reserveCapacity(BareMessages.prefixBytes)
        head.writeInteger(UInt8(isCompressed ? 1 : 0))
        head.writeInteger(UInt32(content.readableBytes))
        send(BareMessages.Prefixed(head: head, entries: content))
    }

    /// Sends a message that has its prefix.
    func send(_ message: BareMessages.Prefixed) {
        guard !isOver else { return }
        connection?.send(message, of: self)
    }

    /// Ends the call.
    public func end(_ status: GRPCStatus) {
        guard !isOver else { return }
        handler = nil
        connection?.end(self, status)
    }

    /// Takes no more messages of the client until ``resume()``: they wait where they are, and so does the client.
    public func pause() { isPaused = true }

    /// Takes messages again.
    public func resume() {
        guard isPaused else { return }
        isPaused = false
        connection?.deliver(self)
    }
}
