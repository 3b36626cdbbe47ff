import ArgumentParser
import EventModel
import LoadTesting

struct BenchAppend: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "append", abstract: "Measure appends.")

    @OptionGroup var output: BenchOutputOptions
    @OptionGroup var loop: BenchLoopOptions

    @Option(help: "Events of one append.")
    var batch = 1

    @Option(
        help: ArgumentHelp(
            "Aggregates that all clients write to, whatever their versions. 0: each client writes to one of its own with "
                + "exact versions, and to a new one after 1000 events."))
    var aggregates = 0

    @Option(help: "Tenants, with a share of the clients each.")
    var tenants = 1

    mutating func run() async throws {
        var workload = AppendWorkload(try loop.settings(output))
        workload.batch = batch
        workload.aggregates = aggregates
        workload.tenants = tenants
        try await output.report { try await workload.run($0) }
    }
}

struct BenchLoad: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load", abstract: "Measure loads of whole aggregates, which are written before.")

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
        commandName: "read", abstract: "Measure reads of a whole history by position, which is written before.")

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
