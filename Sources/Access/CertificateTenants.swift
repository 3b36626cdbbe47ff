import FoundationEssentials
import MartletModel

/// The tenants that a client certificate names.
enum CertificateTenants {
    /// Each alternative name `spiffe://DOMAIN/tenant/UUID` names one; other URIs mean nothing here.
    static func tenants(of uris: [String]) -> Set<TenantID> {
        Set(uris.compactMap { tenant(of: $0) })
    }

    private static func tenant(of uri: String) -> TenantID? {
        let parts = uri.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 5, parts[0].lowercased() == "spiffe:", parts[1].isEmpty, !parts[2].isEmpty,
            parts[3] == "tenant"
        else { return nil }
        return UUID(text: parts[4]).map { TenantID($0) }
    }
}
