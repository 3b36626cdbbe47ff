import ArgumentParser
import Foundation
import MartletModel
import MartletTLSOpenSSL

struct CertsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "certs", abstract: "Make certificates for a first start.", subcommands: [CertsInit.self])
}

struct CertsInit: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init", abstract: "Make a CA, a server's certificate and a client's, as far as they are missing.",
        discussion: """
            Prints the variables that a client needs, as a shell takes them: eval "$(martlet certs init)". \
            What is in the folder stays: to renew a certificate, remove it and its key, and run this again.
            """)

    @Option(help: ArgumentHelp("The folder.", valueName: "folder"))
    var out = "certs"

    @Option(
        help: ArgumentHelp(
            "A name or an address that clients connect to; may be repeated (default localhost, 127.0.0.1 and ::1).",
            valueName: "name"))
    var host: [String] = []

    @Option(
        help: ArgumentHelp("A tenant that the client may use; may be repeated (default: a new one).", valueName: "uuid")
    )
    var tenant: [String] = []

    @Option(help: ArgumentHelp("Name of the client, and of its files.", valueName: "name"))
    var client = "client"

    @Option(help: ArgumentHelp("How long certificates are valid; the CA five times as long.", valueName: "days"))
    var days = 365

    mutating func run() throws {
        guard (1...3_650).contains(days) else { throw UsageError("--days \(days) is not from 1 to 3650") }
        guard client.wholeMatch(of: #/[A-Za-z0-9_-]{1,64}/#) != nil, client != "ca", client != "server" else {
            throw UsageError("--client '\(client)' is not 1 to 64 of [A-Za-z0-9_-], or is ca or server")
        }
        let tenants = try tenant.map { try uuid($0, "--tenant") }
        let hosts = try (host.isEmpty ? ["localhost", "127.0.0.1", "::1"] : host).map(Self.alternativeName)
        do {
            try FileManager.default.createDirectory(atPath: out, withIntermediateDirectories: true)
        } catch { throw UsageError("--out \(out) cannot be made: name a folder that you may write to") }
        let authority = try authority()
        if try isMissing("server") {
            let issued = try tls {
                () throws(TLSError) in
                try authority.issue(
                    name: host.first ?? "localhost", for: .server, alternativeNames: hosts, days: days)
            }
            try write(issued, "server")
        }
        if try isMissing(client) {
            let named = tenants.isEmpty ? [UUID()] : tenants
            let uris = named.map { "URI:spiffe://martlet/tenant/\($0.uuidString.lowercased())" }
            let issued = try tls {
                () throws(TLSError) in
                try authority.issue(name: client, for: .client, alternativeNames: uris, days: days)
            }
            try write(issued, client)
        }
        try printVariables()
    }

    /// The client's variables, with the first tenant of its certificate.
    private func printVariables() throws {
        let report = try tls { () throws(TLSError) in try CertificateReport(certificateFile: path(client, "pem")) }
        let tenant = report.uris.compactMap { $0.split(separator: "/").last }.first {
            UUID(uuidString: String($0)) != nil
        }
        let folder = URL(fileURLWithPath: out).path
        for (name, value) in [
            ("MARTLET_CA", "\(folder)/ca.pem"), ("MARTLET_CERT", "\(folder)/\(client).pem"),
            ("MARTLET_KEY", "\(folder)/\(client).key"), ("MARTLET_TENANT", tenant.map(String.init) ?? ""),
        ] where !value.isEmpty {
            Terminal.write(line: "export \(name)='\(value.replacing("'", with: #"'\''"#))'")
        }
    }

    private func path(_ name: String, _ kind: String) -> String { "\(out)/\(name).\(kind)" }

    /// Whether there is neither a certificate nor a key of that name.
    /// - Throws: ``CommandFailure`` if there is only one of them: nothing that somebody may need is replaced.
    private func isMissing(_ name: String) throws -> Bool {
        let found = ["pem", "key"].filter { FileManager.default.fileExists(atPath: path(name, $0)) }
        guard found.count != 1 else {
            throw CommandFailure(
                "there is \(path(name, found[0])), and not \(path(name, found[0] == "pem" ? "key" : "pem")): remove it, or put the "
                    + "other one beside it. Nothing was replaced")
        }
        if found.isEmpty { return true }
        Terminal.say("there is \(path(name, "pem")) already")
        return false
    }

    private func authority() throws -> CertificateAuthority {
        guard try isMissing("ca") else {
            return try tls {
                () throws(TLSError) in
                try CertificateAuthority(certificateFile: path("ca", "pem"), keyFile: path("ca", "key"))
            }
        }
        let name = "Martlet CA \(String(UInt32.random(in: .min ... .max), radix: 16))"
        let authority = try tls { () throws(TLSError) in try CertificateAuthority(name: name, days: 5 * days) }
        try write(authority.own, "ca")
        return authority
    }

    /// The key goes first, so that a certificate never stands there without its key.
    private func write(_ issued: CertificateAuthority.Issued, _ name: String) throws {
        for (kind, text, mode) in [("key", issued.key, 0o600), ("pem", issued.certificate, 0o644)]
            as [(String, String, mode_t)]
        {
            let file = path(name, kind)
            let descriptor = unsafe open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
            guard descriptor >= 0 else {
                throw CommandFailure("\(file) cannot be made: \(unsafe String(cString: strerror(errno)))")
            }
            do {
                try FileHandle(fileDescriptor: descriptor, closeOnDealloc: true).write(contentsOf: Data(text.utf8))
            } catch { throw CommandFailure("\(file) could not be written whole: check the free space of its disk") }
        }
        Terminal.say("made \(path(name, "pem"))")
    }

    /// How a certificate names a host.
    private static func alternativeName(_ host: String) throws -> String {
        guard host.wholeMatch(of: #/[A-Za-z0-9.:*-]{1,253}/#) != nil else {
            throw UsageError("--host '\(host.prefix(80))' is not the name or address of a machine")
        }
        let isAddress = host.contains(":") || host.wholeMatch(of: #/[0-9.]+/#) != nil
        return isAddress ? "IP:\(host)" : "DNS:\(host)"
    }

    private func tls<Result>(_ body: () throws(TLSError) -> Result) throws -> Result {
        do throws(TLSError) { return try body() } catch { throw CommandFailure(error.message) }
    }
}
