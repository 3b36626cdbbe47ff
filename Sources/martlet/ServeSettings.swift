import ArgumentParser
import Foundation
import Logging
import MartletModel
import MartletServer
import MartletStorage
import MartletTLSOpenSSL

/// The flags of `serve`. A flag that is not given may be set in the environment or in a file: see ``ServeSettings``.
struct ServeFlags: ParsableArguments {
    @Option(help: ArgumentHelp("A file with settings, in YAML.", valueName: "file"))
    var config: String?

    @Option(help: ArgumentHelp("Where to listen (default 127.0.0.1:7311).", valueName: "host:port"))
    var listen: String?

    @Option(
        help: ArgumentHelp("sqlite:PATH, or a postgres:// URL (default sqlite:data/martlet.db).", valueName: "storage"))
    var storage: String?

    @Option(
        help: ArgumentHelp(
            "A file with the password of the database; it is read at each connection.", valueName: "file"))
    var storagePasswordFile: String?

    @Option(help: ArgumentHelp("The server's certificate chain, in PEM.", valueName: "file"))
    var cert: String?

    @Option(help: ArgumentHelp("Its private key, in PEM.", valueName: "file"))
    var key: String?

    @Option(
        help: ArgumentHelp(
            "CA of client certificates: every client must present one, whose URIs name the tenants it may use.",
            valueName: "file"))
    var clientCa: String?

    @Flag(help: "Also accept TLS 1.2.")
    var allowTls12 = false

    @Flag(help: "Listen beyond loopback without client certificates: anyone who can reach the port may do anything.")
    var insecureNoAuth = false

    @Option(help: ArgumentHelp("Largest payload of an event, at most 7340032 (default 1048576).", valueName: "bytes"))
    var payloadMax: Int?

    @Option(help: ArgumentHelp("Maximum connections that have sent Hello (default 10000).", valueName: "count"))
    var connectionsMax: Int?

    @Option(
        help: ArgumentHelp(
            "Maximum connections from one address, or one IPv6 /64 (default 5000).", valueName: "count"))
    var connectionsPerAddressMax: Int?

    @Option(
        help: ArgumentHelp(
            "Maximum connections that have not sent Hello yet (default 1024).", valueName: "count"))
    var greetingConnectionsMax: Int?

    @Option(
        help: ArgumentHelp(
            "Drain a gRPC connection after this long, a tenth more or less; 0: never (default 0).", valueName: "seconds"
        ))
    var connectionAgeMax: Int?

    @Option(help: ArgumentHelp("Maximum open calls of one connection (default 1024).", valueName: "count"))
    var callsPerConnectionMax: Int?

    @Option(
        help: ArgumentHelp("Appends that wait for their commit, of all tenants (default 67108864).", valueName: "bytes")
    )
    var waitingAppendsMax: Int?

    @Option(help: ArgumentHelp("Ping a connection that is silent for this long (default 30).", valueName: "seconds"))
    var keepalive: Int?

    @Option(help: ArgumentHelp("How long open calls may go on after SIGTERM (default 10).", valueName: "seconds"))
    var drain: Int?

    @Option(help: ArgumentHelp("trace, debug, info, notice, warning or error (default info).", valueName: "level"))
    var logLevel: String?
}

/// The settings of `serve`: each from its flag, else from the environment, else from the file of `--config`, else its default.
struct ServeSettings {
    let listen: String
    let storage: StorageChoice?
    let storagePasswordFile: String?
    let cert: String?
    let key: String?
    let clientCA: String?
    let allowsTLS12: Bool
    let isOpenToAll: Bool
    let limits: Limits
    let drainSeconds: Int
    let logLevel: Logger.Level
    /// Each setting, for `config print`.
    let entries: [SettingsReader.Entry]
    /// What is wrong.
    let problems: [String]

    private static let year = 31_536_000

    init(_ flags: ServeFlags, environment: [String: String] = ProcessInfo.processInfo.environment) throws {
        let path = flags.config ?? environment[SettingsReader.variable(of: "config")].flatMap { $0.isEmpty ? nil : $0 }
        var reader = try SettingsReader(environment: environment, path: path)
        listen = reader.value(
            "listen", flag: flags.listen, standard: "127.0.0.1:7311",
            expected: "HOST:PORT, as in 127.0.0.1:7311 or [::1]:7311"
        ) { text in (try? HostPort(text, option: "--listen")) == nil ? nil : text }
        storage = reader.value(
            "storage", flag: flags.storage, standard: StorageChoice.sqlite("data/martlet.db"),
            expected: "sqlite:PATH, as in sqlite:data/martlet.db, or a URL postgres://…", shown: { $0?.masked }
        ) { text in try? StorageChoice(text) }
        storagePasswordFile = reader.text("storage-password-file", flag: flags.storagePasswordFile)
        cert = reader.text("cert", flag: flags.cert)
        key = reader.text("key", flag: flags.key)
        clientCA = reader.text("client-ca", flag: flags.clientCa)
        allowsTLS12 = reader.isOn("allow-tls12", flag: flags.allowTls12)
        isOpenToAll = reader.isOn("insecure-no-auth", flag: flags.insecureNoAuth)
        limits = Self.limits(flags, &reader)
        drainSeconds = reader.number("drain", flag: flags.drain, standard: 10, in: 0...86_400)
        logLevel = reader.value(
            "log-level", flag: flags.logLevel, standard: .info,
            expected: "trace, debug, info, notice, warning or error"
        ) { Logger.Level(rawValue: $0) }
        for (name, file) in [("cert", cert), ("key", key)] where file == nil {
            reader.complain(
                "there is no \(name): give --\(name) FILE, set \(SettingsReader.variable(of: name)), or write "
                    + "\(name): FILE into the file of --config")
        }
        if storagePasswordFile != nil {
            switch storage {
            case .postgreSQL(let url)? where !StorageChoice.hasPassword(url): break
            case .postgreSQL?: reader.complain("storage-password-file", "excludes a password in the URL of storage")
            default: reader.complain("storage-password-file", "is for a database, and storage names a file")
            }
        }
        do throws(MartletError) { try limits.validate() } catch { reader.complain(error.message) }
        entries = reader.entries
        problems = reader.allProblems()
    }

    private static func limits(_ flags: ServeFlags, _ reader: inout SettingsReader) -> Limits {
        var limits = Limits()
        let countMax = 1_000_000
        limits.payloadBytesMax = reader.number(
            "payload-max", flag: flags.payloadMax, standard: limits.payloadBytesMax, in: 1...(7 << 20))
        limits.connectionsMax = reader.number(
            "connections-max", flag: flags.connectionsMax, standard: limits.connectionsMax, in: 1...countMax)
        limits.connectionsPerAddressMax = reader.number(
            "connections-per-address-max", flag: flags.connectionsPerAddressMax,
            standard: limits.connectionsPerAddressMax, in: 1...countMax)
        limits.greetingConnectionsMax = reader.number(
            "greeting-connections-max", flag: flags.greetingConnectionsMax, standard: limits.greetingConnectionsMax,
            in: 1...countMax)
        limits.connectionAgeMillis =
            1_000
            * reader.number(
                "connection-age-max", flag: flags.connectionAgeMax, standard: limits.connectionAgeMillis / 1_000,
                in: 0...year)
        limits.callsPerConnectionMax = reader.number(
            "calls-per-connection-max", flag: flags.callsPerConnectionMax, standard: limits.callsPerConnectionMax,
            in: 1...65_536)
        limits.waitingAppendBytesMax = reader.number(
            "waiting-appends-max", flag: flags.waitingAppendsMax, standard: limits.waitingAppendBytesMax,
            in: (16 << 20)...(16 << 30))
        limits.keepaliveMillis =
            1_000
            * reader.number(
                "keepalive", flag: flags.keepalive, standard: limits.keepaliveMillis / 1_000, in: 1...3_600)
        return limits
    }

    /// - Throws: ``UsageError`` with all that is wrong.
    func check() throws {
        guard let first = problems.first else { return }
        guard problems.count > 1 else { throw UsageError(first) }
        throw UsageError("\(problems.count) settings are wrong:\n  " + problems.joined(separator: "\n  "))
    }
}

extension StorageChoice {
    /// Whether a database's URL holds a password.
    static func hasPassword(_ url: String) -> Bool {
        guard let parts = URLComponents(string: url) else { return false }
        return parts.password != nil || parts.queryItems?.contains { $0.name == "password" } == true
    }

    /// Without the password.
    var masked: String {
        switch self {
        case .sqlite(let path): "sqlite:\(path)"
        case .postgreSQL(let url): Self.masked(url)
        }
    }

    /// Parameters of a database's URL whose values are no secrets.
    private static let shownParameters: Set = [
        "application_name", "connect_timeout", "dbname", "host", "hostaddr", "options", "passfile", "port", "service",
        "sslcert", "sslkey", "sslmode", "sslrootcert", "target_session_attrs", "user",
    ]

    /// A database's URL without all that may be a password, also where one was written that needs percent-encoding: what
    /// stands between the first colon and the last `@`, and the values of parameters that are not known to be none.
    static func masked(_ url: String) -> String {
        guard let scheme = url.range(of: "://") else { return "***" }
        var rest = String(url[scheme.upperBound...])
        if let at = rest.lastIndex(of: "@"), let colon = rest[..<at].firstIndex(of: ":") {
            rest = "\(rest[..<colon]):***\(rest[at...])"
        } else if let colon = rest.firstIndex(of: ":"), !rest.contains("@"), !rest.hasPrefix("["),
            !rest[rest.index(after: colon)...].prefix(while: { $0 != "/" && $0 != "?" }).allSatisfy(\.isNumber)
        {
            // A user and a password without a host.
            rest = "\(rest[..<colon]):***"
        }
        guard let question = rest.firstIndex(of: "?") else { return url[..<scheme.upperBound] + rest }
        let parameters = rest[rest.index(after: question)...].split(separator: "&").map { parameter -> String in
            let name = String(parameter.prefix { $0 != "=" })
            if parameter.contains("="), shownParameters.contains(name) { return String(parameter) }
            return name == "password" || name == "sslpassword" ? "\(name)=***" : "***"
        }
        return url[..<scheme.upperBound] + rest[...question] + parameters.joined(separator: "&")
    }
}
