import MartletHTTP2Transport
import MartletModel
import NIOCore

/// `grpc.testing.TestService`, on the layer that Martlet's own services stand on.
enum TestService {
    static let service = GRPCService(
        name: "grpc.testing.TestService",
        methods: [
            "EmptyCall": GRPCMethod { TestHandler(.empty, $0) },
            "UnaryCall": GRPCMethod { TestHandler(.unary, $0) },
            "CacheableUnaryCall": GRPCMethod { TestHandler(.unary, $0) },
            "StreamingOutputCall": GRPCMethod(streamsResponses: true) { TestHandler(.output, $0) },
            "StreamingInputCall": GRPCMethod(streamsRequests: true) { TestHandler(.input, $0) },
            "FullDuplexCall": GRPCMethod(streamsRequests: true, streamsResponses: true) { TestHandler(.duplex, $0) },
            "HalfDuplexCall": GRPCMethod(streamsRequests: true, streamsResponses: true) {
                TestHandler(.halfDuplex, $0)
            },
        ])
}

/// A call of the test service.
final class TestHandler: GRPCHandler {
    enum Kind { case empty, unary, output, input, duplex, halfDuplex }

    private let kind: Kind
    private var pending: CircularBuffer<ResponseParameters> = []
    private var status: EchoStatus?
    private var receivedBytes = 0
    private var isInputClosed = false
    private var isWaiting = false

    init(_ kind: Kind, _ call: GRPCCall) {
        self.kind = kind
        call.allowCompression()
        let initial = call.requestMetadata.filter { $0.name == "x-grpc-test-echo-initial" }
        call.setInitialMetadata(initial)
    }

    func received(_ message: ByteBuffer, of call: GRPCCall) {
        let request: TestRequest =
            switch kind {
            case .empty: TestRequest()
            case .unary: .simple(message)
            case .input: .input(message)
            case .output, .duplex, .halfDuplex: .output(message)
            }
        if let expects = request.expectsCompression, expects != call.isMessageCompressed {
            return end(call, GRPCStatus(.invalidArgument, "the message is not compressed as it says"))
        }
        receivedBytes += request.payloadBytes
        if let status = request.status, status.code != 0 { self.status = status }
        pending.append(contentsOf: request.responses)
        if kind == .duplex { pump(call) }
    }

    func receivedEnd(of call: GRPCCall) {
        isInputClosed = true
        switch kind {
        case .empty: call.send(ByteBuffer())
        case .input: call.send(inputResponse(aggregatedBytes: receivedBytes))
        case .unary, .output, .duplex, .halfDuplex: break
        }
        pump(call)
    }

    /// Sends what is to be sent, as far as the client takes it; the status when nothing is left, or when it was asked for.
    func pump(_ call: GRPCCall) {
        guard !isWaiting else { return }
        if let status { return end(call, GRPCStatus(StatusCode(rawValue: status.code), status.message)) }
        while let next = pending.first {
            guard call.room > 0 else { return }
            pending.removeFirst()
            guard next.intervalMicros > 0 else {
                call.send(next.response, compressed: next.isCompressed)
                continue
            }
            isWaiting = true
            let bound = NIOLoopBound((self, call), eventLoop: call.eventLoop)
            call.eventLoop.scheduleTask(in: .microseconds(next.intervalMicros)) {
                let (handler, call) = bound.value
                handler.isWaiting = false
                call.send(next.response, compressed: next.isCompressed)
                handler.pump(call)
            }
            return
        }
        if isInputClosed { end(call, .ok) }
    }

    private func end(_ call: GRPCCall, _ status: GRPCStatus) {
        var status = status
        status.metadata = call.requestMetadata.filter { $0.name == "x-grpc-test-echo-trailing-bin" }
        call.end(status)
    }
}
