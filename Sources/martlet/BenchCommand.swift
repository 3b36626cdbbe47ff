import ArgumentParser
import Foundation
import Logging
import MartletClient
import MartletLoadTesting
import MartletModel

struct BenchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Put load on a running server and measure it, in a new tenant.",
        discussion: """
            Calls are made in a closed loop (each client calls again when its last call is done), or with --rate in an \
            open loop: calls are due at fixed times, and their time is measured from when they were due.

            At the end, the acknowledged events are counted in the server, and the deliveries are checked for gaps; if \
            something is missing, the command fails. Absolute figures mean little on a shared machine: compare runs \
            made side by side, with `bench compare`.
            """,
        subcommands: [
            BenchAppend.self, BenchLoad.self, BenchRead.self, BenchSubscribe.self, BenchMixed.self, BenchCompare.self,
            BenchRehydrate.self, BenchUpcast.self, BenchConsume.self,
        ])
}

/// Which server, and where the figures go.
struct BenchOutputOptions: ParsableArguments {
    enum Format: String, ExpressibleByArgument, CaseIterable { case text, json }

    @OptionGroup var server: ServerOptions

    @Option(
        help: ArgumentHelp("Write to this tenant instead of a new one (MARTLET_TENANT).", valueName: "uuid"))
    var tenant: String?

    @Option(help: ArgumentHelp("Also write the figures to this file, as JSON.", valueName: "file"))
    var json: String?

    @Option(help: ArgumentHelp("Also write a page with plots to this file, as HTML.", valueName: "file"))
    var html: String?

    @Option(help: "What to print: text or json.")
    var format = Format.text

    func tenantID() throws -> TenantID? {
        try setting(tenant, "MARTLET_TENANT").map { TenantID(try uuid($0, "--tenant")) }
    }

    /// Makes a run, and puts out its figures.
    /// - Throws: ``CommandFailure`` where what was counted back does not come out even.
    func report(_ run: (BenchTarget) async throws -> RunReport) async throws {
        var logger = Logger(label: "martlet", factory: { PrintableLogHandler(label: $0) })
        logger.logLevel = .error
        let jsonFile = try json.map { try OutputFile($0, option: "--json") }
        let htmlFile = try html.map { try OutputFile($0, option: "--html") }
        let report: RunReport
        do {
            report = try await run(BenchTarget(try server.configuration(), logger: logger))
        } catch let error as BenchFailure {
            BenchProgressLine.end()
            throw UsageError(error.description)
        }
        BenchProgressLine.end()
        let bytes = try report.json()
        try jsonFile?.write(bytes)
        try htmlFile?.write(Data(HTMLReport(report).html.utf8))
        switch format {
        case .text: Terminal.write(line: report.text)
        case .json: Terminal.write(Array(bytes) + [UInt8(ascii: "\n")])
        }
        guard report.failures.isEmpty else {
            throw CommandFailure("the run's figures cannot be trusted: " + report.failures.joined(separator: "; "))
        }
    }
}

/// How long, and how many at once.
struct BenchLoopOptions: ParsableArguments {
    @Option(help: "Concurrent clients, each with one call in flight.")
    var clients = 1

    @Option(help: "Connections that the clients share. By default each client has its own.")
    var connections: Int?

    @Option(help: "Size of an event's JSON payload, in bytes.")
    var payload = 256

    @Option(help: "Seconds of warm-up before the measurement.")
    var warmup = 1.0

    @Option(help: "Seconds to measure.")
    var seconds = 5.0

    @Option(help: "Calls per second of all clients together, due at fixed times (open loop). Default: closed loop.")
    var rate: Double?

    func settings(_ output: BenchOutputOptions) throws -> RunSettings {
        var settings = RunSettings()
        settings.clients = clients
        settings.connections = connections
        settings.payloadBytes = payload
        settings.warmupSeconds = warmup
        settings.seconds = seconds
        settings.callsPerSecond = rate
        settings.tenant = try output.tenantID()
        BenchProgressLine.report(&settings)
        return settings
    }
}

/// The progress line of a run on a terminal.
enum BenchProgressLine {
    /// Shows the progress of a run if standard error is a terminal.
    static func report(_ settings: inout RunSettings) {
        guard Terminal.showsProgress else { return }
        settings.onProgress = { show($0.line) }
        settings.onWritten = { show("writing what the run needs: \($0) events") }
    }

    private static func show(_ line: String) {
        FileHandle.standardError.write(Data("\r\u{1B}[K\(line)".utf8))
    }

    static func end() {
        if Terminal.showsProgress { FileHandle.standardError.write(Data("\r\u{1B}[K".utf8)) }
    }
}
