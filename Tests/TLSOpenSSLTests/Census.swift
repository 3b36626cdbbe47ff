import Synchronization

@testable import MartletTLSOpenSSL

/// Watches which of the connections it was shown still exist.
final class Census: Sendable {
    /// `@unchecked Sendable`: only whether the reference is nil is looked at.
    private struct Entry: @unchecked Sendable {
        weak var connection: SSLConnection?
    }

    private let entries = Mutex<[Entry]>([])

    func watch(_ connection: SSLConnection) {
        let entry = Entry(connection: connection)
        entries.withLock { $0.append(entry) }
    }

    var watched: Int { entries.withLock { $0.count } }
    var alive: Int { entries.withLock { $0.count(where: { $0.connection != nil }) } }
}
