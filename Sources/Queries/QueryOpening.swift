public import MartletDelivery
public import MartletModel
public import MartletStorage
public import MartletTenants
import MartletUpcasting
import NIOCore

/// A load or a read whose view is fixed: where it stands, and how its events are delivered.
public final class OpenQuery: Sendable {
    /// What the events are read from.
    public enum View: Sendable {
        /// Of a load.
        case load(LoadView)
        /// Of a read.
        case read(ReadView)
    }

    /// What the events are read from.
    public let view: View
    private let cursor: QueryCursor
    private let delivery: EventDelivery

    init(view: View, cursor: QueryCursor, delivery: EventDelivery) {
        self.view = view
        self.cursor = cursor
        self.delivery = delivery
    }

    /// Whether everything was read.
    public var isDone: Bool { cursor.isDone }

    /// Reads the next page, as it is to be delivered; on a storage thread.
    public func read(
        _ reader: any StorageReader, bytesMax: Int, scanMax: Int
    ) throws(StorageError) -> Result<EventDelivery.Result, MartletError> {
        let page = try cursor.read(reader, bytesMax: bytesMax, scanMax: scanMax)
        do throws(MartletError) {
            return .success(try delivery.deliver(page, bytesMax: bytesMax))
        } catch { return .failure(error) }
    }

    /// The query once its view is told: the snapshot has left with it.
    public var viewTold: OpenQuery {
        var (view, cursor) = (view, cursor)
        if case .load(var load) = view {
            load.snapshot = nil
            view = .load(load)
        }
        cursor.viewTold()
        return OpenQuery(view: view, cursor: cursor, delivery: delivery)
    }

    /// What is left after a page that ``read(_:bytesMax:scanMax:)`` gave; nil where that is nothing.
    public func rest(after page: EventPage) -> OpenQuery? {
        var cursor = cursor
        cursor.advance(past: page)
        return cursor.isDone ? nil : OpenQuery(view: view, cursor: cursor, delivery: delivery)
    }
}

/// Opens loads and reads under the tenant's settings. All of it runs on a storage thread.
public final class QueryOpening: Sendable {
    let settings: SettingsCache
    let limits: Limits

    /// Queries under those settings and limits.
    public init(settings: SettingsCache, limits: Limits) {
        self.settings = settings
        self.limits = limits
    }

    /// Fixes the view of a load, and with it the snapshot that it begins with.
    public func open(
        _ request: LoadRequest, now: Timestamp, reader: any StorageReader
    ) throws(StorageError) -> Result<OpenQuery, MartletError> {
        let (settings, head) = try tenantState(of: request.tenant, request.upcasting, reader)
        var view: LoadView
        switch try QueryResolution.view(of: request, head: head, now: now, reader: reader) {
        case .failure(let error): return .failure(error)
        case .success(let resolved): view = resolved
        }
        var request = request
        if let use = request.snapshot {
            let wanted = LoadSnapshotRequest(
                tenant: request.tenant, aggregate: request.aggregate, to: view.version, use: use,
                upcasting: request.upcasting)
            let loaded = try snapshot(wanted, above: request.after, under: settings, reader)
            view.snapshot = loaded.snapshot
            view.snapshotsSkipped = loaded.skipped
            if let version = loaded.snapshot?.version { request.after = version }
        }
        return .success(
            OpenQuery(
                view: .load(view), cursor: QueryCursor(request, view: view, head: head),
                delivery: delivery(request.upcasting, .all, settings)))
    }

    /// Fixes the view of a read.
    public func open(
        _ request: ReadRequest, now: Timestamp, reader: any StorageReader
    ) throws(StorageError) -> Result<OpenQuery, MartletError> {
        let (settings, head) = try tenantState(of: request.tenant, request.upcasting, reader)
        let delivery = delivery(request.upcasting, request.filter, settings)
        var stored = request
        stored.filter = delivery.storedFilter
        return try QueryResolution.view(of: request, head: head, now: now, reader: reader).map { view in
            OpenQuery(view: .read(view), cursor: QueryCursor(stored, view: view), delivery: delivery)
        }
    }

    /// The newest snapshot that the caller can use.
    public func snapshot(
        _ request: LoadSnapshotRequest, reader: any StorageReader
    ) throws(StorageError) -> LoadedSnapshot {
        let (settings, _) = try tenantState(of: request.tenant, request.upcasting, reader)
        return try snapshot(request, above: .none, under: settings, reader)
    }

    /// What snapshots an aggregate has, newest first.
    public func snapshots(
        of aggregate: AggregateName, in tenant: TenantID, reader: any StorageReader
    ) throws(StorageError) -> [SnapshotInfo] {
        try reader.snapshots(of: aggregate, in: tenant)
    }

    private func tenantState(
        of tenant: TenantID, _ upcasting: UpcastingOptions, _ reader: any StorageReader
    ) throws(StorageError) -> (TenantSettings, TenantHead) {
        let tenantState = try reader.tenantState(of: tenant)
        // What is delivered as it is stored needs no settings, and must not be refused for want of memory for them.
        if upcasting.isRaw { return (.none, tenantState.head) }
        return (try settings.resolve(tenant, tenantState, reader: reader), tenantState.head)
    }

    private func delivery(
        _ options: UpcastingOptions, _ filter: EventFilter, _ settings: TenantSettings
    ) -> EventDelivery {
        .of(
            set: settings.upcasters, options: options, filter: filter, payloadBytesMax: limits.upcastPayloadBytesMax)
    }

    private func snapshot(
        _ request: LoadSnapshotRequest, above: Version, under settings: TenantSettings, _ reader: any StorageReader
    ) throws(StorageError) -> LoadedSnapshot {
        var loaded = LoadedSnapshot()
        let type = request.aggregate.type
        let set = request.upcasting.isRaw ? UpcasterSet.empty : settings.upcasters
        var work = 0
        for key in try reader.snapshots(of: request.aggregate, in: request.tenant)
        where key.version > above && key.version <= request.to ?? .max {
            // Those that fail take a thread's time too: after a page's worth of it, the events are replayed instead.
            guard let target = set.snapshotVersion(of: type, from: key.schemaVersion, use: request.use),
                target == key.schemaVersion || work < set.limits.workPerPageMax,
                let stored = try reader.snapshot(of: request.aggregate, in: request.tenant, at: key.version),
                stored.isIntact
            else {
                loaded.skipped += 1
                continue
            }
            var snapshot = stored.snapshot
            if target != key.schemaVersion {
                var payload = ByteBuffer()
                // One that was stored under a higher limit may stay as long as it is.
                let outcome = set.upcast(
                    snapshot: type, schemaVersion: key.schemaVersion, contentType: snapshot.contentType,
                    payload: snapshot.payload, atMost: target,
                    outputBytesMax: max(limits.snapshotBytesMax, snapshot.payload.readableBytes), to: &payload,
                    work: &work)
                guard case .upcast(let upcast) = outcome, upcast.schemaVersion == target else {
                    loaded.skipped += 1
                    continue
                }
                snapshot.schemaVersion = target
                snapshot.payload = payload
            }
            loaded.snapshot = snapshot
            return loaded
        }
        return loaded
    }
}
