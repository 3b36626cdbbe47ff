import Foundation
import NIOCore

@testable import MartletTLSOpenSSL

/// A root, its two CAs `issuing` and `sister`, and certificates that those have signed: `server`, `client` and `other`
/// (a client of the sister's). Chains stand in files of their own, `NAME-chain.pem`, without the root.
struct Chains {
    static let shared = Result { try Chains() }

    let folder: String
    static let tenant = "URI:spiffe://martlet.dev/tenant/6f1c2f6e-0d1b-4a51-9e0a-0b7c5a3f9d11"

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "martlet-chains-\(UUID())").path
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try key("root")
        try run(
            "openssl", "req", "-x509", "-new", "-key", path("root.key"), "-days", "1000", "-subj", "/CN=root",
            "-addext", "basicConstraints=critical,CA:TRUE", "-out", path("root.pem"))
        for name in ["issuing", "sister"] {
            try key(name)
            try sign(name, by: "root", days: 500, extensions: "basicConstraints=critical,CA:TRUE")
        }
        try key("server")
        try sign("server", by: "issuing", days: 700, extensions: "subjectAltName=DNS:localhost")
        for (name, ca) in [("client", "issuing"), ("other", "sister")] {
            try key(name)
            try sign(name, by: ca, days: 700, extensions: "subjectAltName=\(Self.tenant)")
            try chain(name, ca)
        }
        try chain("server", "issuing")
    }

    func path(_ name: String) -> String { folder + "/" + name }

    func key(_ name: String) throws {
        try run(
            "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path("\(name).key")
        )
        try run("chmod", "600", path("\(name).key"))
    }

    /// Signs NAME.pem anew for NAME.key.
    func sign(_ name: String, by ca: String, days: Int, extensions: String, subject: String? = nil) throws {
        try Data((extensions + "\n").utf8).write(to: URL(filePath: path("\(name).ext")))
        try run(
            "openssl", "req", "-new", "-key", path("\(name).key"), "-subj", "/CN=\(subject ?? name)", "-out",
            path("\(name).csr"))
        try run(
            "openssl", "x509", "-req", "-in", path("\(name).csr"), "-CA", path("\(ca).pem"), "-CAkey",
            path("\(ca).key"), "-set_serial", "\(UInt32.random(in: 1...UInt32.max))", "-days", "\(days)", "-extfile",
            path("\(name).ext"), "-out", path("\(name).pem"))
    }

    /// Writes NAME-chain.pem.
    func chain(_ names: String...) throws {
        let text = try names.map { try String(contentsOfFile: path("\($0).pem"), encoding: .utf8) }.joined()
        try Data(text.utf8).write(to: URL(filePath: path("\(names[0])-chain.pem")))
    }

    /// A copy to change at will.
    func copy() throws -> Chains {
        let copy = Chains(
            folder: FileManager.default.temporaryDirectory.appending(path: "martlet-chains-\(UUID())").path)
        try FileManager.default.copyItem(atPath: folder, toPath: copy.folder)
        return copy
    }

    private init(folder: String) { self.folder = folder }

    func remove() { try? FileManager.default.removeItem(atPath: folder) }

    /// A server that trusts the clients of `anchor`.
    func server(trusting anchor: String) -> TLSServerConfiguration {
        var configuration = TLSServerConfiguration(
            certificateFile: path("server-chain.pem"), privateKeyFile: path("server.key"),
            clientCAFile: path("\(anchor).pem"))
        configuration.handshakeTimeout = .minutes(1)
        return configuration
    }

    /// A client that trusts the servers of `anchor`.
    func client(_ name: String, trusting anchor: String) -> TLSClientConfiguration {
        var configuration = TLSClientConfiguration(
            caFile: path("\(anchor).pem"), certificateFile: path("\(name)-chain.pem"),
            privateKeyFile: path("\(name).key"), serverName: "localhost")
        configuration.handshakeTimeout = .minutes(1)
        return configuration
    }
}
