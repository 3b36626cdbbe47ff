import ArgumentParser
import MartletLoadTesting
import MartletModel

struct BenchSubscribe: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "subscribe", abstract: "Measure deliveries to subscribers.",
        discussion: """
            Live: subscribers follow the tenant while clients append, and the time from each event's acknowledgement to \
            each of its deliveries is measured. With --history: the events are written first, and the subscribers \
            start at the first of them.

            With a filter, events are written in equal shares under the aggregate types bench0 to bench9 and the event \
            types BenchHappened0 to BenchHappened9.
            """)

    @OptionGroup var output: BenchOutputOptions

    @Option(help: "Subscribers, each following the whole tenant.")
    var subscribers = 100

    @Option(help: "Connections that the subscribers share.")
    var connections = 1

    @Option(help: "Write this many events first; the subscribers catch up with them, and no client appends.")
    var history: Int?

    @Option(help: "Events appended per second by all clients together. 0: as fast as possible.")
    var rate = 1_000.0

    @Option(help: "Clients that append, each with one call in flight; they share at most 8 connections of their own.")
    var clients = 8

    @Option(help: "Events per append.")
    var batch = 1

    @Option(help: "Size of an event's JSON payload, in bytes.")
    var payload = 256

    @Option(help: "Seconds of warm-up before the measurement.")
    var warmup = 1.0

    @Option(help: "Seconds to measure.")
    var seconds = 5.0

    @Option(help: ArgumentHelp("Deliver only events of aggregates of this type; may be repeated.", valueName: "type"))
    var aggregateType: [String] = []

    @Option(help: ArgumentHelp("Deliver only events of this type; may be repeated.", valueName: "type"))
    var eventType: [String] = []

    @Option(
        help: "Upcaster steps that each delivered event goes through. 0: events are delivered as stored.")
    var upcastSteps = 0

    mutating func run() async throws {
        var settings = RunSettings()
        settings.clients = clients
        settings.connections = connections
        settings.payloadBytes = payload
        settings.warmupSeconds = warmup
        settings.seconds = seconds
        settings.tenant = try output.tenantID()
        BenchProgressLine.report(&settings)
        let filter = EventFilter(
            aggregateTypes: Set(try aggregateType.map { try martlet.aggregateType($0) }),
            eventTypes: Set(try eventType.map { try martlet.eventType($0) }))
        if let history {
            guard filter.isEmpty else { throw UsageError("--history and filters cannot be combined: omit one") }
            guard upcastSteps == 0 else {
                throw UsageError("--history and --upcast-steps cannot be combined: omit one")
            }
            var workload = CatchUpWorkload(settings)
            workload.subscribers = subscribers
            workload.history = history
            try await output.report { try await workload.run($0) }
        } else {
            var workload = SubscribeWorkload(settings)
            workload.subscribers = subscribers
            workload.eventsPerSecond = rate
            workload.batch = batch
            workload.filter = filter
            workload.upcastSteps = upcastSteps
            try await output.report { try await workload.run($0) }
        }
    }
}
