public import FoundationEssentials
public import MartletModel
import MartletTLSOpenSSL

/// The PEM files that secure a client's connection.
public struct ClientTLS: Hashable, Sendable {
    /// The CAs that the server's certificate may come from; nil means the variable `MARTLET_CA`, or the system's CAs.
    public var ca: String?
    /// The client's certificate; nil means the variable `MARTLET_CERT`, or none.
    public var certificate: String?
    /// The certificate's private key; nil means the variable `MARTLET_KEY`, or none.
    public var privateKey: String?

    /// Those files.
    public init(ca: String? = nil, certificate: String? = nil, privateKey: String? = nil) {
        self.ca = ca
        self.certificate = certificate
        self.privateKey = privateKey
    }

    /// The file of the CAs that the server's certificate may come from.
    public static func ca(_ file: String) -> ClientTLS { ClientTLS(ca: file) }

    /// That file, and those of the client's certificate and private key.
    public static func mutual(ca: String, certificate: String, privateKey: String) -> ClientTLS {
        ClientTLS(ca: ca, certificate: certificate, privateKey: privateKey)
    }
}

/// A setting that is missing or cannot be used.
public struct SettingError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is wrong, and which setting to change.
    public let description: String

    init(_ description: String) { self.description = description }
}

extension ClientConfiguration {
    /// The configuration of a client of that server. What is not given comes from the variables `MARTLET_SERVER`,
    /// `MARTLET_CA`, `MARTLET_CERT`, `MARTLET_KEY` and `MARTLET_TENANT`, as in the program `martlet`; a variable that is
    /// empty counts as not set.
    /// - Parameters:
    ///   - server: `host:port`, or `[address]:port` for IPv6; `127.0.0.1:7311` if nothing says otherwise.
    ///   - clientName: name and version of the program, for the server's log.
    /// - Throws: which setting cannot be used.
    public init(
        server: String? = nil, tls: ClientTLS? = nil, tenant: TenantID? = nil, clientName: String = "martlet-swift",
        environment: [String: String] = ProcessInfo.processInfo.environment
    ) throws(SettingError) {
        func variable(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
        let (host, port) = try Self.address(server ?? variable("MARTLET_SERVER") ?? "127.0.0.1:7311")
        self.init(
            host: host, port: port,
            tls: TLSClientConfiguration(
                caFile: tls?.ca ?? variable("MARTLET_CA"),
                certificateFile: tls?.certificate ?? variable("MARTLET_CERT"),
                privateKeyFile: tls?.privateKey ?? variable("MARTLET_KEY"), serverName: host),
            clientName: clientName)
        self.tenant = tenant
        if tenant == nil, let text = variable("MARTLET_TENANT") {
            guard let uuid = UUID(text: text) else {
                throw SettingError("MARTLET_TENANT is '\(PrintableText.escape(text))', which is not a UUID")
            }
            self.tenant = TenantID(uuid)
        }
    }

    private static func address(_ text: String) throws(SettingError) -> (host: String, port: Int) {
        guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]),
            (0...65535).contains(port), colon > text.startIndex
        else {
            throw SettingError("the server '\(PrintableText.escape(text))' is not HOST:PORT")
        }
        let host = text[..<colon]
        return (String(host.hasPrefix("[") && host.hasSuffix("]") ? host.dropFirst().dropLast() : host), port)
    }
}
