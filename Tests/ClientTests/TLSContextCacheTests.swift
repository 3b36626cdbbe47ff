import Foundation
import MartletTLSOpenSSL
import MartletTesting
import Testing

@testable import MartletClient

/// A client whose certificate is renewed while it runs.
@Suite struct TLSContextCacheTests {
    @Test func filesThatHaveChangedAreReadAgain() throws {
        let folder = try TemporaryFolder()
        let certificates = try TestCertificates.shared.get()
        for name in ["ca.pem", "client.pem", "client.key"] {
            try FileManager.default.copyItem(atPath: certificates.file(name), toPath: "\(folder.path)/\(name)")
        }
        let cache = TLSContextCache(
            TLSClientConfiguration(
                caFile: "\(folder.path)/ca.pem", certificateFile: "\(folder.path)/client.pem",
                privateKeyFile: "\(folder.path)/client.key", serverName: "localhost"))
        let first = try cache.context()
        #expect(try cache.context() === first)

        // The certificate of another key: not to be used until its key is there, too.
        func put(_ name: String, as target: String) throws {
            try FileManager.default.removeItem(atPath: "\(folder.path)/\(target)")
            try FileManager.default.copyItem(atPath: certificates.file(name), toPath: "\(folder.path)/\(target)")
        }
        try put("server.pem", as: "client.pem")
        #expect(try cache.context() === first)
        try put("server.key", as: "client.key")
        let second = try cache.context()
        #expect(second !== first)
        #expect(try cache.context() === second)
    }
}
