import Glibc
import NIOCore
import NIOPosix

/// A port that nobody listens on, bound and not listened on yet: nobody is connected to what is not ready.
///
/// Of two servers that bind it at the same time, one fails to listen.
struct BoundSocket: ~Copyable {
    private let descriptor: CInt

    /// - Throws: ``ListenError``.
    init(_ address: SocketAddress) throws(ListenError) {
        let name = ListenAddress.text(of: address)
        let family = CInt(address.protocol.rawValue)
        let descriptor = socket(family, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw ListenError(address: name, code: errno) }
        var one: CInt = 1
        // Connections of the last server may not be over yet.
        _ = unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<CInt>.size))
        guard unsafe address.withSockAddr({ unsafe bind(descriptor, $0, socklen_t($1)) }) == 0 else {
            let code = errno
            close(descriptor)
            throw ListenError(address: name, code: code)
        }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// Listens.
    /// - Parameter address: the one that was bound.
    consuming func listen(_ bootstrap: ServerBootstrap, on address: SocketAddress) async throws -> any Channel {
        let descriptor = descriptor
        discard self
        do { return try await bootstrap.withBoundSocket(descriptor).get() } catch let error as IOError {
            throw ListenError(address: ListenAddress.text(of: address), code: error.errnoCode)
        }
    }
}

/// Why a server cannot listen on an address.
public struct ListenError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The address and the port.
    public var address: String
    /// The system's number of the error.
    public var code: CInt

    /// What is wrong, and what to do.
    public var description: String {
        let port = address.split(separator: ":").last ?? ""
        return switch code {
        case EADDRINUSE:
            "\(address) is in use by another process: stop it (ss -ltnp sport = :\(port) names it), or listen on another port"
        case EACCES:
            "\(address) needs the right to listen on ports below 1024: grant CAP_NET_BIND_SERVICE, or listen on another port"
        case EADDRNOTAVAIL:
            "\(address) is no address of this machine (ip address lists them): listen on one that is"
        default:
            "\(address) cannot be listened on: \(unsafe String(cString: strerror(code))). Listen on another address or port"
        }
    }
}
