import CMartletOpenSSL
import NIOConcurrencyHelpers

/// Owns an `SSL_SESSION`.
///
/// `@unchecked Sendable`: a session does not change any more when a client is given it, and its reference count is atomic.
@safe final class SSLSession: @unchecked Sendable {
    let pointer: OpaquePointer

    /// Takes over one reference to `pointer`.
    init(owning pointer: OpaquePointer) {
        unsafe self.pointer = pointer
    }

    deinit {
        unsafe SSL_SESSION_free(pointer)
    }

    /// It can be offered to a server: nothing of the chain that the server was trusted by has expired.
    var isResumable: Bool { unsafe SSL_SESSION_is_resumable(pointer) == 1 && PeerTrust.isResumable(pointer) }
    /// TLS 1.3 gives a new ticket with every connection, and asks that each be used once; TLS 1.2 may not.
    var isForOneUse: Bool { unsafe SSL_SESSION_get_protocol_version(pointer) >= TLS1_3_VERSION }
}

/// The last few sessions that servers have offered to a client, for later connections to resume.
final class ClientSessions: Sendable {
    private static let countMax = 8

    private let sessions = NIOLockedValueBox<[SSLSession]>([])

    /// Keeps `session`; the oldest one goes when there are too many.
    func add(_ session: SSLSession) {
        // Evicted sessions are freed after the lock is released.
        _ = sessions.withLockedValue { sessions -> SSLSession? in
            sessions.append(session)
            return sessions.count > Self.countMax ? sessions.removeFirst() : nil
        }
    }

    /// The newest session that can be resumed.
    func take() -> SSLSession? {
        while let session = sessions.withLockedValue({ $0.popLast() }) {
            guard session.isResumable else { continue }
            if !session.isForOneUse { add(session) }
            return session
        }
        return nil
    }
}
