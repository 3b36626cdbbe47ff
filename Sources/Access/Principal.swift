public import MartletModel

/// Who calls: an identity, and the tenants that it may use. Made once for a connection, whatever the transport.
public struct Principal: Hashable, Sendable {
    /// The subject of the client certificate; empty without one.
    public let identity: String
    /// The tenants that it may use.
    public let tenants: TenantScope

    /// A principal of those parts.
    public init(identity: String, tenants: TenantScope) {
        self.identity = identity
        self.tenants = tenants
    }

    /// Everybody, on a server without identities: every tenant is open.
    public static let anybody = Principal(identity: "", tenants: .all)

    /// The principal of a verified client certificate.
    ///
    /// - Parameters:
    ///   - subject: the certificate's subject, for logs and `Welcome`.
    ///   - uris: its alternative names of kind URI; each `spiffe://DOMAIN/tenant/UUID` names a tenant.
    /// - Throws: `PERMISSION_DENIED` where it names no tenant.
    public static func certificate(subject: String, uris: [String]) throws(MartletError) -> Principal {
        let tenants = CertificateTenants.tenants(of: uris)
        guard !tenants.isEmpty else {
            throw MartletError(
                .permissionDenied, reason: .noTenantInCertificate,
                message: "the client certificate names no tenant: it needs a SAN URI spiffe://DOMAIN/tenant/UUID")
        }
        return Principal(identity: subject, tenants: .only(tenants))
    }

    /// There is no certificate where the server asks for one.
    public static let certificateMissing = MartletError(
        .unauthenticated, reason: .noTenantInCertificate,
        message: "the server requires a client certificate and received none: connect with one")
}
