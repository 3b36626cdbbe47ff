import NIOConcurrencyHelpers

/// Whether other servers listen, as the last commit that asked has found: not every commit asks.
final class ListenerPresence: Sendable {
    /// For so long nobody is taken to be there where nobody was. Who comes meanwhile finds what it was not told when it
    /// next looks by itself.
    static let silenceMillis = 20

    private let silence: Duration
    private let silentUntil = NIOLockedValueBox<ContinuousClock.Instant?>(nil)

    init(silenceMillis: Int = ListenerPresence.silenceMillis) { silence = .milliseconds(silenceMillis) }

    /// Whether a commit is to be told.
    func mayBeThere(at now: ContinuousClock.Instant) -> Bool {
        silentUntil.withLockedValue { until in until.map { $0 <= now } ?? true }
    }

    /// What a commit has found that was told.
    func note(isThere: Bool, at now: ContinuousClock.Instant) {
        silentUntil.withLockedValue { $0 = isThere ? nil : now + silence }
    }
}
