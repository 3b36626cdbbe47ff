import NIOConcurrencyHelpers

/// A connection that commits.
///
/// `@unchecked Sendable`: one writer has it at a time, by ``WriterConnections``.
final class WriterConnection: @unchecked Sendable {
    let connection: PostgresConnection
    /// ``RememberedTenants/generation`` before it was made.
    let generation: Int
    /// When it last answered.
    var answeredAt: ContinuousClock.Instant
    private let ownBackends: OwnBackends

    init(
        _ connection: PostgresConnection, generation: Int, answeredAt: ContinuousClock.Instant, ownBackends: OwnBackends
    ) {
        self.connection = connection
        self.generation = generation
        self.answeredAt = answeredAt
        self.ownBackends = ownBackends
        ownBackends.insert(connection.backendID)
    }

    deinit { ownBackends.remove(connection.backendID) }
}

/// Connections that no writer of the server uses right now. The one that was used last is used next: as long as one
/// commit follows the other, all of them go to one process of the database, whose caches are warm.
final class WriterConnections: Sendable {
    private let idle = NIOLockedValueBox<[WriterConnection]>([])

    /// The one that was used last; nil where there is none of that generation.
    func take(generation: Int) -> WriterConnection? {
        idle.withLockedValue { idle in
            idle.removeAll { $0.generation != generation }
            return idle.popLast()
        }
    }

    /// Ends one.
    func drop() { _ = idle.withLockedValue { $0.isEmpty ? nil : $0.removeFirst() } }

    func giveBack(_ connection: WriterConnection) { idle.withLockedValue { $0.append(connection) } }
}
