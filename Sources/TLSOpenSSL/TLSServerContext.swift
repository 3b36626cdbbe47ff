import Foundation
import Synchronization

/// How a server does TLS. Files are PEM.
public struct TLSServerConfiguration: Hashable, Sendable {
    /// The server's certificate, and after it those that lead to the CA.
    public var certificateFile: String
    /// Its private key.
    public var privateKeyFile: String
    /// CAs of clients. Given: a client must have a certificate of theirs. Nil: none is asked for.
    public var clientCAFile: String?
    /// Also speak TLS 1.2.
    public var allowTLS12: Bool
    /// The protocols to agree on, the preferred one first. A client that offers none of them is refused.
    public var alpn: [String]

    /// TLS with that certificate.
    public init(
        certificateFile: String, privateKeyFile: String, clientCAFile: String? = nil, allowTLS12: Bool = false,
        alpn: [String] = ["martlet/1"]
    ) {
        self.certificateFile = certificateFile
        self.privateKeyFile = privateKeyFile
        self.clientCAFile = clientCAFile
        self.allowTLS12 = allowTLS12
        self.alpn = alpn
    }
}

/// Makes the TLS side of a server's connections.
public final class TLSServerContext: Sendable {
    private struct State {
        var context: TLSContextHandle
        var clientCAs: Data?
    }

    private let configuration: TLSServerConfiguration
    private let state: Mutex<State>

    /// Reads the files.
    /// - Throws: ``TLSError`` of kind `configuration`, naming the file.
    public init(_ configuration: TLSServerConfiguration) throws(TLSError) {
        self.configuration = configuration
        state = Mutex(
            State(context: try TLSContextHandle(server: configuration), clientCAs: Self.clientCAs(configuration)))
    }

    /// Reads the files again. Connections that come from now on get what they say; those that are open go on.
    /// Sessions can still be resumed, unless the client CAs have changed.
    ///
    /// - Throws: ``TLSError``; what was in force stays in force.
    public func reload() throws(TLSError) {
        let context = try TLSContextHandle(server: configuration)
        let clientCAs = Self.clientCAs(configuration)
        state.withLock { state in
            if clientCAs == state.clientCAs { context.takeTicketKeys(from: state.context) }
            state = State(context: context, clientCAs: clientCAs)
        }
    }

    /// The handler of a new connection; goes first in its pipeline.
    public func makeHandler() throws(TLSError) -> TLSHandler {
        let context = state.withLock { $0.context }
        return TLSHandler(
            try TLSConnection(context, isServer: true), isServer: true, handshakeMillis: TLSHandler.handshakeMillis)
    }

    private static func clientCAs(_ configuration: TLSServerConfiguration) -> Data? {
        configuration.clientCAFile.flatMap { FileManager.default.contents(atPath: $0) }
    }
}
