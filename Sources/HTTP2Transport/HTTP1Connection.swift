public import MartletAccess
public import MartletModel
public import MartletService
public import NIOCore
public import NIOHTTP1

/// A connection of HTTP/1.1: its one request is told that there is nothing for it here, and it is closed. Bound to its
/// channel's event loop.
public final class HTTP1Connection: ChannelInboundHandler, AdmittedConnection {
    /// A request.
    public typealias InboundIn = HTTPServerRequestPart
    /// Its answer.
    public typealias OutboundOut = HTTPServerResponsePart

    private let service: EventService
    private let services: GRPCServices
    private let eventLoop: any EventLoop
    private var channelContext: ChannelHandlerContext?
    private var isAnswered = false
    private var timeout: Scheduled<Void>?

    /// A connection of the event loop that this is called on.
    public init(service: EventService, services: GRPCServices, eventLoop: any EventLoop) {
        self.service = service
        self.services = services
        self.eventLoop = eventLoop
    }

    /// Joins the channel: the request has as long to come as a handshake.
    public func handlerAdded(context: ChannelHandlerContext) {
        channelContext = context
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        timeout = eventLoop.scheduleTask(in: .milliseconds(Int64(service.limits.handshakeMillis))) {
            bound.value.abort()
        }
    }

    /// Leaves the channel.
    public func handlerRemoved(context: ChannelHandlerContext) {
        timeout?.cancel()
        channelContext = nil
    }

    /// Answers the first request; whatever comes after its head is not looked at.
    public func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .head(let head) = unwrapInboundIn(data), !isAnswered else { return }
        isAnswered = true
        let refusal = services.refusal(ofPath: head.uri)
        let text = refusal.text + "\n"
        let headers: HTTPHeaders = [
            "content-type": "text/plain; charset=utf-8", "content-length": "\(text.utf8.count)", "connection": "close",
        ]
        let status = HTTPResponseStatus(statusCode: refusal.status)
        context.write(
            wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: status, headers: headers))), promise: nil)
        if head.method != .HEAD {
            context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: text)))), promise: nil)
        }
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
        context.close(promise: nil)
    }

    /// Closes: what came is no HTTP/1.1.
    public func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    /// Nothing depends on who it is.
    public func open(_ principal: Principal, warrant: any ConnectionWarrant) {}
    /// Nothing depends on who it is.
    public func refuse(_ error: MartletError) {}
    /// Closes.
    public func drain() { channelContext?.close(promise: nil) }
    /// Closes.
    public func abort() { channelContext?.close(promise: nil) }
    /// Nothing depends on who it is.
    public func recheck() {}
}

extension GRPCServices {
    /// What a request gets that is no call over gRPC: a status of HTTP and a line of text.
    func refusal(ofPath path: String) -> (status: Int, text: String) {
        hasService(at: path)
            ? (
                415,
                "this is gRPC: send POST with content-type application/grpc over HTTP/2, for instance by a client that is "
                    + "generated from martlet.v1"
            )
            : (404, "there is nothing here: Martlet speaks gRPC and martlet/1 on this port, and has no HTTP pages")
    }
}
