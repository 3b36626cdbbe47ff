import FoundationEssentials
import MartletModel
import MartletSession
import MartletTLSOpenSSL

/// What a verified client certificate lets a connection do.
enum ConnectionIdentity {
    /// The tenants that a certificate names, each by a SAN URI `spiffe://DOMAIN/tenant/UUID`. Other URIs mean
    /// nothing here.
    static func tenants(of uris: [String]) -> Set<TenantID> {
        Set(uris.compactMap { tenant(of: $0) })
    }

    private static func tenant(of uri: String) -> TenantID? {
        let parts = uri.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[0].lowercased() == "spiffe:", parts[1].isEmpty, !parts[2].isEmpty,
            parts[3] == "tenant"
        else { return nil }
        return UUID(uuidString: String(parts[4])).map { TenantID($0) }
    }

    /// What the connection may use.
    ///
    /// - Parameter isRequired: client certificates are configured; without them every tenant is open.
    static func scope(of identity: PeerIdentity?, isRequired: Bool) -> Result<TenantScope, MartletError> {
        guard isRequired else { return .success(.all) }
        guard let identity else {
            return .failure(
                MartletError(
                    .unauthenticated, reason: .noTenantInCertificate,
                    message: "the server asks for a client certificate and got none: connect with one"))
        }
        let tenants = tenants(of: identity.uris)
        guard !tenants.isEmpty else {
            return .failure(
                MartletError(
                    .permissionDenied, reason: .noTenantInCertificate,
                    message:
                        "the certificate of \(PrintableText.escape(identity.subject, bytesMax: 256)) names no tenant: "
                        + "it needs a SAN URI spiffe://DOMAIN/tenant/UUID"))
        }
        return .success(.only(tenants))
    }
}
