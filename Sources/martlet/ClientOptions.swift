import ArgumentParser
import Foundation
import Logging
import MartletClient
import MartletModel

/// Which server, and as whom.
struct ServerOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The server (MARTLET_SERVER; default 127.0.0.1:7311).", valueName: "host:port"))
    var server: String?

    @Option(help: ArgumentHelp("CA that the server's certificate must chain to (MARTLET_CA).", valueName: "file"))
    var ca: String?

    @Option(help: ArgumentHelp("Client certificate (MARTLET_CERT).", valueName: "file"))
    var cert: String?

    @Option(help: ArgumentHelp("Its private key (MARTLET_KEY).", valueName: "file"))
    var key: String?

    /// The client's configuration.
    func configuration() throws -> ClientConfiguration {
        do {
            return try ClientConfiguration(
                server: server, tls: ClientTLS(ca: ca, certificate: cert, privateKey: key),
                clientName: "martlet/\(BuildInfo.text)",
                // The tenant is another option, which many commands do without.
                environment: ProcessInfo.processInfo.environment.filter { $0.key != "MARTLET_TENANT" })
        } catch { throw UsageError(error.description) }
    }

    /// Runs `body` with a client, which is closed afterwards.
    func withClient<Result: Sendable>(
        retryFor budget: Duration = .seconds(5), _ body: @escaping @Sendable (MartletClient) async throws -> Result
    ) async throws -> Result {
        var configuration = try configuration()
        configuration.retryBudget = budget
        var logger = Logger(label: "martlet", factory: { PrintableLogHandler(label: $0) })
        logger.logLevel = .error
        return try await MartletClient.withClient(configuration, logger: logger, body)
    }
}

/// Which server, as whom, and whose events.
struct TenantOptions: ParsableArguments {
    @OptionGroup var server: ServerOptions

    @Option(help: ArgumentHelp("The tenant (MARTLET_TENANT).", valueName: "uuid"))
    var tenant: String?

    func tenantID() throws -> TenantID {
        guard let text = setting(tenant, "MARTLET_TENANT") else {
            throw UsageError("no tenant: give --tenant UUID, or set MARTLET_TENANT")
        }
        guard let uuid = UUID(text: text) else { throw UsageError("--tenant '\(text)' is not a UUID") }
        return TenantID(uuid)
    }
}

/// Which aggregate of its type.
struct AggregateIDOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Id of the aggregate.", valueName: "uuid"))
    var id: String?

    @Option(
        help: ArgumentHelp(
            "Key that the id of the aggregate follows from; instead of --id. 1 to 512 bytes.", valueName: "key"))
    var aggregateKey: String?

    var areSet: Bool { id != nil || aggregateKey != nil }

    func name(type: String, in tenant: TenantID) throws -> AggregateName {
        let type = try aggregateType(type)
        switch (id, aggregateKey) {
        case (let id?, nil): return AggregateName(type: type, id: try uuid(id, "--id"))
        case (nil, let key?):
            do { return try AggregateName(type: type, key: key, tenant: tenant) } catch {
                throw UsageError("--aggregate-\(error.message)")
            }
        case (nil, nil): throw UsageError("no aggregate: give --id UUID or --aggregate-key KEY")
        case (_?, _?): throw UsageError("give only one of --id and --aggregate-key")
        }
    }
}

/// Names an aggregate.
struct AggregateOptions: ParsableArguments {
    @Option(help: "Type of the aggregate.")
    var type: String

    @OptionGroup var which: AggregateIDOptions

    func name(in tenant: TenantID) throws -> AggregateName { try which.name(type: type, in: tenant) }
}

/// A flag's value, or that of an environment variable that is set and not empty.
func setting(_ flag: String?, _ variable: String) -> String? {
    flag ?? ProcessInfo.processInfo.environment[variable].flatMap { $0.isEmpty ? nil : $0 }
}

func uuid(_ text: String, _ option: String) throws -> UUID {
    guard let uuid = UUID(text: text) else { throw UsageError("\(option) '\(text)' is not a UUID") }
    return uuid
}

func aggregateType(_ text: String) throws -> AggregateType {
    guard let type = AggregateType(text) else {
        throw UsageError("'\(text)' is not an aggregate type: 1 to 128 bytes of [A-Za-z0-9_.:-]")
    }
    return type
}

func eventType(_ text: String) throws -> EventType {
    guard let type = EventType(text) else {
        throw UsageError("'\(text)' is not an event type: 1 to 256 bytes of UTF-8 without control characters")
    }
    return type
}

/// A time as a user writes it: see ``TimeText``.
func timestamp(_ text: String, _ option: String) throws -> Timestamp {
    guard let time = TimeText.parse(text, now: .now()) else {
        throw UsageError("\(option) '\(text)' is not \(TimeText.forms)")
    }
    return time
}

/// Times as users write them.
enum TimeText {
    /// The forms, for messages.
    static let forms =
        "a time in RFC 3339, as in 2026-01-31T12:00:00Z, a day as in 2026-01-31 (from its begin in UTC), \"90m ago\" or now"

    /// - Returns: nil for a text that is none of ``forms``.
    static func parse(_ text: String, now: Timestamp) -> Timestamp? {
        if text == "now" { return now }
        if let time = Timestamp(rfc3339: text) { return time }
        if text.utf8.count == 10, let day = Timestamp(rfc3339: text + "T00:00:00Z") { return day }
        guard text.hasSuffix(" ago"), let micros = micros(text.dropLast(4)) else { return nil }
        let (then, overflows) = now.microseconds.subtractingReportingOverflow(micros)
        return overflows ? nil : Timestamp(microseconds: then)
    }

    /// A duration of one or more units: `1h30m`, `2d`.
    private static func micros(_ text: Substring) -> Int64? {
        let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800]
        var (sum, digits) = (Int64(0), "")
        for letter in text where letter != " " {
            if letter.isASCII, letter.isNumber {
                digits.append(letter)
                continue
            }
            guard let unit = units[letter], let count = Int64(digits) else { return nil }
            let (micros, isTooLong) = count.multipliedReportingOverflow(by: unit * 1_000_000)
            let (total, isTooLongInAll) = sum.addingReportingOverflow(micros)
            guard !isTooLong, !isTooLongInAll else { return nil }
            (sum, digits) = (total, "")
        }
        return digits.isEmpty && sum > 0 ? sum : nil
    }
}

/// `host:port`, `[::1]:port`.
struct HostPort {
    var host: String
    var port: Int

    init(_ text: String, option: String) throws {
        guard let colon = text.lastIndex(of: ":"), let port = Int(text[text.index(after: colon)...]),
            (0...65535).contains(port), colon > text.startIndex
        else { throw UsageError("\(option) '\(text)' is not HOST:PORT") }
        host = String(text[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        self.port = port
    }
}
