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
    /// Where its events went, with those of the other aggregate if there were two; nil if nothing was decided.
    public let receipt: AppendReceipt?
    /// How often it was decided: once, and again for each time that others were faster.
    public let decisions: Int
}

extension Repository where A: CommandHandling {
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

    /// As ``execute(_:_:context:)``, on the aggregate whose id follows from that key. Each event carries the key in its
    /// metadata, in the tag `aggregate_key`.
    /// - Throws: `INVALID_FIELD` for a key that is not allowed; as ``execute(_:_:context:)``.
    @discardableResult
    public func execute(
        key: String, _ command: A.Command, context: CommandContext? = nil
    ) async throws -> Executed<A> {
        try await execute(key: key, context: context) { try $0.decide(command) }
    }
}

extension Repository {
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
            switch try await send([draft.part]) {
            case .stored(let receipt, let hasSnapshots):
                counters.add(to: \.commands)
                return await finish(draft, receipt, hasSnapshot: hasSnapshots, decisions: decisions)
            case .conflict(let error):
                guard decisions < options.decisionsMax else { throw error }
                counters.add(to: \.conflicts)
                try await bringUp(&loaded, by: error)
                try await pause(after: decisions)
            }
        }
    }

    /// As ``execute(_:context:decide:)``, on the aggregate whose id follows from that key. Each event carries the key in its
    /// metadata, in the tag `aggregate_key`.
    @discardableResult
    public func execute(
        key: String, context: CommandContext? = nil, decide: (A) throws -> [A.Event]
    ) async throws -> Executed<A> {
        var context = context ?? CommandContext.current ?? CommandContext()
        context.tags[AggregateName.keyTag] = key
        return try await execute(id(ofKey: key), context: context, decide: decide)
    }

    /// Lets two aggregates decide together, and appends the events of both in one commit, on the condition that neither has
    /// changed. Where one has, what came in between is applied, and both decide again.
    ///
    /// ```swift
    /// try await accounts.execute(ada, with: bob, of: accounts) { ada, bob in
    ///     (try ada.decide(.withdraw(cents: 500)), try bob.decide(.deposit(cents: 500)))
    /// }
    /// ```
    ///
    /// The condition holds for aggregates that get events: one for which nothing is decided may have changed by then.
    /// - Parameters:
    ///   - otherID: another aggregate than `id`.
    ///   - other: the repository of the other one, which belongs to the same tenant; may be this one.
    /// - Throws: `INVALID_FIELD` for one aggregate named twice, or another tenant; as ``execute(_:_:context:)``.
    @discardableResult
    public func execute<B: Aggregate>(
        _ id: UUID, with otherID: UUID, of other: Repository<B>, context: CommandContext? = nil,
        decide: (A, B) throws -> ([A.Event], [B.Event])
    ) async throws -> (Executed<A>, Executed<B>) {
        guard other.tenant == tenant else { throw MartletError.invalidField("other", "belongs to another tenant") }
        guard other.name(otherID) != name(id) else {
            throw MartletError.invalidField("other", "is the same aggregate: \(name(id))")
        }
        let context = context ?? CommandContext.current ?? CommandContext()
        var (first, second) = (try await loadOrNew(id), try await other.loadOrNew(otherID))
        var decisions = 0
        while true {
            decisions += 1
            let decided = try decide(first.state, second.state)
            let drafts = (
                try draft(decided.0, on: first, context), try other.draft(decided.1, on: second, context)
            )
            let parts = [drafts.0.part, drafts.1.part].filter { !$0.events.isEmpty }
            switch parts.isEmpty ? nil : try await send(parts) {
            case nil:
                counters.add(to: \.commands)
                return (
                    Executed(aggregate: first, events: [], receipt: nil, decisions: decisions),
                    Executed(aggregate: second, events: [], receipt: nil, decisions: decisions)
                )
            case .stored(let receipt, let hasSnapshots):
                counters.add(to: \.commands)
                return (
                    await finish(drafts.0, receipt, hasSnapshot: hasSnapshots, decisions: decisions),
                    await other.finish(drafts.1, receipt, hasSnapshot: hasSnapshots, decisions: decisions)
                )
            case .conflict(let error):
                guard decisions < options.decisionsMax else { throw error }
                counters.add(to: \.conflicts)
                try await bringUp(&first, by: error)
                try await other.bringUp(&second, by: error)
                try await pause(after: decisions)
            }
        }
    }

    private func bringUp(_ loaded: inout Loaded<A>, by error: MartletError) async throws {
        let name = name(loaded.id)
        let conflict = error.conflicts.first { $0.aggregate == name }
        // Of two aggregates, only one may have changed.
        if conflict == nil, !error.conflicts.isEmpty { return }
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

    private func draft(
        _ decided: [A.Event], on loaded: Loaded<A>, _ context: CommandContext
    ) throws(EventUnencodable) -> Draft<A> {
        let part = NewAggregateEvents(aggregate: name(loaded.id), expected: .exact(loaded.version), events: [])
        var draft = Draft(events: [], part: part, after: loaded)
        guard !decided.isEmpty else { return draft }
        let metadata = context.metadata(occurredAt: environment.now())
        for event in decided {
            let parts = try codec.encodeAndReadBack(event, id: .v7(), metadata: metadata)
            draft.part.events.append(parts.stored)
            draft.events.append(parts.event)
            draft.after.state.apply(parts.event)
        }
        draft.after.version = Version(loaded.version.rawValue + UInt64(decided.count))
        if case .every(let count) = options.snapshots,
            draft.after.version.rawValue - (loaded.snapshotVersion ?? .none).rawValue >= count
        {
            draft.part.snapshot = snapshot(of: draft.after.state)
        }
        return draft
    }

    /// Sends an append until its outcome is known, at most ``RepositoryOptions/sendsMax`` times.
    private func send(_ parts: [NewAggregateEvents]) async throws -> Sent {
        var parts = parts
        var hasSnapshots: Bool { parts.contains { $0.snapshot != nil } }
        var sends = 0
        while true {
            sends += 1
            do throws(MartletError) {
                let receipt = try await calls.append(parts, tenant: tenant)
                counters.add(parts.count { $0.snapshot != nil }, to: \.snapshotsSaved)
                return .stored(receipt, hasSnapshots: hasSnapshots)
            } catch {
                // Versions never go back: once another event stands in the place, ours is not and will not be stored
                // there. Were it stored already, the answer would be the original one.
                if error.reason == .versionConflict { return .conflict(error) }
                if !error.isRetryable, hasSnapshots, error.code == .invalidArgument {
                    // Too large a snapshot, most likely. The events count.
                    snapshotFailed(error.description)
                    for index in parts.indices { parts[index].snapshot = nil }
                    continue
                }
                guard error.isRetryable, sends < options.sendsMax else { throw error }
                counters.add(to: \.resends)
                try await environment.sleep(
                    options.backoff.delay(afterFailures: sends, random: environment.random()))
            }
        }
    }

    private func finish(
        _ draft: Draft<A>, _ receipt: AppendReceipt, hasSnapshot: Bool, decisions: Int
    ) async -> Executed<A> {
        var after = draft.after
        // One of two that decided nothing is as it was loaded.
        if !draft.events.isEmpty { after.position = receipt.lastPosition }
        if hasSnapshot, draft.part.snapshot != nil { after.snapshotVersion = after.version }
        let appended = receipt.aggregates.first { $0.aggregate == draft.part.aggregate }
        if options.snapshots == .whenDue, appended?.snapshotDue == true, await saveSnapshot(of: after) {
            after.snapshotVersion = after.version
        }
        return Executed(aggregate: after, events: draft.events, receipt: receipt, decisions: decisions)
    }
}

/// What a command decided, on its way to the store.
private struct Draft<A: Aggregate> {
    var events: [A.Event]
    var part: NewAggregateEvents
    var after: Loaded<A>
}

private enum Sent {
    case stored(AppendReceipt, hasSnapshots: Bool)
    case conflict(MartletError)
}
