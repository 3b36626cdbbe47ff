import FoundationEssentials
import MartletModel

/// The tenants that a client certificate names.
enum CertificateTenants {
    /// Each alternative name `spiffe://DOMAIN/tenant/UUID` names one; other URIs mean nothing here.
    static func tenants(of uris: [String]) -> Set<TenantID> {
        Set(uris.compactMap { tenant(of: $0) })
    }

    private static func tenant(of uri: String) -> TenantID? {
        // Bytes are split, not characters: U+0603 and a slash after it are one character.
        let parts = uri.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).map { Substring($0) }
        guard parts.count == 5, parts[0].lowercased() == "spiffe:", parts[1].isEmpty, !parts[2].isEmpty,
            parts[3] == "tenant"
        else { return nil }
        return UUID(text: parts[4]).map { TenantID($0) }
    }
}
