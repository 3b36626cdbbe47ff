import NIOConcurrencyHelpers

/// Whether other servers listen, as the last commit that asked has found: not every commit asks.
final class Audience: Sendable {
    /// For so long nobody is taken to be there where nobody was. Who comes meanwhile finds what it was not told when it
    /// next looks by itself.
    static let deafMillis = 20

    private let deafFor: Duration
    private let deafUntil = NIOLockedValueBox<ContinuousClock.Instant?>(nil)

    init(deafMillis: Int = Audience.deafMillis) { deafFor = .milliseconds(deafMillis) }

    /// Whether a commit is to be told.
    func mayBeThere(at now: ContinuousClock.Instant) -> Bool {
        deafUntil.withLockedValue { until in until.map { $0 <= now } ?? true }
    }

    /// What a commit has found that was told.
    func note(isThere: Bool, at now: ContinuousClock.Instant) {
        deafUntil.withLockedValue { $0 = isThere ? nil : now + deafFor }
    }
}
