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
            Before anything changes, the stored events that the file's steps concern are tried, as check does: if one \
            would fail, the command exits with code 5. On a terminal it shows what changes, and asks.
            """)

    @OptionGroup var tenant: TenantOptions

    @Flag(help: "Remove all steps that are not in the file.")
    var replace = false

    @Flag(help: "Do not try the steps on stored events.")
    var force = false

    @Flag(name: [.customLong("yes"), .customShort("y")], help: "Do not ask.")
    var isConfirmed = false

    @Argument(help: "A file in JSON or YAML, or - for standard input.")
    var file: String

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        let applied = try UpcasterSet(definition: try DocumentFile.read(file))
        let (replace, force, asks) = (replace, force, !isConfirmed && file != "-" && Terminal.canAsk)
        @Sendable func changed(_ set: UpcasterSet) throws -> UpcasterSet {
            replace ? applied : try set.applying(applied)
        }
        let change = try await tenant.server.withClient { client in
            let present = try await UpcasterChange.present(client, tenantID).set
            let next = try changed(present)
            if next.definition() != present.definition() {
                if !force { try await Self.check(next, by: applied, tenantID, client) }
                if asks {
                    for line in UpcasterChange.difference(from: present, to: next) { Terminal.say(line) }
                    guard Terminal.ask("Apply this to the tenant \(tenantID)?") else {
                        throw CommandFailure("nothing was changed")
                    }
                }
            }
            return try await UpcasterChange.make(client, tenantID) { set in
                // What was tried and shown is what is applied, also where the answer of the first try was lost.
                let isKnown = [present.definition(), next.definition()].contains(set.definition())
                guard isKnown || force && !asks else {
                    throw CommandFailure(
                        "somebody else has changed the upcasters meanwhile: apply again. Nothing was changed")
                }
                return try changed(set)
            }
        }
        change.report(applied: applied)
    }

    private static func check(
        _ next: UpcasterSet, by applied: UpcasterSet, _ tenant: TenantID,
        _ client: MartletClient
    ) async throws {
        let trial = try await UpcastTrial.run(next, by: applied, tenant, client, samples: 0, failures: 5)
        guard trial.total.failed > 0 else { return }
        throw CommandRefusal(
            "UPCAST_FAILED: \(trial.total.failed) of \(trial.total.events) stored events would not be upcast, the first ones "
                + "of each type above; nothing was changed. Correct the steps, or apply them with --force: readers then get "
                + "an error at these events")
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
