public import FoundationEssentials
import MartletClient
public import MartletModel
import NIOCore

/// The result of a command.
public struct Executed<A: Aggregate>: Sendable {
    /// The aggregate after it.
    public let aggregate: Loaded<A>
    /// What it decided; empty if it had nothing to do.
    public let events: [A.Event]
    /// Where its events went; nil without events.
    public let receipt: AppendReceipt?
    /// How often it was decided: once, and again for each time that others were faster.
    public let decisions: Int
}

extension Repository {
    /// Carries out a command: loads the aggregate, lets it decide, and appends the events on the condition that nothing
    /// came in between. Where something did, it is applied, and the aggregate decides again.
    ///
    /// The events are durable when it returns, and stored once: an append is sent again with the same event ids, also
    /// to a server that was killed and restarted. An aggregate without events decides in the state before the first.
    /// - Parameter context: metadata of the events; nil means ``CommandContext/current``, or a new one.
    /// - Throws: what `decide` throws; `VERSION_CONFLICT` after ``RepositoryOptions/decisionsMax`` decisions. After
    ///   `OUTCOME_UNKNOWN`, `DEADLINE_EXCEEDED` or `CANCELLED` the events may be stored or not: load, and look.
    @discardableResult
    public func execute(
        _ id: UUID, _ command: A.Command, context: CommandContext? = nil
    ) async throws -> Executed<A> {
        try await execute(id, context: context) { try $0.decide(command) }
    }

    /// As ``execute(_:_:context:)``, for what the aggregate has no command for.
    @discardableResult
    public func execute(
        _ id: UUID, context: CommandContext? = nil, decide: (A) throws -> [A.Event]
    ) async throws -> Executed<A> {
        let context = context ?? CommandContext.current ?? CommandContext()
        var loaded = try await loadOrNew(id)
        var decisions = 0
        while true {
            decisions += 1
            let draft = try draft(decide(loaded.state), on: loaded, context)
            guard !draft.events.isEmpty else {
                counters.add(to: \.commands)
                return Executed(aggregate: loaded, events: [], receipt: nil, decisions: decisions)
            }
            switch try await send(draft, expecting: loaded.version, to: name(id)) {
            case .stored(let receipt, let hasSnapshot):
                counters.add(to: \.commands)
                return Executed(
                    aggregate: await finish(draft, receipt, hasSnapshot: hasSnapshot), events: draft.events,
                    receipt: receipt,
                    decisions: decisions)
            case .conflict(let error):
                guard decisions < options.decisionsMax else { throw error }
                counters.add(to: \.conflicts)
                try await bringUp(&loaded, by: error)
                try await pause(after: decisions)
            }
        }
    }

    private func bringUp(_ loaded: inout Loaded<A>, by error: MartletError) async throws {
        let name = name(loaded.id)
        let conflict = error.conflicts.first { $0.aggregate == name }
        let events = (try? error.decodedConflictEvents()[name]) ?? []
        let isRebased = rebase(&loaded, on: events)
        if !isRebased || conflict?.eventsTruncated != false || loaded.version != conflict?.actual {
            try await catchUp(&loaded)
        }
    }

    private func pause(after failures: Int) async throws {
        // The first conflict costs nothing to try again; a crowd is pulled apart.
        guard failures > 1 else { return }
        try await environment.sleep(
            options.backoff.delay(afterFailures: failures - 1, random: environment.random()))
    }

    /// What a command decided, on its way to the store.
    private struct Draft {
        var events: [A.Event]
        var stored: [NewEvent]
        var after: Loaded<A>
        var snapshot: NewSnapshot?
    }

    private enum Sent {
        case stored(AppendReceipt, hasSnapshot: Bool)
        case conflict(MartletError)
    }

    private func draft(
        _ decided: [A.Event], on loaded: Loaded<A>, _ context: CommandContext
    ) throws(EventUnencodable) -> Draft {
        var draft = Draft(events: [], stored: [], after: loaded)
        guard !decided.isEmpty else { return draft }
        let metadata = context.metadata(occurredAt: environment.now())
        for event in decided {
            let parts = try codec.encodeAndReadBack(event, id: .v7(), metadata: metadata)
            draft.stored.append(parts.stored)
            draft.events.append(parts.event)
            draft.after.state.apply(parts.event)
        }
        draft.after.version = Version(loaded.version.rawValue + UInt64(decided.count))
        if case .every(let count) = options.snapshots,
            draft.after.version.rawValue - (loaded.snapshotVersion ?? .none).rawValue >= count
        {
            draft.snapshot = snapshot(of: draft.after.state)
        }
        return draft
    }

    /// Sends an append until its outcome is known, at most ``RepositoryOptions/sendsMax`` times.
    private func send(
        _ draft: Draft, expecting version: MartletModel.Version, to aggregate: AggregateName
    ) async throws -> Sent {
        var part = NewAggregateEvents(
            aggregate: aggregate, expected: .exact(version), events: draft.stored, snapshot: draft.snapshot)
        var sends = 0
        while true {
            sends += 1
            do throws(MartletError) {
                let receipt = try await calls.append(part, tenant: tenant)
                if part.snapshot != nil { counters.add(to: \.snapshotsSaved) }
                return .stored(receipt, hasSnapshot: part.snapshot != nil)
            } catch {
                // Versions never go back: once another event stands in the place, ours is not and will not be stored
                // there. Were it stored already, the answer would be the original one.
                if error.reason == .versionConflict { return .conflict(error) }
                if !error.isRetryable, part.snapshot != nil, error.code == .invalidArgument {
                    // Too large a snapshot, most likely. The events count.
                    snapshotFailed(error.description)
                    part.snapshot = nil
                    continue
                }
                guard error.isRetryable, sends < options.sendsMax else { throw error }
                counters.add(to: \.resends)
                try await environment.sleep(
                    options.backoff.delay(afterFailures: sends, random: environment.random()))
            }
        }
    }

    private func finish(_ draft: Draft, _ receipt: AppendReceipt, hasSnapshot: Bool) async -> Loaded<A> {
        var after = draft.after
        after.position = receipt.lastPosition
        if hasSnapshot { after.snapshotVersion = after.version }
        if options.snapshots == .whenDue, receipt.aggregates.first?.snapshotDue == true,
            await saveSnapshot(of: after)
        {
            after.snapshotVersion = after.version
        }
        return after
    }
}
