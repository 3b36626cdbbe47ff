import FoundationEssentials
import MartletModel
import NIOConcurrencyHelpers

/// Which servers see to the schedules that they have set. What one has left lying is taken by the others, and from then on what
/// follows too, for a while: it has ended, or is slow.
final class ScheduleOwners: Sendable {
    /// A server that left something lying counts as absent for so long.
    private static let absentMicros: Int64 = 10_000_000
    /// What an absent one should see to is taken after at most so long, by each of the others after another time.
    private static let staggerMicros: UInt64 = 40_000

    private let server: UUID
    private let absent = NIOLockedValueBox<[UUID: Timestamp]>([:])

    init(server: UUID) { self.server = server }

    /// When this server is to take a schedule that is due then.
    ///
    /// - Parameters:
    ///   - owner: who has set it; nil where nobody knows.
    ///   - patienceMicros: what a server that is not absent has for itself.
    func takes(_ due: Timestamp, of owner: UUID?, patienceMicros: Int64, now: Timestamp) -> Timestamp {
        guard let owner, owner != server else { return due }
        let overdue = Timestamp(microseconds: due.microseconds &+ patienceMicros)
        let isAbsent = absent.withLockedValue { absent in
            if let until = absent[owner], until > now { return true }
            absent[owner] = nil
            return false
        }
        // It is noted again as long as something of it is overdue.
        if overdue <= now { note(owner, until: Timestamp(microseconds: now.microseconds + Self.absentMicros)) }
        guard isAbsent, patienceMicros > 0 else { return overdue }
        let stagger = zip(server.bytes, owner.bytes).reduce(UInt64(0)) { ($0 &* 31) &+ UInt64($1.0 ^ $1.1) }
        return Timestamp(
            microseconds: due.microseconds &+ min(patienceMicros, Int64(stagger % Self.staggerMicros)))
    }

    private func note(_ owner: UUID, until: Timestamp) {
        absent.withLockedValue { absent in
            // Servers come and go; nobody has thousands.
            if absent.count >= 1_000 { absent = [:] }
            absent[owner] = until
        }
    }
}
