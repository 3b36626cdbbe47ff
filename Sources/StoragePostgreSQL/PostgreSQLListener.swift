import CMartletPostgreSQL
import Foundation
import MartletModel
import MartletStorage

/// Hears of other servers' commits by LISTEN; used by one thread, but for ``interrupt()``.
///
/// `@unchecked Sendable`: the connection is touched by the thread that waits alone; the descriptor is set once, and
/// the system guards it.
final class PostgreSQLListener: StorageListener, @unchecked Sendable {
    private let connectionString: String
    private let schema: Schema
    private let server: UUID
    private let ownBackends: OwnBackends
    private let open: OpenConnections
    private let wakeUp: Int32
    private var connection: PostgresConnection?
    private var renewedAt: ContinuousClock.Instant

    /// Half of the time for which other servers are told that this one listens.
    private static let renewalSeconds = 15

    init(
        connectionString: String, schema: Schema, server: UUID, ownBackends: OwnBackends, open: OpenConnections
    ) {
        self.open = open
        renewedAt = open.now()
        self.connectionString = connectionString
        self.schema = schema
        self.server = server
        self.ownBackends = ownBackends
        wakeUp = martlet_wake_up_descriptor()
    }

    deinit { if wakeUp >= 0 { close(wakeUp) } }

    func wait(atMost milliseconds: Int) throws(StorageError) -> StorageNews {
        do throws(PostgresFault) {
            guard let connection else {
                let opened = try connect()
                // Who listens is no event: it need not last, and waits for no standby.
                try opened.run("SET synchronous_commit = off")
                try opened.run(schema.dropOldListeners)
                try renew(opened)
                try opened.run("LISTEN \"\(schema.channel)\"")
                connection = opened
                // What came before is not known.
                return .reconnected
            }
            let unheard = open.now() - renewedAt
            if unheard > .seconds(Self.renewalSeconds) {
                try renew(connection)
                // Others may not have told this one for a while.
                if unheard > .seconds(2 * Self.renewalSeconds - 1) { return .unknown }
            }
            let deadline = ContinuousClock.now + min(.milliseconds(milliseconds), .seconds(Self.renewalSeconds / 2))
            while true {
                if ownBackends.takeLostAnswer() { return .unknown }
                let news = try heard(connection)
                if news != .moved([:]) { return news }
                let left = deadline - .now
                guard left > .zero, sleep(connection.socket, left) else { return .moved([:]) }
            }
        } catch {
            connection = nil
            throw error.storageError
        }
    }

    private func connect() throws(PostgresFault) -> PostgresConnection {
        guard open.mayBeMade(for: .listening) else { throw .allConnectionsInUse }
        do throws(PostgresFault) {
            return try PostgresConnection(connectionString, statements: [], in: open, for: .listening)
        } catch {
            // It must not wait for one here, where it is not interrupted. The next time is soon.
            if error.sqlState == PostgresFault.tooManyConnections { open.noMoreAreGranted(to: .listening) }
            throw error
        }
    }

    func interrupt() {
        var one: UInt64 = 1
        _ = unsafe write(wakeUp, &one, 8)
    }

    /// Makes the others tell this server of their commits. Those whose transactions run right now may not: like all
    /// that is not heard, theirs are found when the server next looks by itself.
    private func renew(_ connection: PostgresConnection) throws(PostgresFault) {
        renewedAt = open.now()
        try connection.run(schema.renewListener(server.uuidString))
    }

    private func heard(_ connection: PostgresConnection) throws(PostgresFault) -> StorageNews {
        var moved: [TenantID: TenantHead] = [:]
        for notification in try connection.notifications() where !ownBackends.contains(notification.backendID) {
            guard let heads = CommitNotice.decode(notification.payload) else { return .unknown }
            moved.merge(heads) { $0 == .empty || $1 == .empty ? .empty : $0.position > $1.position ? $0 : $1 }
        }
        return .moved(moved)
    }

    /// Waits for the socket. False when it was interrupted, or the time ran out.
    private func sleep(_ socket: Int32, _ time: Duration) -> Bool {
        var descriptors = [
            pollfd(fd: socket, events: Int16(POLLIN), revents: 0),
            pollfd(fd: wakeUp, events: Int16(POLLIN), revents: 0),
        ]
        let millis = Int32(clamping: max(1, time / .milliseconds(1)))
        let count = unsafe poll(&descriptors, 2, millis)
        return count > 0 && descriptors[1].revents == 0
    }
}

extension Int32 {
    fileprivate init(clamping value: Double) { self = Int32(Swift.min(value, Double(Int32.max))) }
}
