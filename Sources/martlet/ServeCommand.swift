import ArgumentParser
import Foundation
import Logging
import MartletModel
import MartletServer
import MartletStorage
import MartletStoragePostgreSQL
import MartletStorageSQLite
import MartletTLSOpenSSL
import NIOCore
import ServiceLifecycle
import UnixSignals

struct ServeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Run the server.",
        discussion: """
            SIGTERM and SIGINT drain the server: it accepts no new calls, finishes the open ones and stops. A second \
            signal stops it immediately. SIGHUP reloads the certificates.
            """)

    @Option(help: ArgumentHelp("Where to listen.", valueName: "host:port"))
    var listen = "127.0.0.1:7311"

    @Option(help: ArgumentHelp("sqlite:PATH, or a postgres:// URL.", valueName: "storage"))
    var storage = "sqlite:data/martlet.db"

    @Option(help: ArgumentHelp("The server's certificate chain, in PEM.", valueName: "file"))
    var cert: String

    @Option(help: ArgumentHelp("Its private key, in PEM.", valueName: "file"))
    var key: String

    @Option(
        help: ArgumentHelp(
            "CA of client certificates: every client must present one, whose URIs name the tenants it may use.",
            valueName: "file"))
    var clientCa: String?

    @Flag(help: "Also accept TLS 1.2.")
    var allowTls12 = false

    @Flag(help: "Listen beyond loopback without client certificates: anyone who can reach the port may do anything.")
    var insecureNoAuth = false

    @Option(help: ArgumentHelp("Largest payload of an event, at most 7340032.", valueName: "bytes"))
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

    @Option(help: ArgumentHelp("trace, debug, info, notice, warning or error.", valueName: "level"))
    var logLevel = "info"

    mutating func run() async throws {
        guard let level = Logger.Level(rawValue: logLevel) else {
            throw UsageError("--log-level '\(logLevel)' is not trace, debug, info, notice, warning or error")
        }
        var logger = Logger(label: "martlet", factory: { PrintableLogHandler(label: $0) })
        logger.logLevel = level
        let address = try listenAddress()
        guard clientCa != nil || address.isLoopback || insecureNoAuth else {
            throw UsageError(
                "--listen \(listen) (\(address.host)) can be reached from other machines, and clients would not have "
                    + "to identify themselves: give --client-ca FILE, or --insecure-no-auth if you want that")
        }
        if clientCa == nil {
            logger.notice(
                "no client certificates are required: every client may use every tenant",
                metadata: ["listen": "\(listen)", "loopback_only": "\(address.isLoopback)"])
        }
        let tls = try makeTLS()
        var configuration = ServerConfiguration(
            host: address.host, port: address.socketAddress.port ?? 0, serverVersion: BuildInfo.text,
            requiresClientCertificate: clientCa != nil)
        configuration.isOpenToAll = insecureNoAuth
        if let payloadMax { configuration.limits.payloadBytesMax = payloadMax }
        if let connectionsMax { configuration.limits.connectionsMax = connectionsMax }
        if let connectionsPerAddressMax { configuration.limits.connectionsPerAddressMax = connectionsPerAddressMax }
        if let greetingConnectionsMax { configuration.limits.greetingConnectionsMax = greetingConnectionsMax }
        if let connectionAgeMax {
            guard (0...31_536_000).contains(connectionAgeMax) else {
                throw UsageError("--connection-age-max \(connectionAgeMax) is not from 0 to 31536000 seconds, a year")
            }
            configuration.limits.connectionAgeMillis = connectionAgeMax * 1_000
        }
        try configuration.limits.validate()
        if let available = DescriptorLimit.raise() {
            try DescriptorLimit.check(configuration.limits, available: available)
        }
        let server = EventServer(
            configuration: configuration, tls: tls, engine: try StorageChoice(storage).engine(logger: logger),
            logger: logger
        ) { address in
            Terminal.write(
                line: "martlet \(BuildInfo.text) listens on \(address.ipAddress ?? "?"):\(address.port ?? 0)")
        }
        let group = ServiceGroup(
            configuration: ServiceGroupConfiguration(
                // The last one is shut down first: signals are watched until the server has drained.
                services: [
                    .init(service: SignalWatch(tls: tls, logger: logger)),
                    .init(
                        service: server, successTerminationBehavior: .gracefullyShutdownGroup,
                        failureTerminationBehavior: .cancelGroup),
                ],
                gracefulShutdownSignals: [.sigterm, .sigint], logger: logger))
        try await group.run()
    }

    /// The address of `--listen`, looked up once: what is checked is what is bound.
    private func listenAddress() throws -> ListenAddress {
        let named = try HostPort(listen, option: "--listen")
        do { return try ListenAddress(host: named.host, port: named.port) } catch {
            throw UsageError("--listen \(listen): '\(named.host)' is not the name or address of a machine")
        }
    }

    private func makeTLS() throws -> TLSServerContext {
        do throws(TLSError) {
            return try TLSServerContext(
                TLSServerConfiguration(
                    certificateFile: cert, privateKeyFile: key, clientCAFile: clientCa, allowTLS12: allowTls12))
        } catch {
            throw UsageError("\(error)")
        }
    }
}

/// SIGHUP reloads the certificates; the second signal to stop ends the program at once.
private struct SignalWatch: Service {
    let tls: TLSServerContext
    let logger: Logger

    func run() async throws {
        let signals = await UnixSignalsSequence(trapping: .sighup, .sigterm, .sigint)
        var stops = 0
        for await signal in signals.cancelOnGracefulShutdown() {
            guard signal == .sighup else {
                stops += 1
                if stops == 2 {
                    logger.warning("second signal: stopping immediately")
                    exit(ExitStatus.failed)
                }
                continue
            }
            do throws(TLSError) {
                try tls.reload()
                logger.notice("certificates were reloaded")
            } catch {
                logger.error(
                    "certificates could not be reloaded and stay as they were", metadata: ["error": "\(error)"])
            }
        }
    }
}

/// What `--storage` names.
enum StorageChoice {
    case sqlite(String)
    case postgreSQL(String)

    init(_ text: String) throws {
        if text.hasPrefix("sqlite:") {
            let path = String(text.dropFirst("sqlite:".count))
            guard !path.isEmpty else {
                throw UsageError("--storage sqlite: needs a path, as in sqlite:data/martlet.db")
            }
            self = .sqlite(path)
        } else if text.hasPrefix("postgres://") || text.hasPrefix("postgresql://") {
            self = .postgreSQL(text)
        } else {
            // Not repeated: it may hold a password.
            throw UsageError("--storage must be sqlite:PATH or postgres://…")
        }
    }

    func engine(logger: Logger) -> any StorageEngine {
        switch self {
        case .sqlite(let path): SQLiteEngine(path: path, logger: logger)
        case .postgreSQL(let url): PostgreSQLEngine(connectionString: url, logger: logger)
        }
    }
}
