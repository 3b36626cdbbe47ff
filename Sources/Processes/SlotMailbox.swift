import MartletClient
import MartletModel
import NIOConcurrencyHelpers

/// What has come for a slot that the server has assigned. Events in it are bounded by the credit of the consumption.
final class SlotMailbox: Sendable {
    struct Content {
        var events: [ConsumedEvent] = []
        var committed: Position?
        /// It stopped before these events.
        var hasStopped = false
    }

    let slot: ConsumeMessage.Slot
    /// Yields when something has come since; ends when the slot is revoked.
    let wakeUps: AsyncStream<Void>
    private let wakeUp: AsyncStream<Void>.Continuation
    private let state = NIOLockedValueBox((content: Content(), isRevoked: false))

    init(_ slot: ConsumeMessage.Slot) {
        self.slot = slot
        (wakeUps, wakeUp) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    /// The server has taken the slot away.
    var isRevoked: Bool { state.withLockedValue { $0.isRevoked } }

    func put(_ change: (inout Content) -> Void) {
        state.withLockedValue { change(&$0.content) }
        wakeUp.yield()
    }

    /// The slot has stopped.
    /// - Returns: events that were not taken: they come again when it goes on.
    func stop() -> [ConsumedEvent] {
        defer { wakeUp.yield() }
        return state.withLockedValue { state in
            defer { state.content = Content(committed: state.content.committed, hasStopped: true) }
            return state.content.events
        }
    }

    func take() -> Content {
        state.withLockedValue { state in
            defer { state.content = Content() }
            return state.content
        }
    }

    func revoke() {
        state.withLockedValue { $0.isRevoked = true }
        wakeUp.finish()
    }
}
