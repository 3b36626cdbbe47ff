/// Until when a certificate is valid that a server uses.
public struct CertificateValidity: Sendable, Hashable {
    /// What the server uses it for.
    public enum Role: String, Sendable {
        /// The server's own certificate.
        case server
        /// A CA of client certificates.
        case clientCA = "client_ca"
    }

    /// What it is for.
    public var role: Role
    /// The file that it stands in.
    public var file: String
    /// The subject as RFC 2253 writes it.
    public var subject: String
    /// It is valid until then, in microseconds since 1970 UTC.
    public var notAfterMicros: Int64

    /// Those of a server's files.
    static func all(of configuration: TLSServerConfiguration) throws(TLSError) -> [CertificateValidity] {
        var found: [CertificateValidity] = []
        // Behind the first one are its intermediates.
        let own = try X509Certificate(pemFile: configuration.certificateFile)
        found.append(contentsOf: own.validity(as: .server, in: configuration.certificateFile))
        if let path = configuration.clientCAFile {
            let file = try PEMFile(path)
            while let certificate = try file.nextCertificate() {
                found.append(contentsOf: certificate.validity(as: .clientCA, in: path))
            }
        }
        return found
    }
}

extension X509Certificate {
    /// Nothing of a certificate whose date cannot be read.
    fileprivate func validity(as role: CertificateValidity.Role, in file: String) -> [CertificateValidity] {
        guard let end = notAfterMicros else { return [] }
        return [CertificateValidity(role: role, file: file, subject: subject, notAfterMicros: end)]
    }
}
