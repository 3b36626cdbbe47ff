import MartletClient
import MartletModel
import MartletUpcasting
import NIOCore

/// A tenant's upcasters, as they are and as they become.
struct UpcasterChange: Sendable {
    private static let attemptsMax = 5

    var before: UpcasterSet
    var after: UpcasterSet
    var revision: UInt64

    var isChange: Bool { before.definition() != after.definition() }

    /// The tenant's upcasters, and the revision of its settings.
    static func present(_ client: MartletClient, _ tenant: TenantID) async throws -> (
        set: UpcasterSet, revision: UInt64
    ) {
        let stored = try await client.settings(.upcasters, tenant: tenant)
        guard stored.document.readableBytes > 0 else { return (.empty, stored.revision) }
        return (try UpcasterSet(definition: stored.document), stored.revision)
    }

    /// Changes a tenant's upcasters; starts again where someone else changed its settings meanwhile. Nothing is written
    /// where nothing changes.
    static func make(
        _ client: MartletClient, _ tenant: TenantID, _ change: (UpcasterSet) throws -> UpcasterSet
    ) async throws -> UpcasterChange {
        var attempt = 1
        var first: UpcasterSet?
        while true {
            let (set, revision) = try await present(client, tenant)
            let after = try change(set)
            let before = first ?? set
            guard after.definition() != set.definition() else {
                return UpcasterChange(before: before, after: after, revision: revision)
            }
            first = before
            let request = PutSettingsRequest(
                tenant: tenant, kind: .upcasters, document: after.isEmpty ? ByteBuffer() : after.definition(),
                expectedRevision: revision)
            do {
                let now = try await client.putSettings(request)
                return UpcasterChange(before: before, after: after, revision: now)
            } catch {
                // Another's change, or our own first try whose answer was lost: the next look tells.
                guard error.reason == .settingsConflict, attempt < attemptsMax else { throw error }
                attempt += 1
            }
        }
    }

    /// A line for each step, and what was done to it.
    func report(applied: UpcasterSet? = nil) {
        let (old, new) = (Set(before.steps.map(StepKey.init)), Set(after.steps.map(StepKey.init)))
        let given = Set((applied ?? .empty).steps.map(StepKey.init))
        let isChange = isChange
        for step in before.steps where !new.contains(StepKey(step)) {
            Terminal.write(line: Self.line(of: step, change: "removed"))
        }
        for step in after.steps {
            let key = StepKey(step)
            let change = !old.contains(key) ? "added" : isChange && given.contains(key) ? "replaced" : "kept"
            Terminal.write(line: Self.line(of: step, change: change))
        }
        Terminal.write(line: #"{"steps":\#(after.steps.count),"changed":\#(isChange),"revision":\#(revision)}"#)
    }

    /// The steps that go (`-`) and come (`+`), each as it stands in the document.
    static func difference(from before: UpcasterSet, to after: UpcasterSet) -> [String] {
        let (old, new) = (before.stepDefinitions(), after.stepDefinitions())
        return old.filter { !new.contains($0) }.map { "- \(String(buffer: $0))" }
            + new.filter { !old.contains($0) }.map { "+ \(String(buffer: $0))" }
    }

    /// A step as a line.
    static func line(of step: UpcasterStepSummary, change: String? = nil) -> String {
        var line: String
        switch step.subject {
        case .event(let type): line = #"{"event":\#(EventLine.quoted(type.text))"#
        case .snapshot(let type): line = #"{"snapshot":\#(EventLine.quoted(type.text))"#
        }
        line += #","from":\#(step.fromVersion),"to":\#(step.fromVersion + 1),"operations":\#(step.operationCount)"#
        if let type = step.newType { line += #","type":\#(EventLine.quoted(type.text))"# }
        if let change { line += #","change":"\#(change)""# }
        return line + "}"
    }

    private struct StepKey: Hashable {
        var subject: UpcasterSubject
        var from: UInt32

        init(_ step: UpcasterStepSummary) { (subject, from) = (step.subject, step.fromVersion) }
    }
}
