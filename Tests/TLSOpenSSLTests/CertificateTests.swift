import Foundation
import Testing

@testable import MartletTLSOpenSSL

@Suite struct CertificateTests {
    let certificates: TestCertificates

    init() throws {
        certificates = try TestCertificates.shared.get()
    }

    @Test func reportsTheServersCertificate() throws {
        let report = try CertificateReport(
            certificateFile: certificates.path("server.pem"), privateKeyFile: certificates.path("server.key"))
        #expect(report.subject == "CN=localhost,O=Martlet development")
        #expect(report.dnsNames == ["localhost"])
        #expect(report.ipAddresses == ["127.0.0.1", "::1"])
        #expect(report.uris == [])
        #expect(report.privateKeyMatches == true)
        let now = Int64(Date().timeIntervalSince1970 * 1_000_000)
        let day: Int64 = 86_400 * 1_000_000
        #expect((now - day...now + 1_000_000).contains(report.notBeforeMicros))
        #expect(report.notAfterMicros - report.notBeforeMicros == 365 * day)
    }

    @Test func reportsAClientsTenantsAndAForeignKey() throws {
        let report = try CertificateReport(
            certificateFile: certificates.path("both.pem"), privateKeyFile: certificates.path("server.key"))
        #expect(report.uris == TestCertificates.tenants.map { "spiffe://martlet.dev/tenant/\($0)" })
        #expect(report.privateKeyMatches == false)
        #expect(try CertificateReport(certificateFile: certificates.path("ca.pem")).privateKeyMatches == nil)
    }

    @Test func namesTheFileThatCannotBeRead() throws {
        let missing = certificates.path("missing.pem")
        let error = #expect(throws: TLSError.self) { try CertificateReport(certificateFile: missing) }
        #expect(error?.message.hasPrefix("cannot read \(missing): No such file or directory") == true)
        let key = certificates.path("server.key")
        let empty = #expect(throws: TLSError.self) { try CertificateReport(certificateFile: key) }
        #expect(empty?.message.contains("contains no certificate") == true)
    }

    @Test func theScriptKeepsWhatIsGoodAndReplacesWhatIsNot() throws {
        let own = try certificates.copy()
        defer { own.remove() }
        let names = ["ca.pem", "ca.key", "server.pem", "server.key", "client.pem", "client.key"]
        let before = try names.map { try Data(contentsOf: URL(filePath: own.path($0))) }
        #expect(try run(TestCertificates.script, own.folder).isEmpty)
        #expect(try names.map { try Data(contentsOf: URL(filePath: own.path($0))) } == before)

        try own.sign("server", key: "server", days: -1, alternativeNames: "DNS:localhost")
        try FileManager.default.removeItem(atPath: own.path("client.key"))
        try run(TestCertificates.script, own.folder)
        let after = try names.map { try Data(contentsOf: URL(filePath: own.path($0))) }
        #expect(zip(before, after).map { $0 == $1 } == [true, true, false, false, false, false])
        let report = try CertificateReport(
            certificateFile: own.path("server.pem"), privateKeyFile: own.path("server.key"))
        #expect(report.notAfterMicros > Int64(Date().timeIntervalSince1970 * 1_000_000))
    }

    @Test func keysAreForTheirOwnerOnly() throws {
        for name in ["ca.key", "server.key", "client.key", "both.key"] {
            let attributes = try FileManager.default.attributesOfItem(atPath: certificates.path(name))
            #expect(attributes[.posixPermissions] as? Int == 0o600)
        }
    }

    @Test(arguments: [["--client", "ca", "x"], ["--client", "a"], ["--client", "a", "no-uuid"], ["--what"]])
    func theScriptRefusesNonsense(arguments: [String]) throws {
        let own = try certificates.copy()
        defer { own.remove() }
        #expect(throws: CommandFailure.self) {
            try run([TestCertificates.script, own.folder] + arguments)
        }
    }
}
