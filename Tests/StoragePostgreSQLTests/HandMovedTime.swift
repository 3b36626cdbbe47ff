import NIOConcurrencyHelpers

/// A clock that stands still until it is moved.
final class HandMovedTime: Sendable {
    private let instant = NIOLockedValueBox(ContinuousClock.now)

    var now: ContinuousClock.Instant { instant.withLockedValue { $0 } }

    func advance(_ time: Duration) { instant.withLockedValue { $0 += time } }
}
