import CMartletOpenSSL
import FoundationEssentials
import MartletModel

@testable import MartletAccess
@testable import MartletTLSOpenSSL

/// Certificates as peers send them, and the tenants that their names grant.
///
/// What must hold: names are printable ASCII without blanks, addresses have 4 or 16 bytes; and exactly those tenants are
/// granted that a reader written here, byte by byte, finds in the names.
enum Certificates {
    /// A certificate in DER.
    static func run(_ bytes: [UInt8]) throws {
        let parsed = unsafe bytes.withUnsafeBufferPointer { bytes -> OpaquePointer? in
            var start = bytes.baseAddress
            return unsafe d2i_X509(nil, &start, bytes.count)
        }
        guard let parsed = unsafe parsed else { return ERR_clear_error() }
        defer { ERR_clear_error() }
        let certificate = unsafe X509Certificate(owning: parsed)
        _ = (certificate.notBeforeMicros, certificate.notAfterMicros)
        let identity = PeerIdentity(certificate)
        let names = certificate.alternativeNames
        for name in names.dnsNames + names.uris {
            try hold(name.utf8.allSatisfy { (0x21...0x7E).contains($0) }, "a name with other than printable ASCII")
        }
        for address in names.ipAddresses { try hold([4, 16].contains(address.count), "an address of no length") }
        try check(identity.uris)
        _ = try certificate.fingerprint()
    }

    /// Names, one a line.
    static func runTenants(_ bytes: [UInt8]) throws {
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        try check(lines.map(String.init))
    }

    /// A tenant is granted by a name that says so from its first byte to its last, and by nothing else.
    private static func check(_ uris: [String]) throws {
        var granted: Set<TenantID> = []
        for uri in uris {
            let bytes = Array(uri.utf8)
            guard bytes.count > 9 + 8 + 36, String(decoding: bytes[..<9], as: UTF8.self).lowercased() == "spiffe://"
            else { continue }
            let end = bytes.count - 36
            guard String(decoding: bytes[(end - 8)..<end], as: UTF8.self) == "/tenant/" else { continue }
            let domain = bytes[9..<(end - 8)]
            guard !domain.isEmpty, !domain.contains(UInt8(ascii: "/")) else { continue }
            var digits: [UInt8] = []
            for (index, byte) in bytes[end...].enumerated() where ![8, 13, 18, 23].contains(index) {
                guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue else { break }
                digits.append(UInt8(digit))
            }
            let hasDashes = [8, 13, 18, 23].allSatisfy { bytes[end + $0] == UInt8(ascii: "-") }
            guard digits.count == 32, hasDashes else { continue }
            let (high, low) = (digits[..<16], digits[16...])
            granted.insert(
                TenantID(
                    UUID(
                        high: high.reduce(UInt64(0)) { $0 << 4 | UInt64($1) },
                        low: low.reduce(UInt64(0)) { $0 << 4 | UInt64($1) })))
        }
        let tenants = CertificateTenants.tenants(of: uris)
        try hold(tenants == granted, "\(uris) grant \(tenants), should grant \(granted)")
    }
}
