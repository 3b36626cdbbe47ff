import Glibc
import MartletStorage
import NIOConcurrencyHelpers

/// The open connections of an engine: another thread can end what they wait for.
final class OpenConnections: Sendable {
    /// What a connection is for.
    enum Use {
        case writing
        case other
    }

    private struct State {
        /// By the connection's own number.
        var sockets: [Int: (use: Use, socket: Int32)] = [:]
        var next = 0
        var isClosedToWrites = false
        var isClosed = false

        func isClosed(to use: Use) -> Bool { isClosed || (use == .writing && isClosedToWrites) }
    }

    private let state = NIOLockedValueBox(State())

    /// Whether no connection of that use is to be made any more.
    func isClosed(to use: Use) -> Bool { state.withLockedValue { $0.isClosed(to: use) } }

    /// Notes a connection.
    /// - Returns: its number; nil where there are to be none any more.
    func add(_ socket: Int32, _ use: Use) -> Int? {
        state.withLockedValue { state in
            guard !state.isClosed(to: use) else { return nil }
            state.next += 1
            state.sockets[state.next] = (use, socket)
            return state.next
        }
    }

    /// Forgets a connection, before its socket is closed: the number may be another file's then.
    func remove(_ number: Int) { state.withLockedValue { _ = $0.sockets.removeValue(forKey: number) } }

    /// Ends connections, under the feet of who waits for them, and lets no more be made.
    func close(_ work: StorageWork) {
        state.withLockedValue { state in
            state.isClosedToWrites = true
            if work == .all { state.isClosed = true }
            for (use, socket) in state.sockets.values where state.isClosed(to: use) {
                // It does not block: the thread that waits sees the end of the stream.
                _ = shutdown(socket, Int32(SHUT_RDWR))
            }
        }
    }
}
