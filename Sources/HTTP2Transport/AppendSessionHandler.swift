import MartletFrameCodec
import MartletModel
import MartletService
import NIOCore

/// A session of appends: they are decided in the order in which they come, each is answered for itself, and what one is
/// refused with does not end the session.
final class AppendSessionHandler: GRPCHandler, MartletCalls.Caller {
    private let calls: MartletCalls?
    /// Held until its end, which lets go of this handler.
    private let call: GRPCCall
    /// The appends that are not answered, by the keys that the service knows them by.
    private var open: [CallKey: UInt64] = [:]
    private var lastRequestID: UInt64 = 0
    private var isInputClosed = false
    private var isDraining = false
    private let openMax: Int

    init(_ call: GRPCCall) {
        calls = call.calls
        self.call = call
        openMax = call.connection?.limits.callsPerConnectionMax ?? 0
    }

    func received(_ message: ByteBuffer, of call: GRPCCall) {
        guard let calls, let connection = call.connection else { return }
        do throws(MartletError) {
            let append = try BareMessages.sessionAppend(message, limits: connection.limits)
            guard append.requestID > lastRequestID else {
                throw .invalidField(
                    "request_id",
                    "is \(append.requestID), not above \(lastRequestID), the last one: number the appends upward")
            }
            lastRequestID = append.requestID
            switch append.request {
            case .failure(let error):
                connection.service.callRefused()
                answer(.failure(error), append.requestID)
            case .success where isDraining: answer(.failure(.draining), append.requestID)
            case .success(let request):
                let key = calls.makeKey()
                open[key] = append.requestID
                calls.start(key, request, timeoutMillis: append.timeoutMillis, for: self)
            }
            // A client that waits for no answer, or reads none, waits here.
            if open.count >= openMax || call.room == 0 { call.pause() }
        } catch { connection.end(call, error) }
    }

    func receivedEnd(of call: GRPCCall) {
        isInputClosed = true
        endIfDone()
    }

    /// The client is gone: appends that are not decided leave the queue.
    func ended(_ call: GRPCCall) {
        let left = open.keys
        open = [:]
        for key in left { calls?.cancel(key) }
    }

    /// What has come is answered; the session ends then.
    func drain(_ call: GRPCCall) {
        isDraining = true
        endIfDone()
    }

    private func endIfDone() {
        guard open.isEmpty else { return }
        if isDraining { call.end(GRPCStatus(.draining)) } else if isInputClosed { call.end(.ok) }
    }

    // MARK: Answers

    func room(for key: CallKey) -> Int { call.room }

    func send(_ message: CallMessage, of key: CallKey, isLast: Bool) {
        guard case .append(let receipt) = message else { return }
        finish(key, .success(receipt))
    }

    func end(_ key: CallKey, _ error: MartletError?) {
        guard let error else { return }
        finish(key, .failure(error))
    }

    private func finish(_ key: CallKey, _ outcome: Result<AppendReceipt, MartletError>) {
        guard let requestID = open.removeValue(forKey: key) else { return }
        answer(outcome, requestID)
        endIfDone()
        resume(call)
    }

    private func resume(_ call: GRPCCall) {
        if call.isPaused, open.count < openMax, call.room > 0 { call.resume() }
    }

    private func answer(_ outcome: Result<AppendReceipt, MartletError>, _ requestID: UInt64) {
        call.send(BareMessages.Prefixed(head: BareMessages.encode(outcome, of: requestID)))
    }

    func pump(_ call: GRPCCall) {
        for key in open.keys { calls?.pump(key) }
        resume(call)
    }
}
