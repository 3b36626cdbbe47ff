public import MartletClient
public import MartletModel

/// A server behind a client: everything goes through the wire.
public struct ClientSubject: ConformanceSubject {
    private let client: MartletClient

    /// The server that this client talks to.
    public init(_ client: MartletClient) { self.client = client }

    /// Appends.
    public func append(_ request: AppendRequest) async throws(MartletError) -> AppendReceipt {
        try await client.append(request)
    }

    /// Loads.
    public func load(_ request: LoadRequest) async throws(MartletError) -> (view: LoadView, events: [RecordedEvent]) {
        let stream = try await client.load(request)
        var events: [RecordedEvent] = []
        for try await event in stream { events.append(event) }
        return (stream.view, events)
    }

    /// Reads.
    public func read(_ request: ReadRequest) async throws(MartletError) -> (view: ReadView, events: [RecordedEvent]) {
        let stream = try await client.read(request)
        var events: [RecordedEvent] = []
        for try await event in stream { events.append(event) }
        return (stream.view, events)
    }

    /// A tenant's head.
    public func head(of tenant: TenantID) async throws(MartletError) -> TenantHead { try await client.head(of: tenant) }

    /// Saves a snapshot.
    public func saveSnapshot(_ request: SaveSnapshotRequest) async throws(MartletError) -> SaveSnapshotReceipt {
        try await client.saveSnapshot(request)
    }

    /// The newest usable snapshot.
    public func loadSnapshot(_ request: LoadSnapshotRequest) async throws(MartletError) -> LoadedSnapshot {
        try await client.loadSnapshot(request)
    }

    /// What snapshots there are.
    public func listSnapshots(
        of aggregate: AggregateName, tenant: TenantID
    ) async throws(MartletError) -> [SnapshotInfo] {
        try await client.listSnapshots(of: aggregate, tenant: tenant)
    }

    /// Deletes snapshots.
    public func deleteSnapshots(_ request: DeleteSnapshotsRequest) async throws(MartletError) -> Int {
        try await client.deleteSnapshots(request)
    }

    /// Replaces settings.
    public func putSettings(_ request: PutSettingsRequest) async throws(MartletError) -> UInt64 {
        try await client.putSettings(request)
    }

    /// The settings of one kind.
    public func settings(
        _ kind: SettingsKind, tenant: TenantID
    ) async throws(MartletError) -> SettingsDocument {
        try await client.settings(kind, tenant: tenant)
    }

    /// Follows.
    public func subscribe(
        _ request: SubscribeRequest, _ take: @escaping @Sendable (FollowedItem) async throws -> Bool
    ) async throws {
        for try await item in client.subscribe(request) {
            let followed: FollowedItem
            switch item {
            case .events(let events, let head): followed = .events(events, head: head)
            case .started(let after, let head): followed = .signal(.started(after: after), head: head)
            case .caughtUp(let position, let head): followed = .signal(.caughtUp(position), head: head)
            case .fellBehind(let position, let head): followed = .signal(.fellBehind(position), head: head)
            case .checkpoint(let position, let head): followed = .signal(.checkpoint(position), head: head)
            case .heartbeat(let position, let head, let bytes):
                followed = .signal(.heartbeat(position, waitingForCreditBytes: bytes), head: head)
            case .upcastersChanged(let position, let revision, let head):
                followed = .signal(.upcastersChanged(position, revision: revision), head: head)
            case .reconnected: continue
            }
            guard try await take(followed) else { return }
        }
    }
}
