public import FoundationEssentials
public import Logging
public import MartletClient
public import MartletModel
import NIOCore

/// Loads the aggregates of one type and tenant, and carries out commands on them. A value: copies share the client and
/// the figures, and any number of tasks may use it at once.
public struct Repository<A: Aggregate>: Sendable {
    /// The tenant.
    public let tenant: TenantID
    /// Turns stored events into those of today, for projections.
    public let codec: EventCodec<A>

    let calls: any StoreCalls
    let options: RepositoryOptions
    let logger: Logger
    let environment: RepositoryEnvironment
    let counters = RepositoryCounters()
    private let unknown: UnknownEvents

    /// A repository of that tenant's aggregates.
    /// - Throws: the first defect of `A.schema`.
    public init(
        _ tenant: Tenant, options: RepositoryOptions = RepositoryOptions(),
        logger: Logger = Logger(label: "martlet.repository", factory: { _ in SwiftLogNoOpLogHandler() })
    ) throws(SchemaError) {
        try self.init(ClientCalls(client: tenant.client), tenant: tenant.id, options: options, logger: logger)
    }

    init(
        _ calls: any StoreCalls, tenant: TenantID, options: RepositoryOptions = RepositoryOptions(),
        logger: Logger = Logger(label: "martlet.repository", factory: { _ in SwiftLogNoOpLogHandler() }),
        environment: RepositoryEnvironment = RepositoryEnvironment(), schema: Schema<A> = A.schema
    ) throws(SchemaError) {
        self.calls = calls
        self.tenant = tenant
        self.options = options
        self.logger = logger
        self.environment = environment
        codec = try EventCodec(schema)
        unknown = schema.unknown
    }

    /// What this repository and its copies have done so far.
    public var figures: RepositoryFigures { counters.now }

    /// The aggregate of that id, now or as of a version, a position or a time: in one call, from the newest usable
    /// snapshot and the events after it.
    /// - Throws: ``AggregateNotFound`` without events; ``EventUndecodable``; ``MartletError``.
    public func load(_ id: UUID, asOf target: LoadTarget = .now) async throws -> Loaded<A> {
        let loaded = try await loadOrNew(id, asOf: target)
        guard loaded.version > .none else { throw AggregateNotFound(name(id), target: target) }
        return loaded
    }

    /// The aggregate whose id follows from that key, as ``load(_:asOf:)``.
    /// - Throws: `INVALID_FIELD` for a key that is not allowed; as ``load(_:asOf:)``.
    public func load(key: String, asOf target: LoadTarget = .now) async throws -> Loaded<A> {
        try await load(id(ofKey: key), asOf: target)
    }

    /// The id that follows from a key (``AggregateName/init(type:key:tenant:)``).
    /// - Throws: `INVALID_FIELD` for a key that is not allowed.
    public func id(ofKey key: String) throws(MartletError) -> UUID {
        try AggregateName(type: A.type, key: key, tenant: tenant).id
    }

    func name(_ id: UUID) -> AggregateName { AggregateName(type: A.type, id: id) }

    /// As ``load(_:asOf:)``; without events, the state before the first one.
    package func loadOrNew(_ id: UUID, asOf target: LoadTarget = .now) async throws -> Loaded<A> {
        counters.add(to: \.loads)
        var use: SnapshotUse?
        if A.self is any Codable.Type { use = SnapshotUse(schemaVersions: codec.snapshots.readable) }
        let request = LoadRequest(
            tenant: tenant, aggregate: name(id), target: target, snapshot: use, upcasting: codec.upcasting)
        let stream = try await calls.load(request)
        counters.add(stream.view.snapshotsSkipped, to: \.snapshotsSkipped)
        guard let snapshot = stream.view.snapshot else {
            return try await replay(stream, onto: Self.new(id, stream.view))
        }
        do {
            var loaded = Self.new(id, stream.view)
            loaded.state = try decode(snapshot)
            loaded.version = snapshot.version
            loaded.snapshotVersion = snapshot.version
            counters.add(to: \.snapshotsUsed)
            return try await replay(stream, onto: loaded)
        } catch let fault as SnapshotUndecodable {
            counters.add(to: \.snapshotsUndecodable)
            logger.warning(
                "A snapshot cannot be used; the aggregate's events are replayed",
                metadata: [
                    "aggregate": "\(name(id))", "version": "\(snapshot.version)",
                    "schema": "\(snapshot.storedSchemaVersion)", "complaint": "\(fault.complaint)",
                ])
        }
        let view = stream.view
        return try await replay(
            calls.load(
                LoadRequest(
                    tenant: tenant, aggregate: name(id), target: .position(view.position), upcasting: codec.upcasting)),
            onto: Self.new(id, view))
    }

    private static func new(_ id: UUID, _ view: LoadView) -> Loaded<A> {
        Loaded(id: id, state: A(id: id), version: .none, position: view.position)
    }

    private func replay(_ stream: EventStream<LoadView>, onto start: Loaded<A>) async throws -> Loaded<A> {
        var loaded = start
        for try await event in stream { try take(event, into: &loaded) }
        counters.add(loaded.eventsReplayed, to: \.eventsReplayed)
        return loaded
    }

    /// Brings an aggregate up to date.
    func catchUp(_ loaded: inout Loaded<A>) async throws {
        let stream = try await calls.load(
            LoadRequest(
                tenant: tenant, aggregate: name(loaded.id), after: loaded.version, upcasting: codec.upcasting))
        for try await event in stream { try take(event, into: &loaded) }
        loaded.position = max(loaded.position, stream.view.position)
    }

    private func take(_ event: RecordedEvent, into loaded: inout Loaded<A>) throws {
        for decoded in try codec.decode(event, unknown: unknown == .skip ? .keep : unknown) {
            switch decoded {
            case .event(let event): loaded.state.apply(event)
            case .unknown where unknown == .skip: counters.add(to: \.unknownEventsSkipped)
            case .unknown(let event): loaded.state.applyUnknown(event)
            }
        }
        loaded.version = event.version
        loaded.eventsReplayed += 1
    }

    /// Applies what a conflict brought, where all of it is of today or comes to it by the upcasters here: the events of
    /// a conflict come as they are stored, without the server's upcasters.
    func rebase(_ loaded: inout Loaded<A>, on events: [RecordedEvent]) -> Bool {
        var rebased = loaded
        for event in events {
            guard event.version == rebased.version.next, let decoded = try? codec.decode(event, unknown: .fail) else {
                return false
            }
            for case .event(let event) in decoded { rebased.state.apply(event) }
            rebased.version = event.version
            rebased.position = max(rebased.position, event.position)
            rebased.eventsReplayed += 1
        }
        loaded = rebased
        return true
    }
}
