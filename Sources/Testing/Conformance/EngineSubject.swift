import MartletDelivery
public import Logging
public import MartletModel
import MartletQueries
import MartletRecordCodec
public import MartletStorage
import MartletSubscriptions
import MartletTenants
import MartletUpcasting
public import NIOCore

/// An engine under the server's own store, hub and subscriptions, without a network.
public final class EngineSubject: ConformanceSubject {
    private let store: EventStore
    private let hub: EventHub
    private let reads: ReadCoalescer
    private let settings: SettingsCache
    private let queries: QueryOpening
    private let limits: Limits
    private let eventLoop: any EventLoop

    /// Starts the engine.
    public init(
        _ engine: any StorageEngine, clock: @escaping Clock = Timestamp.now, limits: Limits = Limits(),
        eventLoop: any EventLoop, logger: Logger
    ) throws(StorageError) {
        let hub = EventHub(limits: limits)
        self.hub = hub
        self.limits = limits
        self.eventLoop = eventLoop
        let settings = SettingsCache(limits: limits)
        self.settings = settings
        store = EventStore(
            engine: engine, limits: limits, clock: clock, logger: logger,
            rules: SettingsRules(settings, uptime: { .now() }), onCommit: { hub.publish($0) })
        queries = QueryOpening(settings: settings, limits: limits)
        reads = ReadCoalescer(source: StoragePages(store, settings: settings), limits: limits)
        try store.start()
    }

    /// Ends its threads.
    public func shutDown() async { await store.shutDown() }

    /// Appends under the tenant's policies.
    public func append(_ request: AppendRequest) async throws(MartletError) -> AppendReceipt {
        do throws(MartletError) {
            return try await store.append(request)
        } catch {
            guard request.includeConflictingEvents, !error.conflicts.isEmpty else { throw error }
            var error = error
            let conflicts = error.conflicts
            error.conflicts = try await store.read(for: request.tenant) { [queries] reader throws(StorageError) in
                queries.fill(conflicts, of: request.tenant, reader: reader).conflicts
            }
            throw error
        }
    }

    private func resolve(_ tenant: TenantID) async throws(MartletError) -> TenantSettings {
        try await store.read(for: tenant) { [settings] reader throws(StorageError) in
            try settings.resolve(tenant, try reader.tenantState(of: tenant), reader: reader)
        }
    }

    /// Loads page by page.
    public func load(_ request: LoadRequest) async throws(MartletError) -> (view: LoadView, events: [RecordedEvent]) {
        let now = store.clock()
        let query = try await store.read(for: request.tenant) { [queries] reader throws(StorageError) in
            try queries.open(request, now: now, reader: reader)
        }.get()
        guard case .load(let view) = query.view else { preconditionFailure("a load has the view of a load") }
        return (view, try await events(of: query, request.tenant))
    }

    /// Reads page by page.
    public func read(_ request: ReadRequest) async throws(MartletError) -> (view: ReadView, events: [RecordedEvent]) {
        let now = store.clock()
        let query = try await store.read(for: request.tenant) { [queries] reader throws(StorageError) in
            try queries.open(request, now: now, reader: reader)
        }.get()
        guard case .read(let view) = query.view else { preconditionFailure("a read has the view of a read") }
        return (view, try await events(of: query, request.tenant))
    }

    private func events(of query: OpenQuery, _ tenant: TenantID) async throws(MartletError) -> [RecordedEvent] {
        var rest: OpenQuery? = query.isDone ? nil : query
        var events: [RecordedEvent] = []
        let limits = limits
        while let current = rest {
            let page = try await store.read(for: tenant) { reader throws(StorageError) in
                try current.read(reader, bytesMax: limits.pageBytesMax, scanMax: limits.pageScanEventsMax)
            }.get().page
            events += Self.decode(page.entries)
            rest = current.rest(after: page)
        }
        return events
    }

    /// Saves a snapshot under the tenant's policies.
    public func saveSnapshot(_ request: SaveSnapshotRequest) async throws(MartletError) -> SaveSnapshotReceipt {
        switch try await store.apply(.saveSnapshot(request, kept: SnapshotPolicy.never.kept)) {
        case .snapshotSaved(let receipt): return receipt
        default: throw Self.refused(.snapshotBeyondAggregate)
        }
    }

    /// The newest usable snapshot.
    public func loadSnapshot(_ request: LoadSnapshotRequest) async throws(MartletError) -> LoadedSnapshot {
        try await store.read(for: request.tenant) { [queries] reader throws(StorageError) in
            try queries.snapshot(request, reader: reader)
        }
    }

    /// What snapshots there are.
    public func listSnapshots(
        of aggregate: AggregateName, tenant: TenantID
    ) async throws(MartletError) -> [SnapshotInfo] {
        try await store.read(for: tenant) { [queries] reader throws(StorageError) in
            try queries.snapshots(of: aggregate, in: tenant, reader: reader)
        }
    }

    /// Deletes snapshots.
    public func deleteSnapshots(_ request: DeleteSnapshotsRequest) async throws(MartletError) -> Int {
        switch try await store.apply(.deleteSnapshots(request)) {
        case .snapshotsDeleted(let count): return count
        default: throw Self.refused(.internalError)
        }
    }

    /// Replaces settings, and puts them in force.
    public func putSettings(_ request: PutSettingsRequest) async throws(MartletError) -> UInt64 {
        switch try await store.apply(.putSettings(request)) {
        case .settingsPut(let revision):
            hub.settingsChanged(request.tenant, to: try await resolve(request.tenant))
            return revision
        default: throw Self.refused(.settingsConflict)
        }
    }

    /// The settings of one kind.
    public func settings(
        _ kind: SettingsKind, tenant: TenantID
    ) async throws(MartletError) -> SettingsDocument {
        let settings = try await store.read(for: tenant) { reader throws(StorageError) in
            try reader.settings(of: tenant)
        }
        return SettingsDocument(document: settings.documents[kind] ?? ByteBuffer(), revision: settings.revision)
    }

    private static func refused(_ reason: Reason) -> MartletError {
        MartletError(.failedPrecondition, reason: reason, message: "the change was refused")
    }

    private static func decode(_ entries: ByteBuffer) -> [RecordedEvent] {
        do throws(RecordFault) { return try RecordedEntries.decode(entries) } catch {
            preconditionFailure("what was encoded here can be decoded: \(error)")
        }
    }

    /// A tenant's head.
    public func head(of tenant: TenantID) async throws(MartletError) -> TenantHead {
        try await store.read(for: tenant) { reader throws(StorageError) in try reader.head(of: tenant) }
    }

    /// Follows with a driver on the event loop; credit is given back as messages are taken.
    public func subscribe(
        _ request: SubscribeRequest, _ take: @escaping @Sendable (FollowedItem) async throws -> Bool
    ) async throws {
        let (messages, continuation) = AsyncThrowingStream.makeStream(of: SubscriptionMessage.self)
        let (eventLoop, hub, reads, limits) = (eventLoop, hub, reads, limits)
        let driver = try await eventLoop.submit {
            let driver = SubscriptionDriver(
                request: request, creditBytes: 1 << 20, eventLoop: eventLoop, hub: hub, reads: reads,
                room: .alone(for: request.tenant, limits: limits, on: eventLoop), limits: limits,
                emit: { continuation.yield($0) }, onEnd: { continuation.finish(throwing: $0) })
            driver.start()
            return driver
        }.get()
        defer { eventLoop.execute { driver.cancel() } }
        for try await message in messages {
            if message.count > 0 {
                guard try await take(.events(Self.decode(message.entries), head: message.head)) else { return }
                let bytes = UInt64(message.entries.readableBytes)
                eventLoop.execute { driver.addCredit(bytes) }
            }
            if let signal = message.signal {
                guard try await take(.signal(signal, head: message.head)) else { return }
            }
        }
    }
}
