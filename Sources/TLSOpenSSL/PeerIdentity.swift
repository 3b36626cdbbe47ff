/// Who is at the other end of a connection, as its verified certificate says.
public struct PeerIdentity: Sendable, Hashable {
    /// The certificate's subject as RFC 2253 writes it, such as `CN=billing,O=Example`.
    public var subject: String
    /// The URIs among the subject alternative names, in the certificate's order.
    public var uris: [String]

    /// An identity with these names.
    public init(subject: String, uris: [String]) {
        self.subject = subject
        self.uris = uris
    }

    init(_ certificate: borrowing X509Certificate) {
        self.init(subject: certificate.subject, uris: certificate.alternativeNames.uris)
    }
}
