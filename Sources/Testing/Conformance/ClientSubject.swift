public import MartletClient
public import MartletModel
import NIOConcurrencyHelpers

/// A server behind a client: everything goes through the wire.
public struct ClientSubject: ConformanceSubject {
    private let client: MartletClient
    private let followsTenants: Bool

    /// The server that this client talks to.
    /// - Parameter followsTenants: workers are on streams over many tenants, which name the one that a clause is about.
    public init(_ client: MartletClient, followsTenants: Bool = false) {
        self.client = client
        self.followsTenants = followsTenants
    }

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

    /// Makes a consumer, or replaces its definition.
    public func putConsumer(_ request: PutConsumerRequest) async throws(MartletError) -> PutConsumerReceipt {
        try await client.putConsumer(request)
    }

    /// How a consumer is.
    public func consumer(_ consumer: ConsumerID) async throws(MartletError) -> ConsumerDescription {
        try await client.consumer(consumer)
    }

    /// All consumers of a tenant.
    public func consumers(of tenant: TenantID) async throws(MartletError) -> [ListedConsumer] {
        try await client.consumers(of: tenant)
    }

    /// Deletes a consumer.
    public func deleteConsumer(_ consumer: ConsumerID) async throws(MartletError) {
        try await client.deleteConsumer(consumer)
    }

    /// Has a consumer begin again, or says what would come again.
    public func resetConsumer(_ request: ResetConsumerRequest) async throws(MartletError) -> ResetConsumerReceipt {
        try await client.resetConsumer(request)
    }

    /// A page of a consumer's blocked keys.
    public func blockedKeys(_ request: ListBlockedKeysRequest) async throws(MartletError) -> [ListedKey] {
        try await client.blockedKeys(request)
    }

    /// Has blocked keys tried again.
    public func unblockKeys(_ request: UnblockKeysRequest) async throws(MartletError) -> Int {
        try await client.unblockKeys(request)
    }

    /// Waits until a consumer has come to a position.
    public func awaitConsumer(
        _ request: AwaitConsumerRequest, timeout: Duration
    ) async throws(MartletError) -> Position {
        try await client.awaitConsumer(request.consumer, position: request.position, timeout: timeout)
    }

    /// Works on a consumer.
    public func consume(_ request: ConsumeRequest) -> any ConformanceWorker {
        guard followsTenants else { return ClientWorker(.one(client.consume(request))) }
        return ClientWorker(.many(client.consume(request.overTenants), of: request.consumer.tenant))
    }

    /// Sets and cancels schedules.
    public func changeSchedules(_ request: ChangeSchedulesRequest) async throws(MartletError) -> [ScheduleChanged] {
        try await client.changeSchedules(request)
    }

    /// A page of a tenant's schedules.
    public func schedules(_ request: ListSchedulesRequest) async throws(MartletError) -> [ListedSchedule] {
        try await client.schedules(request)
    }
}

/// What a worker behind a client works on.
private enum ClientStream: Sendable {
    case one(Consumption)
    case many(TenantsConsumption, of: TenantID)

    func acknowledge(_ delivery: ConsumerDelivery) {
        switch self {
        case .one(let consumption): consumption.acknowledge(delivery)
        case .many(let consumption, _): consumption.acknowledge(delivery)
        }
    }

    func acknowledge(upTo delivery: ConsumerDelivery) {
        switch self {
        case .one(let consumption): consumption.acknowledge(upTo: delivery)
        case .many(let consumption, _): consumption.acknowledge(upTo: delivery)
        }
    }

    func reject(_ delivery: ConsumerDelivery, _ rejection: ConsumerRejection, reason: String) {
        switch self {
        case .one(let consumption): consumption.reject(delivery, rejection, reason: reason)
        case .many(let consumption, _): consumption.reject(delivery, rejection, reason: reason)
        }
    }

    func makeItems() -> ClientItems {
        switch self {
        case .one(let consumption): .one(consumption.makeAsyncIterator())
        case .many(let consumption, let tenant): .many(consumption.makeAsyncIterator(), of: tenant)
        }
    }
}

/// What it brings.
private enum ClientItems {
    case one(Consumption.Iterator)
    case many(TenantsConsumption.Iterator, of: TenantID)

    mutating func next(
        isolation actor: isolated (any Actor)? = #isolation
    ) async throws(MartletError) -> ConsumptionItem? {
        switch self {
        case .one(var items):
            defer { self = .one(items) }
            return try await items.next()
        case .many(var items, let tenant):
            defer { self = .many(items, of: tenant) }
            while let item = try await items.next() {
                switch item {
                case .joined(let tenants): guard tenants == [tenant] else { throw .notJoined }
                case .of(tenant, let item): return item
                case .left(tenant, let error): throw error
                case .of, .left: throw .noAnswer
                }
            }
            return nil
        }
    }
}

/// A worker behind a client, which says that it is there by itself.
private actor ClientWorker: ConformanceWorker {
    private nonisolated let consumption: ClientStream
    /// The stream that the last events came on.
    private nonisolated let stream = NIOLockedValueBox<UInt64>(0)
    private var iterator: ClientItems?

    init(_ consumption: ClientStream) {
        self.consumption = consumption
        iterator = consumption.makeItems()
    }

    func next() async throws(MartletError) -> WorkerItem? {
        guard var taken = iterator.take() else { return nil }
        defer { iterator = taken }
        switch try await taken.next() {
        case .assigned(let slots): return .assigned(slots)
        case .revoked(let slots): return .revoked(slots)
        case .events(let events):
            if let last = events.last { stream.withLockedValue { $0 = last.delivery.stream } }
            return .events(events.map { WorkerEvent($0) })
        case .committed(let slot, let checkpoint): return .committed(slot: slot, checkpoint)
        case .stopped(let slot, let reason): return .stopped(slot: slot, reason: reason)
        case .paused(let isPaused): return .paused(isPaused)
        case nil: return nil
        }
    }

    nonisolated func say(_ reply: WorkerReply) {
        let stream = stream.withLockedValue { $0 }
        switch reply {
        case .acknowledge(let number, upTo: false):
            consumption.acknowledge(ConsumerDelivery(stream: stream, number: number))
        case .acknowledge(let number, upTo: true):
            consumption.acknowledge(upTo: ConsumerDelivery(stream: stream, number: number))
        case .reject(let number, let failure, let reason):
            let rejection: ConsumerRejection =
                switch failure {
                case .retry(let millis): .retry(after: millis.map { .milliseconds($0) })
                case .park: .park
                case .stop: .stop
                }
            consumption.reject(ConsumerDelivery(stream: stream, number: number), rejection, reason: reason)
        case .alive: break
        }
    }

    func leave() { iterator = nil }
}

extension WorkerEvent {
    fileprivate init(_ consumed: ConsumedEvent) {
        self.init(
            event: consumed.event,
            delivery: ConsumeMessage.Delivery(
                number: consumed.delivery.number, slot: consumed.slot, attempt: consumed.attempt,
                mayBeRepeated: consumed.mayBeRepeated, key: consumed.key, isKeyBlocked: consumed.isKeyBlocked))
    }
}
