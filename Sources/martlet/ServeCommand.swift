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
            Each setting is taken from its flag, else from the environment (MARTLET_SERVE_CONNECTIONS_MAX for \
            --connections-max), else from the file of --config (connections-max: 5000), else it has its default. \
            `martlet config print` shows them.

            SIGTERM and SIGINT drain the server: it accepts no new calls, finishes the open ones and stops. A second \
            signal stops it immediately. SIGHUP reloads the certificates.
            """)

    @OptionGroup var flags: ServeFlags

    mutating func run() async throws {
        let settings = try ServeSettings(flags)
        try settings.check()
        var logger = Logger(label: "martlet", factory: { PrintableLogHandler(label: $0) })
        logger.logLevel = settings.logLevel
        let address = try settings.listenAddress()
        if settings.clientCA == nil {
            logger.notice(
                "no client certificates are required: every client may use every tenant",
                metadata: ["listen": "\(settings.listen)", "loopback_only": "\(address.isLoopback)"])
        }
        let tls = try settings.makeTLS()
        var configuration = ServerConfiguration(
            host: address.host, port: address.socketAddress.port ?? 0, serverVersion: BuildInfo.text,
            requiresClientCertificate: settings.clientCA != nil)
        configuration.isOpenToAll = settings.isOpenToAll
        configuration.limits = settings.limits
        configuration.drainMillis = settings.drainSeconds * 1_000
        if let available = DescriptorLimit.raise() {
            try DescriptorLimit.check(configuration.limits, available: available)
        }
        let server = EventServer(
            configuration: configuration, tls: tls, engine: try settings.engine(logger: logger), logger: logger
        ) { address in
            Terminal.write(
                line: "martlet \(BuildInfo.text) listens on \(ListenAddress.text(of: address))")
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
}

extension ServeSettings {
    /// The address to listen on, looked up once: what is checked is what is bound.
    func listenAddress() throws -> ListenAddress {
        let named = try HostPort(listen, option: "--listen")
        let address: ListenAddress
        do { address = try ListenAddress(host: named.host, port: named.port) } catch {
            throw UsageError("--listen \(listen): '\(named.host)' is not the name or address of a machine")
        }
        guard clientCA != nil || address.isLoopback || isOpenToAll else {
            throw UsageError(
                "--listen \(listen) (\(address.host)) can be reached from other machines, and clients would not have "
                    + "to identify themselves: give --client-ca FILE, or --insecure-no-auth if you want that")
        }
        return address
    }

    func makeTLS() throws -> TLSServerContext {
        do throws(TLSError) {
            return try TLSServerContext(
                TLSServerConfiguration(
                    certificateFile: cert ?? "", privateKeyFile: key ?? "", clientCAFile: clientCA,
                    allowTLS12: allowsTLS12))
        } catch {
            throw UsageError("\(error)")
        }
    }

    func engine(logger: Logger) throws -> any StorageEngine {
        guard let storage else { throw UsageError("there is no storage") }
        return storage.engine(passwordFile: storagePasswordFile, logger: logger)
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

    /// - Parameter passwordFile: has the password of a database whose URL has none.
    func engine(passwordFile: String? = nil, logger: Logger) -> any StorageEngine {
        switch self {
        case .sqlite(let path): SQLiteEngine(path: path, logger: logger)
        case .postgreSQL(let url):
            PostgreSQLEngine(connectionString: url, passwordFile: passwordFile, logger: logger)
        }
    }
}
