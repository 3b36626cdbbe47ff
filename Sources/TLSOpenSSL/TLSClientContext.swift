import COpenSSL

/// How a client does TLS. Files are PEM.
public struct TLSClientConfiguration: Hashable, Sendable {
    /// The CAs that the server's certificate must lead to; nil means those of the system.
    public var caFile: String?
    /// The client's certificate, and after it those that lead to its CA.
    public var certificateFile: String?
    /// Its private key.
    public var privateKeyFile: String?
    /// The name or IP address that the server's certificate must name.
    public var serverName: String
    /// Also speak TLS 1.2.
    public var allowTLS12: Bool
    /// The protocols to offer. A server that agrees to none of them is refused.
    public var alpn: [String]

    /// TLS with a server of that name.
    public init(
        serverName: String, caFile: String? = nil, certificateFile: String? = nil, privateKeyFile: String? = nil,
        allowTLS12: Bool = false, alpn: [String] = ["martlet/1"]
    ) {
        self.serverName = serverName
        self.caFile = caFile
        self.certificateFile = certificateFile
        self.privateKeyFile = privateKeyFile
        self.allowTLS12 = allowTLS12
        self.alpn = alpn
    }
}

/// Makes the TLS side of a client's connections, and resumes sessions from one to the next.
public final class TLSClientContext: Sendable {
    private let configuration: TLSClientConfiguration
    private let context: TLSContextHandle

    /// Reads the files.
    /// - Throws: ``TLSError`` of kind `configuration`, naming the file.
    public init(_ configuration: TLSClientConfiguration) throws(TLSError) {
        self.configuration = configuration
        context = try TLSContextHandle(client: configuration)
    }

    /// The handler of a new connection; goes first in its pipeline.
    public func makeHandler() throws(TLSError) -> TLSHandler {
        let connection = try TLSConnection(context, isServer: false)
        let name = configuration.serverName
        let isSet = unsafe connection.withHandle { ssl in
            let parameters = unsafe SSL_get0_param(ssl)
            // An IP address is no server name of RFC 6066, and is looked for in another field.
            if unsafe X509_VERIFY_PARAM_set1_ip_asc(parameters, name) == 1 { return true }
            ERR_clear_error()
            return unsafe X509_VERIFY_PARAM_set1_host(parameters, name, name.utf8.count) == 1
                && martlet_ssl_set_host_name(ssl, name) == 1
        }
        guard isSet else { throw .fromQueue(.configuration, "\(name) is no name of a server") }
        unsafe connection.withHandle { ssl in unsafe context.sessions?.resume(ssl) }
        return TLSHandler(connection, isServer: false, handshakeMillis: TLSHandler.handshakeMillis)
    }
}
