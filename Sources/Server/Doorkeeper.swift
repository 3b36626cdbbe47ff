import Logging
import MartletModel
import MartletService
import NIOConcurrencyHelpers
import NIOCore

/// Lets connections in and keeps the books on them, for all event loops.
final class Doorkeeper: Sendable {
    private enum Line: CaseIterable { case addressFull, serverFull, evicted, noDescriptor }

    private struct State {
        var admission: ConnectionAdmission
        /// How to close those that have not said Hello yet.
        var closers: [ConnectionAdmission.Number: @Sendable () -> Void] = [:]
        var throttles: [Line: LogThrottle] = [:]
    }

    private let state: NIOLockedValueBox<State>
    private let limits: Limits
    private let service: EventService
    private let logger: Logger

    init(_ service: EventService) {
        limits = service.limits
        self.service = service
        logger = service.logger
        state = NIOLockedValueBox(State(admission: ConnectionAdmission(limits)))
    }

    /// A connection has been accepted.
    ///
    /// - Parameter close: closes it at once; called on any thread, when others need its place.
    /// - Returns: its number; nil if it is to be closed at once.
    func accept(
        from address: SocketAddress?, now: NIODeadline, close: @escaping @Sendable () -> Void
    ) -> ConnectionAdmission.Number? {
        let (decision, closer) = state.withLockedValue { state in
            let decision = state.admission.accept(from: PeerAddress(address))
            guard case .admit(let number, let victim) = decision else {
                return (decision, nil as (@Sendable () -> Void)?)
            }
            state.closers[number] = close
            return (decision, victim.flatMap { state.closers.removeValue(forKey: $0) })
        }
        closer?()
        switch decision {
        case .admit(let number, let victim):
            if victim != nil { evicted(now: now) }
            return number
        case .refuse(.address):
            service.connectionRefused()
            log(
                .addressFull, now: now, .info, "closing new connections from an address that has too many",
                [
                    "peer": address.map { "\($0)" } ?? "unknown",
                    "connections_per_address_max": "\(limits.connectionsPerAddressMax)",
                ])
        case .refuse(.server):
            service.connectionRefused()
            log(
                .serverFull, now: now, .warning, "closing new connections: the server has as many as it may have",
                ["connections_max": "\(limits.connectionsMax)"])
        }
        return nil
    }

    /// The connection has said Hello.
    /// - Returns: whether there is a place for it.
    func establish(_ number: ConnectionAdmission.Number) -> Bool {
        state.withLockedValue { state in
            guard state.admission.establish(number) else { return false }
            state.closers[number] = nil
            return true
        }
    }

    /// The connection is closed; more than once is once.
    func release(_ number: ConnectionAdmission.Number) {
        // It may hold the last reference to the connection: it goes after the lock.
        _ = state.withLockedValue { state in
            state.admission.release(number)
            return state.closers.removeValue(forKey: number)
        }
    }

    /// How many connections have said Hello, and whether there may be more.
    var established: (count: Int, isFull: Bool) {
        state.withLockedValue { ($0.admission.establishedCount, $0.admission.isFull) }
    }

    /// The system has no file descriptor for another connection: some that have not said Hello make room.
    func ranOutOfDescriptors(_ error: IOError, now: NIODeadline) {
        service.acceptFailed()
        let (closers, count) = state.withLockedValue { state in
            let victims = (0..<16).compactMap { _ in state.admission.evict() }
            return (victims.compactMap { state.closers.removeValue(forKey: $0) }, state.admission.count)
        }
        for close in closers { close() }
        log(
            .noDescriptor, now: now, .error,
            "cannot accept connections: raise the limit of open files (ulimit -n, LimitNOFILE=)",
            ["error": "\(error)", "connections": "\(count)", "closed_without_hello": "\(closers.count)"])
    }

    private func evicted(now: NIODeadline) {
        service.connectionEvicted()
        log(
            .evicted, now: now, .warning, "closing connections that have not sent Hello: too many at once",
            ["greeting_connections_max": "\(limits.greetingConnectionsMax)"])
    }

    private func log(
        _ line: Line, now: NIODeadline, _ level: Logger.Level, _ message: Logger.Message, _ metadata: Logger.Metadata
    ) {
        guard let suppressed = state.withLockedValue({ $0.throttles[line, default: LogThrottle()].admit(now: now) })
        else { return }
        logger.log(level: level, message, metadata: metadata.merging(["more_since_last": "\(suppressed)"]) { $1 })
    }
}
