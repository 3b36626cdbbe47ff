/// Makes the TLS handlers of a client's connections to one server. It can be used from any thread.
public final class TLSClientContext: Sendable {
    private let configuration: TLSClientConfiguration
    private let context: SSLContext
    private let sessions = ClientSessions()

    /// Reads the certificate files. Throws an error of kind `configuration` that names the file that cannot be used.
    public init(_ configuration: TLSClientConfiguration) throws(TLSError) {
        self.configuration = configuration
        context = try SSLContext.client(configuration, sessions: sessions)
    }

    /// The handler for one connection. It offers the server to resume the newest session of the earlier connections.
    public func makeHandler() throws(TLSError) -> TLSHandler {
        let connection = try SSLConnection(
            client: context, serverName: configuration.serverName, session: sessions.take())
        return TLSHandler(
            connection, isALPNRequired: !configuration.alpn.isEmpty,
            handshakeTimeout: configuration.handshakeTimeout, closeTimeout: configuration.closeTimeout)
    }
}
