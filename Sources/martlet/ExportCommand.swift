import ArgumentParser
import MartletClient
import MartletModel

struct ExportCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "export", abstract: "Print all of a tenant's events as JSON lines that import reads.",
        discussion: """
            Prints events as stored, so that an import restores the tenant; --upcast prints them in today's schema. \
            The last line is a manifest with count and checksum, by which import knows that nothing is missing or \
            changed. To resume after an interruption, give --after with the last position that was written.
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
        try await tenant.server.withClient { client in try await Self.run(request, client) }
    }

    private static func run(_ request: ReadRequest, _ client: MartletClient) async throws {
        var digest = try LineDigest()
        var (count, last) = (UInt64(0), request.after)
        do {
            let events = try await client.read(request)
            let head = events.view.to.rawValue
            var bar = ProgressBar("export", total: head - min(head, request.after.rawValue))
            for try await event in events {
                let line = EventLine.encode(event)
                try Terminal.tryWrite(line)
                digest.add(line)
                (count, last) = (count + 1, event.position)
                bar.update(count, progress: count)
            }
            bar.update(count, progress: count, isLast: true)
            let manifest = EventManifest(
                after: request.after.rawValue, head: head, events: count, sha256: digest.finish(),
                tenant: request.tenant.description)
            try Terminal.tryWrite(Array((try manifest.line() + "\n").utf8))
        } catch {
            guard count > 0 else {
                throw InterruptedCommand(error, "0 events were written: start again, with --after \(last)")
            }
            throw InterruptedCommand(
                error,
                "\(count) events were written, the last one of position \(last); cut off what stands after its line, "
                    + "if anything, and go on with --after \(last)")
        }
    }
}
