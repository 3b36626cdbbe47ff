import ArgumentParser
import Foundation
import MartletClient
import MartletModel
import NIOCore

struct SnapshotsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snapshots", abstract: "Save, list and delete the snapshots of an aggregate.",
        subcommands: [SnapshotsSave.self, SnapshotsList.self, SnapshotsDelete.self])
}

struct SnapshotsSave: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "save", abstract: "Save an aggregate's state at a version that it has had.",
        discussion: "Prints whether the snapshot was kept: the tenant's policy says how many of the newest are.")

    @OptionGroup var tenant: TenantOptions
    @OptionGroup var aggregate: AggregateOptions

    @Option(help: ArgumentHelp("The aggregate's version that the state belongs to.", valueName: "version"))
    var version: UInt64

    @Option(help: ArgumentHelp("The state's schema version.", valueName: "version"))
    var schemaVersion: UInt32 = 1

    @Option(help: ArgumentHelp("Media type of the state.", valueName: "type"))
    var contentType = NewEvent.json

    @Argument(help: "A file with the state, or - for standard input.")
    var file = "-"

    mutating func run() async throws {
        let state = try DocumentFile.contents(file, bytesMax: Limits().frameBytesMax)
        let tenantID = try tenant.tenantID()
        let request = SaveSnapshotRequest(
            tenant: tenantID, aggregate: try aggregate.name(in: tenantID), version: Version(version),
            snapshot: NewSnapshot(
                schemaVersion: schemaVersion, contentType: contentType, payload: ByteBuffer(bytes: state)))
        let receipt = try await tenant.server.withClient { try await $0.saveSnapshot(request) }
        Terminal.write(line: #"{"kept":\#(receipt.isKept),"newest_version":\#(receipt.newestVersion)}"#)
    }
}

struct SnapshotsList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Print one line per snapshot of an aggregate, newest first.")

    @OptionGroup var tenant: TenantOptions
    @OptionGroup var aggregate: AggregateOptions

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        let name = try aggregate.name(in: tenantID)
        for info in try await tenant.server.withClient({ try await $0.listSnapshots(of: name, tenant: tenantID) }) {
            Terminal.write(
                line: #"{"version":\#(info.version),"created_at":"\#(info.createdAt)","#
                    + #""schema_version":\#(info.schemaVersion),"content_type":\#(EventLine.quoted(info.contentType)),"#
                    + #""payload_bytes":\#(info.payloadBytes),"intact":\#(info.isIntact)}"#)
        }
    }
}

struct SnapshotsDelete: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete", abstract: "Delete an aggregate's snapshots, but not its events.")

    @OptionGroup var tenant: TenantOptions
    @OptionGroup var aggregate: AggregateOptions

    @Option(help: ArgumentHelp("Only the snapshot of this version.", valueName: "version"))
    var version: UInt64?

    mutating func run() async throws {
        guard version != 0 else { throw UsageError("--version 0: versions start at 1; omit it to delete all") }
        let tenantID = try tenant.tenantID()
        let request = DeleteSnapshotsRequest(
            tenant: tenantID, aggregate: try aggregate.name(in: tenantID),
            version: version.map { Version($0) })
        let count = try await tenant.server.withClient { try await $0.deleteSnapshots(request) }
        Terminal.write(line: #"{"deleted":\#(count)}"#)
    }
}

struct PoliciesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "policies",
        abstract: "Manage a tenant's snapshot policies: when snapshots are due, and how many are kept.",
        discussion: """
            The document: {"policies":[{"aggregate_type"?,"every_events"?,"every_bytes"?,"keep"?}]}, in JSON or YAML.
            """,
        subcommands: [PoliciesGet.self, PoliciesSet.self])
}

struct PoliciesGet: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "get", abstract: "Print the document in the form that set reads.")

    @OptionGroup var tenant: TenantOptions

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        let stored = try await tenant.server.withClient { try await $0.settings(.snapshotPolicies, tenant: tenantID) }
        let text = String(buffer: stored.document)
        if text.hasSuffix("\n") { return Terminal.write(Array(text.utf8)) }
        Terminal.write(line: text.isEmpty ? #"{"policies":[]}"# : text)
    }
}

struct PoliciesSet: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "set", abstract: "Replace the document.",
        discussion: "Prints the revision of the tenant's settings.")

    @OptionGroup var tenant: TenantOptions

    @Option(help: ArgumentHelp("Only if the tenant's settings are at this revision.", valueName: "revision"))
    var expect: UInt64?

    @Argument(help: "A file in JSON or YAML, or - for standard input.")
    var file: String

    mutating func run() async throws {
        let request = PutSettingsRequest(
            tenant: try tenant.tenantID(), kind: .snapshotPolicies, document: try DocumentFile.read(file),
            expectedRevision: expect)
        let revision = try await tenant.server.withClient { try await $0.putSettings(request) }
        Terminal.write(line: #"{"revision":\#(revision)}"#)
    }
}
