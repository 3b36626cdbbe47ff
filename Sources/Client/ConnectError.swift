import MartletModel
import MartletTLSOpenSSL
import NIOCore
import NIOPosix

extension MartletError {
    /// Why a connection could not be made, or broke.
    /// - Parameter isOpen: the server has welcomed the connection.
    init(connecting error: any Error, to place: String, isOpen: Bool = false) {
        switch error {
        case let error as MartletError: self = error
        case let error as TLSError: self.init(tls: error, place: place, isOpen: isOpen)
        case is CancellationError: self = CallFailure.cancelled().error
        case let error as NIOConnectionError:
            let causes =
                error.connectionErrors.map { "\($0.target): \($0.error)" }
                + [error.dnsAError, error.dnsAAAAError].compactMap { $0.map { "\($0)" } }
            self.init(unreachable: place, causes.first ?? "no address")
        default: self.init(unreachable: place, "\(error)")
        }
    }

    private init(unreachable place: String, _ cause: String) {
        self.init(
            .unavailable, reason: .connectionLost,
            message: "cannot connect to \(place): \(cause); check the address and that the server is running",
            isRetryable: true)
    }

    private init(tls error: TLSError, place: String, isOpen: Bool) {
        let isRetryable: Bool
        switch error.kind {
        // Who they are and what they speak does not change by trying again. A server that refuses the
        // client's certificate says so after the handshake, as TLS 1.3 has it.
        case .configuration, .certificate, .refusedByPeer, .noApplicationProtocol, .notTLS: isRetryable = isOpen
        default: isRetryable = true
        }
        self.init(
            .unavailable, reason: isOpen ? .connectionLost : .tlsFailed,
            message: isOpen
                ? "the connection to \(place) was lost: \(error)"
                : "cannot set up TLS with \(place): \(error); check the CA, the certificate and the server name",
            isRetryable: isRetryable)
    }
}
