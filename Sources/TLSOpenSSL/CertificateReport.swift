import NIOCore

/// What a certificate file says, for a person who checks a set-up.
public struct CertificateReport: Sendable, Hashable {
    /// The certificate's subject as RFC 2253 writes it.
    public var subject: String
    /// The certificate is valid from then on, in microseconds since 1970 UTC.
    public var notBeforeMicros: Int64
    /// The certificate is valid until then, in microseconds since 1970 UTC.
    public var notAfterMicros: Int64
    /// The DNS names among the subject alternative names.
    public var dnsNames: [String]
    /// The IP addresses among the subject alternative names, in text form.
    public var ipAddresses: [String]
    /// The URIs among the subject alternative names.
    public var uris: [String]
    /// Whether the private key belongs to the certificate; nil when no key was given.
    public var privateKeyMatches: Bool?

    /// An address of 4 or 16 bytes, as people write it.
    static func text(ofAddress bytes: [UInt8]) -> String? {
        try? SocketAddress(packedIPAddress: ByteBuffer(bytes: bytes), port: 0).ipAddress
    }

    /// Reads the first certificate of a PEM file, and its private key if one is named.
    /// Throws an error of kind `configuration` that names the file that cannot be read.
    public init(certificateFile: String, privateKeyFile: String? = nil) throws(TLSError) {
        let certificate = try X509Certificate(pemFile: certificateFile)
        guard let notBefore = certificate.notBeforeMicros, let notAfter = certificate.notAfterMicros else {
            throw TLSError(.configuration, "\(certificateFile) contains a certificate with an unreadable date")
        }
        let names = certificate.alternativeNames
        subject = certificate.subject
        notBeforeMicros = notBefore
        notAfterMicros = notAfter
        dnsNames = names.dnsNames
        ipAddresses = names.ipAddresses.compactMap { Self.text(ofAddress: $0) }
        uris = names.uris
        if let privateKeyFile {
            privateKeyMatches = try PrivateKey(pemFile: privateKeyFile).belongs(to: certificate)
        }
    }
}
