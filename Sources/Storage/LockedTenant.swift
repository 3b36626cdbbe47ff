/// Which tenants that are set aside are waited for together.
enum LockPhase: CaseIterable {
    /// Those that were found to be locked once: all of them, shortly.
    case new
    /// Those that were waited for a few times: one by one.
    case again
    /// Those whose lock lasts: one by one, and by fewer writers.
    case lasting
}

/// How a tenant that is set aside is waited for.
struct LockedTenant {
    /// When it was found to be locked first.
    let since: ContinuousClock.Instant
    /// The number of the next wait, from 1.
    let waits: Int
    /// When that may begin: the last one may have been ended before its time.
    let due: ContinuousClock.Instant
    /// When it was found to be locked last, by a wait or by a look.
    private(set) var seenAt: ContinuousClock.Instant

    /// A tenant that is found to be locked, again where it was waited for before.
    init(after last: LockedTenant?, at now: ContinuousClock.Instant) {
        since = last?.since ?? now
        waits = (last?.waits ?? 0) + 1
        due = last.map { max(now, $0.due + LockWait.duration($0.waits)) } ?? now
        seenAt = now
    }

    var phase: LockPhase { waits == 1 ? .new : waits < LockWait.lastingFrom ? .again : .lasting }

    /// Whether it has been locked for as long as its calls may wait.
    func isOverdue(at now: ContinuousClock.Instant) -> Bool { now - since >= LockWait.max }

    /// It is still locked, and was not waited for: its next wait stays as it is.
    mutating func note(seenAt now: ContinuousClock.Instant) { seenAt = now }
}
