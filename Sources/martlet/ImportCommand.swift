import ArgumentParser
import Foundation
import MartletClient
import MartletModel
import NIOCore

struct ImportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import", abstract: "Append JSON lines printed by export to a tenant, in order.",
        discussion: """
            Every line names its event: {"aggregate_type","aggregate_id","id","type","payload", and what else an \
            event has}. A file is checked as a whole before anything is stored, by its manifest too if it has one. An \
            interrupted import resumes when it is started again: the tenant must contain nothing but the first lines \
            of the file, which are compared.
            """)

    @OptionGroup var tenant: TenantOptions

    @Argument(help: "A file of JSON lines, or - for standard input.")
    var file: String

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        let source = ImportSource(file: file, tenant: tenantID)
        // What is read only once is checked as it comes.
        var coverage = source.isRegularFile ? try source.check() : nil
        let importer = Importer(source: source, tenant: tenantID)
        let result = try await tenant.server.withClient(retryFor: .seconds(60)) { client in
            var importer = importer
            return try await importer.run(client)
        }
        coverage = coverage ?? result.coverage
        if let complaint = coverage?.complaint { Terminal.complain("\(source.name): \(complaint)") }
        var line = #"{"imported":\#(result.imported),"already_there":\#(result.skipped),"head":\#(result.head)"#
        if coverage?.isComplete == true { line += #","verified":true"# }
        Terminal.write(line: line + "}")
    }
}

/// Reads lines and appends them in order, in batches.
///
/// Within one call events are stored aggregate by aggregate. To keep the order of the lines, a batch
/// ends where an aggregate comes back after another one.
struct Importer: Sendable {
    struct Result: Sendable {
        var imported: UInt64 = 0
        var skipped: UInt64 = 0
        var head: Position = .start
        var coverage = ManifestCoverage()
    }

    private static let batchEventsMax = 500
    private static let batchBytesMax = 2 << 20

    let source: ImportSource
    let tenant: TenantID

    private var parts: [NewAggregateEvents] = []
    private var seen: Set<AggregateName> = []
    private var eventCount = 0
    private var byteCount = 0
    private var result = Result()

    init(source: ImportSource, tenant: TenantID) {
        self.source = source
        self.tenant = tenant
    }

    mutating func run(_ client: MartletClient) async throws -> Result {
        do {
            try await take(client)
            return result
        } catch {
            let known =
                "\(result.imported) events were imported, \(result.skipped) were there already; start the same import again, "
                + "and it goes on after them"
            throw InterruptedCommand(error, known)
        }
    }

    private mutating func take(_ client: MartletClient) async throws {
        var reader = try source.reader()
        result.head = try await client.head(of: tenant).position
        try await compare(client, &reader)
        var bar = ProgressBar("import", total: source.bytes)
        while let line = try reader.next() {
            let (event, aggregate) = (line.event, line.aggregate)
            if mustFlush(before: aggregate, event) { try await flush(client) }
            if parts.last?.aggregate == aggregate {
                parts[parts.count - 1].events.append(event)
            } else {
                parts.append(NewAggregateEvents(aggregate: aggregate, expected: .any, events: [event]))
                seen.insert(aggregate)
            }
            eventCount += 1
            byteCount += event.payload.readableBytes
            bar.update(result.imported + UInt64(eventCount), progress: reader.bytesRead)
        }
        try await flush(client)
        bar.update(result.imported, progress: reader.bytesRead, isLast: true)
        result.coverage = reader.coverage
    }

    /// Passes over the lines that the tenant has already, each compared with what is stored.
    private mutating func compare(_ client: MartletClient, _ reader: inout ImportReader) async throws {
        guard result.head > .start else { return }
        let head = result.head
        let request = ReadRequest(tenant: tenant, target: .position(head), upcasting: .raw)
        var bar = ProgressBar("compare", total: head.rawValue)
        for try await stored in try await client.read(request) {
            guard let line = try reader.next() else {
                throw CommandFailure(
                    "the tenant \(tenant) has \(head) events, \(source.name) only \(result.skipped), which are the tenant's "
                        + "first ones: import into a new tenant")
            }
            if let difference = Self.difference(line, stored) {
                throw CommandFailure(
                    "\(source.name), line \(line.number): the tenant \(tenant) has another event at position "
                        + "\(stored.position): \(difference). Import into a new tenant, or import the file that this one was"
                )
            }
            result.skipped += 1
            bar.update(result.skipped, progress: result.skipped)
        }
        bar.update(result.skipped, progress: result.skipped, isLast: true)
    }

    /// In what an event of the file is not the stored one.
    private static func difference(_ line: ImportReader.Line, _ stored: RecordedEvent) -> String? {
        let (new, old) = (line.event, stored.event)
        if new.id != old.id {
            return "id \(old.id.uuidString.lowercased()), not \(new.id.uuidString.lowercased())"
        }
        if line.aggregate != stored.aggregate { return "its aggregate is \(stored.aggregate), not \(line.aggregate)" }
        if new.type != old.type { return "its type is \(old.type), not \(new.type)" }
        if new.contentType != old.contentType {
            return "its content type is \(old.contentType), not \(new.contentType)"
        }
        if new.schemaVersion != old.schemaVersion {
            return "its schema version is \(old.schemaVersion), not \(new.schemaVersion)"
        }
        if new.metadata != old.metadata { return "its metadata differ" }
        if new.payload != old.payload { return "its payload differs" }
        return nil
    }

    private func mustFlush(before aggregate: AggregateName, _ event: NewEvent) -> Bool {
        guard eventCount > 0 else { return false }
        return eventCount >= Self.batchEventsMax || byteCount + event.payload.readableBytes > Self.batchBytesMax
            || (parts.last?.aggregate != aggregate && (seen.contains(aggregate) || parts.count >= 100))
    }

    private mutating func flush(_ client: MartletClient) async throws {
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
