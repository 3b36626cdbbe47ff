import MartletFrameCodec
import MartletModel
import MartletService
import NIOCore

/// A worker's stream: the request first, what the worker says after it.
final class WorkerHandler: GRPCHandler, MartletCalls.Caller {
    private let calls: MartletCalls?
    /// Held until its end, which lets go of this handler.
    private let call: GRPCCall
    private var isStarted = false

    init(_ call: GRPCCall) {
        calls = call.calls
        self.call = call
    }

    func received(_ message: ByteBuffer, of call: GRPCCall) {
        guard let calls, let connection = call.connection else { return }
        do throws(MartletError) {
            switch try BareMessages.workerMessage(message, limits: connection.limits) {
            case .start(let request):
                guard !isStarted else {
                    throw .invalidField("start", "comes a second time: send it once, as the first message")
                }
                isStarted = true
                call.deadline = nil
                calls.start(call.id, request, timeoutMillis: call.timeoutMillis, for: self)
            case .replies(let replies):
                guard isStarted else {
                    throw .invalidField("start", "is missing: send it as the first message, replies after it")
                }
                calls.take(replies, of: call.id)
            }
        } catch { connection.end(call, error) }
    }

    /// The worker has said all: it leaves.
    func receivedEnd(of call: GRPCCall) {
        ended(call)
        call.end(
            isStarted
                ? .ok : GRPCStatus(.invalidField("start", "is missing: send it as the first message")))
    }

    func pump(_ call: GRPCCall) { calls?.pump(call.id) }

    func ended(_ call: GRPCCall) { if isStarted { calls?.cancel(call.id) } }

    func drain(_ call: GRPCCall) {
        ended(call)
        call.end(GRPCStatus(.draining))
    }

    func room(for key: CallKey) -> Int { call.room }

    func send(_ message: CallMessage, of key: CallKey, isLast: Bool) {
        call.send(BareMessages.encode(message, detachedBytesMin: 16 << 10))
    }

    func end(_ key: CallKey, _ error: MartletError?) { call.end(error.map { GRPCStatus($0) } ?? .ok) }
}
