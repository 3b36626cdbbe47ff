import ArgumentParser
import Foundation
import MartletClient
import MartletModel
import MartletUpcasting
import NIOCore

struct UpcastersCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "upcasters", abstract: "Manage the upcasters of a tenant, and try them out.",
        discussion: "Docs/UPCASTING.md describes the document, in JSON or YAML.",
        subcommands: [UpcastersApply.self, UpcastersList.self, UpcastersRemove.self, UpcastersCheck.self])
}

struct UpcastersApply: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply",
        abstract: "Add a file's steps to the tenant's; each replaces a step of the same type and version.",
        discussion: """
            Prints one line per step, and {"steps","changed","revision"}. Applying a file again changes nothing. \
            The whole set is checked before anything changes.
            """)

    @OptionGroup var tenant: TenantOptions

    @Flag(help: "Remove all steps that are not in the file.")
    var replace = false

    @Argument(help: "A file in JSON or YAML, or - for standard input.")
    var file: String

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        let applied = try UpcasterSet(definition: try DocumentFile.read(file))
        let replace = replace
        let change = try await tenant.server.withClient { client in
            try await UpcasterChange.make(client, tenantID) { replace ? applied : try $0.applying(applied) }
        }
        change.report(applied: applied)
    }
}

struct UpcastersList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Print one line per step of the tenant.")

    @OptionGroup var tenant: TenantOptions

    @Flag(help: "Print the document instead, in the form that apply reads.")
    var document = false

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        let set = try await tenant.server.withClient { try await UpcasterChange.present($0, tenantID).set }
        if document { return Terminal.write(line: String(buffer: set.definition())) }
        for step in set.steps { Terminal.write(line: UpcasterChange.line(of: step)) }
    }
}

struct UpcastersRemove: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove", abstract: "Remove the steps of an event type, or of the snapshots of an aggregate type.")

    @OptionGroup var tenant: TenantOptions

    @Option(help: ArgumentHelp("Steps of the events of this type.", valueName: "type"))
    var event: String?

    @Option(help: ArgumentHelp("Steps of the snapshots of the aggregates of this type.", valueName: "type"))
    var snapshot: String?

    @Option(help: ArgumentHelp("Only the step from this schema version.", valueName: "version"))
    var from: UInt32?

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        let subject: UpcasterSubject
        switch (event, snapshot) {
        case (let type?, nil): subject = .event(try eventType(type))
        case (nil, let type?): subject = .snapshot(try aggregateType(type))
        default: throw UsageError("give exactly one of --event and --snapshot")
        }
        let from = from
        let change = try await tenant.server.withClient { client in
            try await UpcasterChange.make(client, tenantID) { try $0.removing(subject, from: from) }
        }
        guard change.isChange else {
            throw CommandFailure("the tenant has no step for \(subject)" + (from.map { " from \($0)" } ?? ""))
        }
        change.report()
    }
}
