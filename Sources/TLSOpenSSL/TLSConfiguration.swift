public import NIOCore

/// How a server speaks TLS. Files are PEM.
public struct TLSServerConfiguration: Sendable {
    /// The server's certificate, followed by its intermediates.
    public var certificateFile: String
    /// The private key of the server's certificate, without a passphrase.
    public var privateKeyFile: String
    /// The CAs of client certificates: set, every client must show a certificate that one of them signed; nil, clients
    /// are not asked for one.
    public var clientCAFile: String?
    /// TLS 1.2 is accepted as well as 1.3.
    public var allowTLS12: Bool
    /// Application protocols, the preferred one first, 1 to 255 bytes each. A client must offer one of them: one that
    /// offers only others, or does not use ALPN at all, gets the alert `no_application_protocol`. Empty: ALPN is unused.
    public var alpn: [String]
    /// How long a handshake may take.
    public var handshakeTimeout: TimeAmount = .seconds(10)
    /// How long a close waits for the peer's close.
    public var closeTimeout: TimeAmount = .seconds(5)

    /// A configuration with default timeouts.
    public init(
        certificateFile: String, privateKeyFile: String, clientCAFile: String? = nil, allowTLS12: Bool = false,
        alpn: [String] = ["martlet/1", "h2", "http/1.1"]
    ) {
        self.certificateFile = certificateFile
        self.privateKeyFile = privateKeyFile
        self.clientCAFile = clientCAFile
        self.allowTLS12 = allowTLS12
        self.alpn = alpn
    }
}

/// How a client speaks TLS. Files are PEM.
public struct TLSClientConfiguration: Sendable {
    /// The CAs that the server's certificate may come from; nil for the system's.
    public var caFile: String?
    /// The client's certificate, followed by its intermediates; nil for none.
    public var certificateFile: String?
    /// The private key of the client's certificate; set if and only if `certificateFile` is.
    public var privateKeyFile: String?
    /// The DNS name or IP address that the server's certificate must be for.
    public var serverName: String
    /// TLS 1.2 is accepted as well as 1.3.
    public var allowTLS12: Bool
    /// Application protocols to offer, the preferred one first, 1 to 255 bytes each. The server must choose one of them.
    /// Empty: ALPN is unused.
    public var alpn: [String]
    /// How long a handshake may take.
    public var handshakeTimeout: TimeAmount = .seconds(10)
    /// How long a close waits for the peer's close.
    public var closeTimeout: TimeAmount = .seconds(5)

    /// A configuration with default timeouts.
    public init(
        caFile: String? = nil, certificateFile: String? = nil, privateKeyFile: String? = nil, serverName: String,
        allowTLS12: Bool = false, alpn: [String] = ["martlet/1"]
    ) {
        self.caFile = caFile
        self.certificateFile = certificateFile
        self.privateKeyFile = privateKeyFile
        self.serverName = serverName
        self.allowTLS12 = allowTLS12
        self.alpn = alpn
    }
}
