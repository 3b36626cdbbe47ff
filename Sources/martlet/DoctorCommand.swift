import ArgumentParser
import Foundation
import Logging
import MartletClient
import MartletModel
import MartletSession
import MartletStorage
import MartletTLSOpenSSL

struct DoctorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor", abstract: "Check a setup and say what to do.",
        discussion: """
            Checks what it is given: certificates (--cert, --key, --ca), a storage (--storage, read only), and the \
            server itself (--server). Prints one line per check; exits with code 1 if one failed.

            With --deep, reads a storage from end to end and checks everything that must be true of it: \
            checksums of events, positions, versions, ids, columns, indexes, snapshots, settings, consumers and schedules. It may \
            belong to a running server, or be a backup: nothing is written to it.
            """)

    @OptionGroup var server: ServerOptions

    @Option(help: ArgumentHelp("Also check the server's own certificate.", valueName: "file"))
    var serverCert: String?

    @Option(help: ArgumentHelp("The server certificate's private key.", valueName: "file"))
    var serverKey: String?

    @Option(help: ArgumentHelp("Also check this storage: sqlite:PATH, or a postgres:// URL.", valueName: "storage"))
    var storage: String?

    @Flag(help: "Read the SQLite file of --storage from end to end and check every invariant.")
    var deep = false

    @Flag(help: "Do not connect to a server.")
    var offline = false

    mutating func run() async throws {
        let choice = try storage.map { try StorageChoice($0) }
        if deep, choice == nil { throw UsageError("--deep requires --storage sqlite:PATH or postgres://…") }
        var checkup = Checkup()
        let client = try server.configuration()
        if let file = client.tls.caFile { checkup.certificate("CA", file, key: nil, host: nil) }
        if let file = client.tls.certificateFile {
            checkup.certificate("client certificate", file, key: client.tls.privateKeyFile, host: nil)
        }
        if let file = serverCert {
            checkup.certificate("server certificate", file, key: serverKey, host: client.host)
        }
        switch choice {
        case .sqlite(let path)? where deep: try checkup.deep(path)
        case .postgreSQL(let url)? where deep: checkup.deep(database: url)
        case let choice?: checkup.storage(choice)
        case nil: break
        }
        if !offline { await checkup.server(server, at: "\(client.host):\(client.port)") }
        if checkup.failures > 0 { throw CommandFailure("\(checkup.failures) of \(checkup.count) checks failed") }
    }
}

/// Runs checks and prints a line for each.
struct Checkup {
    private(set) var count = 0
    private(set) var failures = 0

    private static let dayMicros: Int64 = 86_400_000_000

    mutating func ok(_ text: String) {
        count += 1
        Terminal.write(line: "ok    \(text)")
    }

    mutating func warn(_ text: String) {
        count += 1
        Terminal.write(line: "warn  \(text)")
    }

    mutating func fail(_ text: String) {
        count += 1
        failures += 1
        Terminal.write(line: "FAIL  \(text)")
    }

    /// Dates, names and key of a certificate file.
    mutating func certificate(_ what: String, _ file: String, key: String?, host: String?) {
        let report: CertificateReport
        do throws(TLSError) {
            report = try CertificateReport(certificateFile: file, privateKeyFile: key)
        } catch { return fail("\(what) \(file): \(error)") }
        let now = Timestamp.now().microseconds
        let until = Timestamp(microseconds: report.notAfterMicros)
        if now < report.notBeforeMicros {
            fail(
                "\(what) \(file) is valid only from \(Timestamp(microseconds: report.notBeforeMicros)): check the clock"
            )
        } else if now > report.notAfterMicros {
            fail("\(what) \(file) expired on \(until): create a new one and send the server SIGHUP")
        } else if report.notAfterMicros - now < 30 * Self.dayMicros {
            warn("\(what) \(file) expires on \(until): create a new one soon")
        } else {
            ok("\(what) \(file) (\(report.subject)) is valid until \(until)")
        }
        if report.privateKeyMatches == false { fail("\(what) \(file): the private key does not match it") }
        if report.privateKeyMatches == true { ok("\(what) \(file): the private key matches it") }
        if let host {
            let names = report.dnsNames + report.ipAddresses
            if names.contains(where: { Self.name($0, covers: host) }) {
                ok("\(what) \(file) names \(host)")
            } else {
                fail("\(what) \(file) names \(names), not \(host): clients will refuse it; create one that names it")
            }
        }
        if what == "client certificate" {
            let tenants = report.uris.filter { $0.hasPrefix("spiffe://") && $0.contains("/tenant/") }
            if tenants.isEmpty {
                warn("\(what) \(file) names no tenant: it needs a SAN URI spiffe://DOMAIN/tenant/UUID")
            } else {
                ok("\(what) \(file) names \(tenants.count) tenant(s)")
            }
        }
    }

    private static func name(_ pattern: String, covers host: String) -> Bool {
        if pattern == host { return true }
        if pattern == "0:0:0:0:0:0:0:1", host == "::1" { return true }
        guard pattern.hasPrefix("*."), let dot = host.firstIndex(of: ".") else { return false }
        return host[dot...] == pattern.dropFirst()
    }

    /// Whether storage answers a read.
    mutating func storage(_ choice: StorageChoice) {
        if case .sqlite(let path) = choice {
            guard FileManager.default.fileExists(atPath: path) else {
                return ok("storage \(path) does not exist yet: the server creates it when it starts")
            }
            freeSpace(beside: path)
        }
        let engine = choice.engine(logger: Logger(label: "doctor", factory: { _ in SwiftLogNoOpLogHandler() }))
        do throws(StorageError) {
            _ = try engine.makeReader().head(of: TenantID(UUID(high: 0, low: 0)))
            ok("storage \(engine.name) answers, schema version \(engine.schemaVersion)")
        } catch {
            fail("storage \(engine.name): \(error)")
        }
    }

    mutating func freeSpace(beside path: String) {
        let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
        if let free = try? FileManager.default.attributesOfFileSystem(forPath: folder)[.systemFreeSize] as? Int64 {
            if free < 1 << 30 {
                warn("only \(free >> 20) MiB are free at \(folder): free some space")
            } else {
                ok("\(free >> 30) GiB are free at \(folder)")
            }
        }
    }

    /// Whether the server answers, and what it says of itself.
    mutating func server(_ options: ServerOptions, at address: String) async {
        do {
            let (welcome, status, received) = try await options.withClient(retryFor: .seconds(3)) { client in
                (try await client.welcome(), try await client.status(), Timestamp.now())
            }
            ok("server \(address) answers, version \(welcome.serverVersion)")
            let identity = welcome.identity.isEmpty ? "nobody (no client certificate)" : welcome.identity
            switch welcome.scope {
            case .all: warn("you are \(identity) and may use every tenant: the server requires no client certificates")
            case .only(let tenants): ok("you are \(identity) and may use \(tenants.count) tenant(s)")
            }
            let skewMillis = (status.serverTime.microseconds - received.microseconds) / 1000
            if abs(skewMillis) > 2_000 {
                warn("the server's clock is \(skewMillis) ms off this machine's: synchronize both with NTP")
            } else {
                ok("the clocks agree within \(abs(skewMillis)) ms")
            }
            if status.storageReady {
                ok("its storage \(status.storageEngine) answers, schema version \(status.schemaVersion)")
            } else {
                fail("its storage \(status.storageEngine): \(status.storageMessage)")
            }
            if status.isDraining { warn("it is shutting down") }
            let limits = welcome.limits
            ok(
                "limits: payload \(limits.payloadBytesMax) bytes, frame \(limits.frameBytesMax) bytes, "
                    + "\(limits.eventsPerAppendMax) events per append, "
                    + "\(limits.callsPerConnectionMax) calls per connection"
            )
        } catch {
            fail("server \(address): \(error)")
        }
    }
}
