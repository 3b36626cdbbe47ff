import ArgumentParser
import Foundation
import MartletLoadTesting
import MartletModel

struct BenchAppend: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "append", abstract: "Measure appends.")

    @OptionGroup var output: BenchOutputOptions
    @OptionGroup var loop: BenchLoopOptions

    @Option(help: "Events per append.")
    var batch = 1

    @Option(
        help: ArgumentHelp(
            "Aggregates of each tenant that its clients write to at random, with any version. 0: each client writes to "
                + "an aggregate of its own with exact versions, and starts a new one after 1000 events."))
    var aggregates = 0

    @Option(
        help: ArgumentHelp(
            "Tenants; the clients are divided among them. With more tenants than clients, which requires --aggregates, "
                + "each append goes to one at random. --tenant names the first; the ids of the others count up from it."
        ))
    var tenants = 1

    @Flag(help: "Write an event to each aggregate of each tenant first, so that all exist when measuring begins.")
    var fill = false

    @Option(help: "Seed of each client's choices of tenants and aggregates; a new one, which is printed, unless given.")
    var seed: UInt64?

    mutating func run() async throws {
        var workload = AppendWorkload(try loop.settings(output))
        workload.batch = batch
        workload.aggregates = aggregates
        workload.tenants = tenants
        workload.fills = fill
        workload.seed = seed
        try await output.report { try await workload.run($0) }
    }
}

struct BenchLoad: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load", abstract: "Measure loads of whole aggregates, which are written first.")

    @OptionGroup var output: BenchOutputOptions
    @OptionGroup var loop: BenchLoopOptions

    @Option(help: "Aggregates; each load chooses one.")
    var aggregates = 100

    @Option(help: "Events of each aggregate.")
    var events = 100

    mutating func run() async throws {
        var workload = LoadWorkload(try loop.settings(output))
        workload.aggregates = aggregates
        workload.events = events
        try await output.report { try await workload.run($0) }
    }
}

struct BenchRead: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "read", abstract: "Measure reads of a whole history by position, which is written first.")

    @OptionGroup var output: BenchOutputOptions
    @OptionGroup var loop: BenchLoopOptions

    @Option(help: "Events of the history.")
    var history = 100_000

    mutating func run() async throws {
        var workload = ReadWorkload(try loop.settings(output))
        workload.history = history
        try await output.report { try await workload.run($0) }
    }
}

struct BenchMixed: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mixed", abstract: "Measure appends and loads by the same clients, while subscribers follow.")

    @OptionGroup var output: BenchOutputOptions
    @OptionGroup var loop: BenchLoopOptions

    @Option(help: "Percentage of calls that are appends; the others are loads.")
    var appendPercent = 50

    @Option(help: "Events per append.")
    var batch = 1

    @Option(help: "Aggregates to load, which are written first.")
    var aggregates = 100

    @Option(help: "Events of each aggregate.")
    var events = 100

    @Option(help: "Subscribers that follow the tenant; they share the clients' connections.")
    var subscribers = 10

    mutating func run() async throws {
        var workload = MixedWorkload(try loop.settings(output))
        workload.appendPercent = appendPercent
        workload.batch = batch
        workload.aggregates = aggregates
        workload.events = events
        workload.subscribers = subscribers
        try await output.report { try await workload.run($0) }
    }
}

struct BenchCompare: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare", abstract: "Print two runs side by side, and list how their setups differ.")

    @Argument(help: ArgumentHelp("The baseline: a run written by --json.", valueName: "a.json"))
    var a: String

    @Argument(help: ArgumentHelp("The run to compare with it.", valueName: "b.json"))
    var b: String

    mutating func run() throws {
        Terminal.write(line: Comparison(try Self.read(a), try Self.read(b)).text)
    }

    private static func read(_ path: String) throws -> RunReport {
        let bytes: Data
        do {
            bytes = try Data(contentsOf: URL(fileURLWithPath: path))
        } catch {
            throw UsageError("cannot read \(path): \(error.localizedDescription)")
        }
        do {
            return try RunReport.read(bytes, name: path)
        } catch let error as BenchFailure {
            throw UsageError(error.description)
        }
    }
}
