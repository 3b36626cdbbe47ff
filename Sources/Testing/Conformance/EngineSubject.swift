public import Logging
public import MartletModel
import MartletRecordCodec
import MartletService
public import MartletStorage
public import NIOCore

/// An engine under the server's own service, in this process, without frames and a network; or a server, over gRPC.
public final class EngineSubject: ConformanceSubject {
    private let service: EventService?
    private let connection: any CallPeer
    private let followsTenants: Bool

    /// A server, over gRPC.
    /// - Parameter followsTenants: workers are on streams over many tenants, which name the one that a clause is about.
    public init(_ peer: GRPCPeer, followsTenants: Bool = false) {
        service = nil
        connection = peer
        self.followsTenants = followsTenants
    }

    /// Starts the engine.
    /// - Parameter followsTenants: workers are on streams over many tenants, which name the one that a clause is about.
    public init(
        _ engine: any StorageEngine, clock: @escaping Clock = Timestamp.now, limits: Limits = Limits(),
        followsTenants: Bool = false, eventLoop: any EventLoop, logger: Logger
    ) throws(MartletError) {
        self.followsTenants = followsTenants
        let service = try EventService.start(
            engine: engine, limits: limits, serverVersion: "test", clock: clock, logger: logger)
        self.service = service
        connection = ServiceConnection(service, on: eventLoop)
        service.startSchedules(on: eventLoop)
    }

    /// Ends its calls and its threads.
    public func shutDown() async {
        await connection.close()
        await service?.shutDown()
    }

    // MARK: Events

    /// Appends under the tenant's policies.
    public func append(_ request: AppendRequest) async throws(MartletError) -> AppendReceipt {
        guard case .append(let receipt) = try await connection.answer(.append(request)) else { throw .noAnswer }
        return receipt
    }

    /// Loads; credit is given back as parts are taken.
    public func load(_ request: LoadRequest) async throws(MartletError) -> (view: LoadView, events: [RecordedEvent]) {
        let call = connection.open(.load(request), creditBytes: Self.creditBytes)
        defer { call.cancel() }
        var view: LoadView?
        var events: [RecordedEvent] = []
        for await part in call.parts {
            switch part {
            case .message(.load(let entries, let opened)):
                view = view ?? opened
                events += Self.decode(entries)
                let snapshotBytes = opened?.snapshot?.payload.readableBytes ?? 0
                call.addCredit(UInt64(entries.readableBytes + snapshotBytes))
            case .message(.loadWaits(let bytes)): call.addCredit(bytes)
            case .message: throw .noAnswer
            case .end(let error):
                guard error == nil, let view else { throw error ?? .noAnswer }
                return (view, events)
            }
        }
        throw .noAnswer
    }

    /// Reads; credit is given back as parts are taken.
    public func read(_ request: ReadRequest) async throws(MartletError) -> (view: ReadView, events: [RecordedEvent]) {
        let call = connection.open(.read(request), creditBytes: Self.creditBytes)
        defer { call.cancel() }
        var view: ReadView?
        var events: [RecordedEvent] = []
        for await part in call.parts {
            switch part {
            case .message(.read(let entries, let opened)):
                view = view ?? opened
                events += Self.decode(entries)
                call.addCredit(UInt64(entries.readableBytes))
            case .message(.readWaits(let bytes)): call.addCredit(bytes)
            case .message: throw .noAnswer
            case .end(let error):
                guard error == nil, let view else { throw error ?? .noAnswer }
                return (view, events)
            }
        }
        throw .noAnswer
    }

    /// A tenant's head.
    public func head(of tenant: TenantID) async throws(MartletError) -> TenantHead {
        guard case .head(let head) = try await connection.answer(.getHead(tenant)) else { throw .noAnswer }
        return head
    }

    /// Follows; credit is given back as messages are taken.
    public func subscribe(
        _ request: SubscribeRequest, _ take: @escaping @Sendable (FollowedItem) async throws -> Bool
    ) async throws {
        let call = connection.open(.subscribe(request), creditBytes: Self.creditBytes)
        defer { call.cancel() }
        for await part in call.parts {
            switch part {
            case .message(.subscribe(let message)):
                // How many they are does not travel.
                if message.entries.readableBytes > 0 {
                    let events = Self.decode(message.entries)
                    guard try await take(.events(events, head: message.head)) else { return }
                    call.addCredit(UInt64(message.entries.readableBytes))
                }
                if let signal = message.signal {
                    guard try await take(.signal(signal, head: message.head)) else { return }
                }
            case .message: throw MartletError.noAnswer
            case .end(let error): throw error ?? .noAnswer
            }
        }
    }

    private static let creditBytes: UInt64 = 1 << 20

    fileprivate static func decode(_ entries: ByteBuffer) -> [RecordedEvent] {
        do throws(RecordFault) { return try RecordedEntries.decode(entries) } catch {
            preconditionFailure("what was encoded here can be decoded: \(error)")
        }
    }

    // MARK: Snapshots and settings

    /// Saves a snapshot under the tenant's policies.
    public func saveSnapshot(_ request: SaveSnapshotRequest) async throws(MartletError) -> SaveSnapshotReceipt {
        guard case .snapshotSaved(let receipt) = try await connection.answer(.saveSnapshot(request)) else {
            throw .noAnswer
        }
        return receipt
    }

    /// The newest usable snapshot.
    public func loadSnapshot(_ request: LoadSnapshotRequest) async throws(MartletError) -> LoadedSnapshot {
        guard case .snapshot(let loaded) = try await connection.answer(.loadSnapshot(request)) else { throw .noAnswer }
        return loaded
    }

    /// What snapshots there are.
    public func listSnapshots(
        of aggregate: AggregateName, tenant: TenantID
    ) async throws(MartletError) -> [SnapshotInfo] {
        guard case .snapshots(let snapshots) = try await connection.answer(.listSnapshots(tenant, aggregate)) else {
            throw .noAnswer
        }
        return snapshots
    }

    /// Deletes snapshots.
    public func deleteSnapshots(_ request: DeleteSnapshotsRequest) async throws(MartletError) -> Int {
        guard case .snapshotsDeleted(let count) = try await connection.answer(.deleteSnapshots(request)) else {
            throw .noAnswer
        }
        return Int(clamping: count)
    }

    /// Replaces settings, and puts them in force.
    public func putSettings(_ request: PutSettingsRequest) async throws(MartletError) -> UInt64 {
        guard case .settingsPut(let revision) = try await connection.answer(.putSettings(request)) else {
            throw .noAnswer
        }
        return revision
    }

    /// The settings of one kind.
    public func settings(
        _ kind: SettingsKind, tenant: TenantID
    ) async throws(MartletError) -> SettingsDocument {
        guard case .settings(let document) = try await connection.answer(.getSettings(tenant, kind)) else {
            throw .noAnswer
        }
        return document
    }
}

// MARK: Consumers

extension EngineSubject {
    /// Makes a consumer, or replaces its definition.
    public func putConsumer(_ request: PutConsumerRequest) async throws(MartletError) -> PutConsumerReceipt {
        guard case .consumerPut(let receipt) = try await connection.answer(.putConsumer(request)) else {
            throw .noAnswer
        }
        return receipt
    }

    /// How a consumer is.
    public func consumer(_ consumer: ConsumerID) async throws(MartletError) -> ConsumerDescription {
        guard case .consumer(let description) = try await connection.answer(.getConsumer(consumer)) else {
            throw .noAnswer
        }
        return description
    }

    /// All consumers of a tenant, page by page.
    public func consumers(of tenant: TenantID) async throws(MartletError) -> [ListedConsumer] {
        var all: [ListedConsumer] = []
        while true {
            let request = ListConsumersRequest(tenant: tenant, after: all.last?.name)
            guard case .consumers(let page) = try await connection.answer(.listConsumers(request)) else {
                throw .noAnswer
            }
            all += page
            guard page.count >= ListConsumersRequest.countMax else { return all }
        }
    }

    /// Deletes a consumer.
    public func deleteConsumer(_ consumer: ConsumerID) async throws(MartletError) {
        guard case .consumerDeleted = try await connection.answer(.deleteConsumer(consumer)) else { throw .noAnswer }
    }

    /// Has a consumer begin again, or says what would come again.
    public func resetConsumer(_ request: ResetConsumerRequest) async throws(MartletError) -> ResetConsumerReceipt {
        guard case .consumerReset(let receipt) = try await connection.answer(.resetConsumer(request)) else {
            throw .noAnswer
        }
        return receipt
    }

    /// A page of a consumer's blocked keys.
    public func blockedKeys(_ request: ListBlockedKeysRequest) async throws(MartletError) -> [ListedKey] {
        guard case .blockedKeys(let keys) = try await connection.answer(.listBlockedKeys(request)) else {
            throw .noAnswer
        }
        return keys
    }

    /// Has blocked keys tried again.
    public func unblockKeys(_ request: UnblockKeysRequest) async throws(MartletError) -> Int {
        guard case .keysUnblocked(let count) = try await connection.answer(.unblockKeys(request)) else {
            throw .noAnswer
        }
        return Int(clamping: count)
    }

    /// Waits until a consumer has come to a position.
    public func awaitConsumer(
        _ request: AwaitConsumerRequest, timeout: Duration
    ) async throws(MartletError) -> Position {
        guard
            case .consumerReached(let position) = try await connection.answer(.awaitConsumer(request), timeout: timeout)
        else { throw .noAnswer }
        return position
    }

    /// Works on a consumer.
    public func consume(_ request: ConsumeRequest) -> any ConformanceWorker {
        guard followsTenants else {
            return EngineWorker(connection.open(.consume(request), creditBytes: Self.creditBytes))
        }
        let call = connection.open(.consumeTenants(request.overTenants), creditBytes: Self.creditBytes)
        return EngineWorker(call, of: request.consumer.tenant)
    }
}

// MARK: Schedules

extension EngineSubject {
    /// Sets and cancels schedules.
    public func changeSchedules(_ request: ChangeSchedulesRequest) async throws(MartletError) -> [ScheduleChanged] {
        guard case .schedulesChanged(let outcomes) = try await connection.answer(.changeSchedules(request)) else {
            throw .noAnswer
        }
        return outcomes
    }

    /// A page of a tenant's schedules.
    public func schedules(_ request: ListSchedulesRequest) async throws(MartletError) -> [ListedSchedule] {
        guard case .schedules(let page) = try await connection.answer(.listSchedules(request)) else {
            throw .noAnswer
        }
        return page
    }
}

/// A worker of a service in this process; its connection says that it is there.
private final class EngineWorker: ConformanceWorker {
    private let call: ServiceCall
    /// Which tenant's consumer it works on, on a stream over many tenants.
    private let tenant: TenantID?

    init(_ call: ServiceCall, of tenant: TenantID? = nil) {
        self.call = call
        self.tenant = tenant
    }

    deinit { call.cancel() }

    func next() async throws(MartletError) -> WorkerItem? {
        for await part in call.parts {
            switch part {
            case .message(.consume(.joined(let tenants))) where tenant != nil:
                guard tenants.count == 1, tenants.first == tenant else { throw .notJoined }
            case .message(.consumeOf(tenant, .left(let error))): throw error
            case .message(.consumeOf(tenant, let message)): if let item = take(message) { return item }
            case .message(.consume(let message)) where tenant == nil: if let item = take(message) { return item }
            case .message: throw .noAnswer
            case .end(let error): throw error ?? .noAnswer
            }
        }
        return nil
    }

    private func take(_ message: ConsumeMessage) -> WorkerItem? {
        switch message {
        case .assigned(let slots): return .assigned(slots)
        case .revoked(let slots): return .revoked(slots)
        case .events(let entries, let deliveries):
            call.addCredit(UInt64(entries.readableBytes))
            let events = EngineSubject.decode(entries)
            precondition(events.count == deliveries.count, "each event has its delivery")
            return .events(zip(events, deliveries).map { WorkerEvent(event: $0, delivery: $1) })
        case .committed(let slot, let checkpoint): return .committed(slot: slot, checkpoint)
        case .stopped(let slot, let reason): return .stopped(slot: slot, reason: reason)
        case .paused(let isPaused): return .paused(isPaused)
        case .waits(let bytes):
            call.addCredit(bytes)
            return nil
        case .joined, .left: preconditionFailure("a tenant's own message")
        }
    }

    func say(_ reply: WorkerReply) { call.say(reply) }

    func leave() { call.cancel() }
}

extension ConsumeRequest {
    /// The same on a stream over many tenants, which names the one.
    var overTenants: ConsumeTenantsRequest {
        ConsumeTenantsRequest(
            consumer.name, of: [consumer.tenant], worker: worker, epochAbove: epochAbove, keepsTime: keepsTime)
    }
}

extension MartletError {
    /// A stream over many tenants has begun without the one that a clause is about: it has no such consumer.
    static let notJoined = MartletError(
        .notFound, reason: .consumerNotFound, message: "the tenant has no consumer of that name")
}
