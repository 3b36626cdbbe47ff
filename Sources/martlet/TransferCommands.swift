import ArgumentParser
import Foundation
import MartletClient
import MartletModel
import NIOCore

struct ExportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Print all of a tenant's events as JSON lines that import reads.",
        discussion: """
            Prints events as stored, so that an import restores the tenant; --upcast prints them in today's schema. \
            To resume after an interruption, give --after with the last position that was written.
            """)

    @OptionGroup var tenant: TenantOptions
    @OptionGroup var upcasting: UpcastingFlags

    @Flag(help: "Upcast events to today's schema; importing them writes them in that schema.")
    var upcast = false

    @Option(help: ArgumentHelp("Only events after this position.", valueName: "position"))
    var after: UInt64 = 0

    mutating func run() async throws {
        let options = try upcasting.options()
        guard !(upcast && upcasting.raw) else { throw UsageError("give only one of --raw and --upcast") }
        guard upcast || upcasting.raw || !upcasting.areSet else {
            throw UsageError(
                "--on-upcast-failure and --stop-at require --upcast: without it, export prints events as stored")
        }
        let request = ReadRequest(
            tenant: try tenant.tenantID(), after: Position(after), upcasting: upcast ? options : .raw)
        try await tenant.server.withClient { client in
            let events = try await client.read(request)
            let total = events.view.to.rawValue - min(events.view.to.rawValue, request.after.rawValue)
            var bar = ProgressBar("export", total: total)
            var done: UInt64 = 0
            for try await event in events {
                Terminal.write(EventLine.encode(event))
                done += 1
                bar.update(done, progress: done)
            }
            bar.update(done, progress: done, isLast: true)
        }
    }
}

struct ImportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import", abstract: "Append JSON lines printed by export to a tenant, in order.",
        discussion: """
            Every line names its event: {"aggregate_type","aggregate_id","id","type","payload", and what else an \
            event has}. An interrupted import resumes when it is started again: the tenant must contain nothing \
            but the first lines of the file.
            """)

    @OptionGroup var tenant: TenantOptions

    @Argument(help: "A file of JSON lines, or - for standard input.")
    var file: String

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        let file = file
        let total = try? FileManager.default.attributesOfItem(atPath: file)[.size] as? UInt64
        let result = try await tenant.server.withClient(retryFor: .seconds(60)) { client in
            var importer = Importer(client: client, tenant: tenantID, file: file, totalBytes: total)
            return try await importer.run()
        }
        Terminal.write(
            line: #"{"imported":\#(result.imported),"already_there":\#(result.skipped),"head":\#(result.head)}"#)
    }
}

/// Reads lines and appends them in order, in batches.
///
/// Within one call events are stored aggregate by aggregate. To keep the order of the lines, a batch
/// ends where an aggregate comes back after another one.
struct Importer {
    struct Result {
        var imported: UInt64 = 0
        var skipped: UInt64 = 0
        var head: Position = .start
    }

    private static let batchEventsMax = 500
    private static let batchBytesMax = 2 << 20

    let client: MartletClient
    let tenant: TenantID
    let file: String
    let totalBytes: UInt64?

    private var parts: [NewAggregateEvents] = []
    private var seen: Set<AggregateName> = []
    private var eventCount = 0
    private var byteCount = 0
    private var result = Result()

    init(client: MartletClient, tenant: TenantID, file: String, totalBytes: UInt64?) {
        self.client = client
        self.tenant = tenant
        self.file = file
        self.totalBytes = totalBytes
    }

    mutating func run() async throws -> Result {
        var lines = try LineReader(file)
        let head = try await client.head(of: tenant)
        result.head = head.position
        try await skip(head.position.rawValue, &lines)
        var bar = ProgressBar("import", total: totalBytes)
        while let line = try lines.next() {
            let (event, aggregate) = try parse(line, lines.number)
            if mustFlush(before: aggregate, event) { try await flush() }
            if parts.last?.aggregate == aggregate {
                parts[parts.count - 1].events.append(event)
            } else {
                parts.append(NewAggregateEvents(aggregate: aggregate, expected: .any, events: [event]))
                seen.insert(aggregate)
            }
            eventCount += 1
            byteCount += event.payload.readableBytes
            bar.update(result.imported + UInt64(eventCount), progress: lines.bytesRead)
        }
        try await flush()
        bar.update(result.imported, progress: lines.bytesRead, isLast: true)
        return result
    }

    /// Passes over the lines that the tenant holds already.
    private mutating func skip(_ count: UInt64, _ lines: inout LineReader) async throws {
        guard count > 0 else { return }
        var last: NewEvent?
        for _ in 0..<count {
            guard let line = try lines.next() else { throw otherEvents(count) }
            last = try parse(line, lines.number).0
        }
        let request = ReadRequest(
            tenant: tenant, target: .position(Position(count)), direction: .backward, eventsMax: 1)
        var stored: UUID?
        for try await event in try await client.read(request) { stored = event.event.id }
        guard stored == last?.id else { throw otherEvents(count) }
        result.skipped = count
    }

    private func otherEvents(_ count: UInt64) -> CommandFailure {
        CommandFailure(
            "tenant \(tenant) holds \(count) events that are not the first lines of \(file): import into a new tenant")
    }

    private func parse(_ line: [UInt8], _ number: Int) throws -> (NewEvent, AggregateName) {
        do {
            let parsed = try EventLine.decode(line)
            guard parsed.hasID else {
                throw LineFault("\"id\" is missing: an import needs it to resume after an interruption")
            }
            guard let aggregate = parsed.aggregate else {
                throw LineFault("\"aggregate_type\" and \"aggregate_id\" are missing")
            }
            return (parsed.event, aggregate)
        } catch let fault as LineFault {
            throw CommandFailure("\(file), line \(number): \(fault); \(result.imported) events before it were imported")
        }
    }

    private func mustFlush(before aggregate: AggregateName, _ event: NewEvent) -> Bool {
        guard eventCount > 0 else { return false }
        return eventCount >= Self.batchEventsMax || byteCount + event.payload.readableBytes > Self.batchBytesMax
            || (parts.last?.aggregate != aggregate && (seen.contains(aggregate) || parts.count >= 100))
    }

    private mutating func flush() async throws {
        guard eventCount > 0 else { return }
        let receipt = try await client.append(parts, tenant: tenant)
        result.imported += UInt64(eventCount)
        result.head = receipt.lastPosition
        parts = []
        seen = []
        eventCount = 0
        byteCount = 0
    }
}
