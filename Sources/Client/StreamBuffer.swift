import DequeModule
import MartletModel
import MartletSession
import NIOConcurrencyHelpers
import NIOCore

/// What has come of a stream and waits for its consumer: filled on the event loop, emptied in the consumer's task.
///
/// Bounded by the stream's credit window in bytes, and in messages that carry no events: of those that say
/// how far the server is only the last is kept, of a worker's those of each slot, and beyond `signalsMax` others the
/// stream is ended.
final class StreamBuffer: Sendable {
    enum Delivery: Sendable {
        /// A part, and the credit to grant now.
        case part(CallMessage, grantBytes: Int)
        /// The end; nil is OK. Asked again, the answer is the same.
        case end(CallFailure?)
    }

    /// What is to be done after a part came.
    enum Reaction: Equatable {
        case none
        case grant(Int)
        /// The stream has ended here, because its consumer does not keep up with messages that take no credit, or because
        /// the next event is too large for this client: cancel the call.
        case giveUp
    }

    private static let signalsMax = 1_024

    fileprivate struct State {
        var parts: Deque<CallMessage> = []
        /// How many parts were there before the first of `parts`.
        var takenCount = 0
        var signalCount = 0
        /// Of a worker's stream.
        var workerSignals: WorkerSignals?
        let holdsCredit: Bool
        var end: CallFailure??
        var waiter: CheckedContinuation<Void, Never>?
        var window: CreditWindow
    }

    private let state: NIOLockedValueBox<State>

    /// - Parameters:
    ///   - workerSignals: of a worker's stream. What a worker has not taken when its stream ends is dropped: it comes again on
    ///     the next.
    ///   - holdsCredit: what was taken still counts as waiting here, until it is given back (``giveBack(_:)``).
    init(window: CreditWindow, workerSignals: WorkerSignals? = nil, holdsCredit: Bool = false) {
        state = NIOLockedValueBox(State(workerSignals: workerSignals, holdsCredit: holdsCredit, window: window))
    }

    /// Whether the stream has ended, be it that parts still wait here.
    var hasEnded: Bool { state.withLockedValue { $0.end != nil } }

    /// A part came.
    func offer(_ part: CallMessage) -> Reaction {
        let (reaction, wake) = state.withLockedValue { state -> (Reaction, (() -> Void)?) in
            guard state.end == nil else { return (.none, nil) }
            state.window.receive(Int(part.entryBytes), of: part.tenant)
            var grant = 0
            if let wanted = part.wantedBytes {
                guard wanted <= UInt64(clamping: state.window.windowBytesMax) else {
                    state.finish(.init(error: Self.tooLarge(wanted, max: state.window.windowBytesMax)))
                    return (.giveUp, state.wake())
                }
                let tenant = part.tenant.flatMap { state.workerSignals?.knows($0) == true ? $0 : nil }
                grant = state.window.want(wanted, for: tenant)
            }
            guard part.isForConsumer else { return (grant > 0 ? .grant(grant) : .none, nil) }
            guard state.add(part) else {
                state.finish(.init(error: Self.overflowed(state.signalsMax)))
                return (.giveUp, nil)
            }
            return (grant > 0 ? .grant(grant) : .none, state.wake())
        }
        wake?()
        return reaction
    }

    /// The stream ended; what came before is still delivered, unless it is a worker's.
    func finish(_ failure: CallFailure?) {
        let wake = state.withLockedValue { state -> (() -> Void)? in
            guard state.end == nil else { return nil }
            state.finish(failure)
            return state.wake()
        }
        wake?()
    }

    /// The consumer wants no more: what waits here is dropped.
    func cancel() {
        let wake = state.withLockedValue { state -> (() -> Void)? in
            state.parts.removeAll()
            state.end = .some(.cancelled())
            return state.wake()
        }
        wake?()
    }

    /// The consumer, who holds credit, has done with so many bytes of what it took.
    /// - Returns: the credit to grant now.
    func giveBack(_ bytes: Int) -> Int { state.withLockedValue { $0.window.take(bytes) } }

    /// The next part, when there is one. One task at a time may wait.
    func next() async -> Delivery {
        while true {
            // Taken under the lock that it was added under, also after a wait.
            if let ready = state.withLockedValue({ $0.take() }) { return ready }
            await withCheckedContinuation { continuation in
                let isReady = state.withLockedValue { state in
                    if state.isReady { return true }
                    state.waiter = continuation
                    return false
                }
                if isReady { continuation.resume() }
            }
        }
    }

    private static func tooLarge(_ bytes: UInt64, max: Int) -> MartletError {
        MartletError(
            .resourceExhausted, reason: .limitExceeded,
            message: "the next part of the stream needs \(bytes) bytes of credit, but this client grants at most "
                + "\(max) (frame_bytes_max): raise frameBytesMax in the limits of its configuration",
            limit: .init(name: "frame_bytes_max", limit: UInt64(clamping: max), actual: bytes))
    }

    private static func overflowed(_ signalsMax: Int) -> MartletError {
        MartletError(
            .resourceExhausted, reason: .limitExceeded,
            message: "\(signalsMax) messages without events are waiting for the subscriber: consume them faster",
            isRetryable: true)
    }
}

extension StreamBuffer.State {
    fileprivate var signalsMax: Int { workerSignals?.countMax ?? StreamBuffer.signalsMax }

    fileprivate mutating func finish(_ failure: CallFailure?) {
        if workerSignals != nil { parts.removeAll() }
        end = .some(failure)
    }

    fileprivate mutating func add(_ part: CallMessage) -> Bool {
        guard part.entryBytes == 0 else {
            parts.append(part)
            return true
        }
        if part.saysHowFarOnly, let last = parts.last, last.saysHowFarOnly {
            parts[parts.count - 1] = part
            return true
        }
        if let number = replaced(by: part) {
            parts[number - takenCount] = part
            return true
        }
        guard signalCount < signalsMax else { return false }
        signalCount += 1
        parts.append(part)
        return true
    }

    /// The number of the part that says nothing any more that this one does not say.
    private mutating func replaced(by part: CallMessage) -> Int? {
        let number = takenCount + parts.count
        switch part {
        case .consume(let message):
            return workerSignals?.receive(message, about: nil, number: number, takenCount: takenCount)
        case .consumeOf(let tenant, let message):
            if case .left = message { window.forget(tenant) }
            return workerSignals?.receive(message, about: tenant, number: number, takenCount: takenCount)
        default: return nil
        }
    }

    fileprivate mutating func take() -> StreamBuffer.Delivery? {
        guard let part = parts.popFirst() else { return end.map { .end($0) } }
        takenCount += 1
        let bytes = Int(part.entryBytes)
        if bytes == 0 { signalCount -= 1 }
        return .part(part, grantBytes: holdsCredit ? 0 : window.take(bytes))
    }

    fileprivate var isReady: Bool { !parts.isEmpty || end != nil }

    /// What resumes the consumer, where it waits and there is something for it.
    fileprivate mutating func wake() -> (() -> Void)? {
        guard let waiter, isReady else { return nil }
        self.waiter = nil
        return { waiter.resume() }
    }
}

extension CallMessage {
    /// A heartbeat or a checkpoint without events: a later one says all that it says.
    fileprivate var saysHowFarOnly: Bool {
        guard case .subscribe(let message) = self, message.entries.readableBytes == 0 else { return false }
        switch message.signal {
        case .heartbeat, .checkpoint: return true
        case .started, .caughtUp, .fellBehind, .upcastersChanged, nil: return false
        }
    }

    /// The credit that the server waits for; nil if it waits for none.
    fileprivate var wantedBytes: UInt64? {
        switch self {
        case .loadWaits(let bytes), .readWaits(let bytes): return bytes
        case .subscribe(let message):
            guard case .heartbeat(_, let bytes)? = message.signal, bytes > 0 else { return nil }
            return bytes
        case .consume(.waits(let bytes)), .consumeOf(_, .waits(let bytes)): return bytes
        default: return nil
        }
    }

    /// Whom it is about, on a stream over many tenants.
    fileprivate var tenant: TenantID? { if case .consumeOf(let tenant, _) = self { tenant } else { nil } }

    /// Whether it says more than that the server waits for credit.
    fileprivate var isForConsumer: Bool {
        switch self {
        case .loadWaits, .readWaits, .consume(.waits), .consumeOf(_, .waits): false
        default: true
        }
    }
}
