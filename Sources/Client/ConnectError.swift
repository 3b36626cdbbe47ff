import Glibc
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
            let cause = error.connectionErrors.first.map { Self.cause($0.error) }
            self.init(unreachable: place, cause ?? "the name \(error.host) has no address")
        default: self.init(unreachable: place, Self.cause(error))
        }
    }

    /// What the system says, in its words.
    private static func cause(_ error: any Error) -> String {
        switch error {
        case let error as IOError: unsafe String(cString: strerror(error.errnoCode))
        case ChannelError.connectTimeout(let time): "no answer within \(time.nanoseconds / 1_000_000) ms"
        default: "\(error)"
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
                : "cannot set up TLS with \(place): \(error); \(Self.remedy(error, place))",
            isRetryable: isRetryable)
    }

    /// The first names of a certificate, which may have thousands.
    private static func list(_ names: [String]) -> String {
        let shown = names.prefix(10).joined(separator: ", ")
        return names.count > 10 ? "\(shown) and \(names.count - 10) more" : shown
    }

    /// What to do about it.
    private static func remedy(_ error: TLSError, _ place: String) -> String {
        switch error.certificateFault {
        case .unknownCA?:
            "none of the CAs that are trusted here has signed the server's certificate: name the file of the one that has, with "
                + "--ca or MARTLET_CA, or in a program with ClientTLS"
        case .otherNames(let names)? where !names.isEmpty:
            "the server's certificate is for \(Self.list(names)): connect to one of these, or have one made that "
                + "names \(place)"
        case .expired?: "the server's certificate has expired: a new one and SIGHUP are needed there"
        case .notYetValid?: "the server's certificate is not valid yet: check the clocks of both machines"
        default: "check the CA, the certificate and the server name"
        }
    }
}
