public import NIOCore

/// What a call asks for, however it travels. Of the cases only an append is not boxed: it is the one that comes by the thousand.
public enum CallRequest: Hashable, Sendable {
    /// Appends events.
    case append(AppendRequest)
    /// Reads one aggregate.
    indirect case load(LoadRequest)
    /// Reads a tenant by position.
    indirect case read(ReadRequest)
    /// Follows a tenant.
    indirect case subscribe(SubscribeRequest)
    /// Asks for a tenant's head.
    case getHead(TenantID)
    /// Asks for the server's status.
    case getStatus
    /// Asks what the server is.
    case getServerInfo
    /// Saves a snapshot.
    indirect case saveSnapshot(SaveSnapshotRequest)
    /// Asks for a snapshot.
    indirect case loadSnapshot(LoadSnapshotRequest)
    /// Asks which snapshots an aggregate has.
    indirect case listSnapshots(TenantID, AggregateName)
    /// Deletes snapshots.
    indirect case deleteSnapshots(DeleteSnapshotsRequest)
    /// Replaces settings.
    indirect case putSettings(PutSettingsRequest)
    /// Asks for settings.
    case getSettings(TenantID, SettingsKind)
    /// Makes a consumer, or replaces its definition.
    indirect case putConsumer(PutConsumerRequest)
    /// Asks how a consumer is.
    indirect case getConsumer(ConsumerID)
    /// Asks which consumers a tenant has.
    indirect case listConsumers(ListConsumersRequest)
    /// Deletes a consumer.
    indirect case deleteConsumer(ConsumerID)
    /// Has a consumer begin again.
    indirect case resetConsumer(ResetConsumerRequest)
    /// Asks which keys of a consumer are blocked.
    indirect case listBlockedKeys(ListBlockedKeysRequest)
    /// Has blocked keys tried again.
    indirect case unblockKeys(UnblockKeysRequest)
    /// Waits until a consumer has come to a position.
    indirect case awaitConsumer(AwaitConsumerRequest)
    /// Works on a consumer.
    indirect case consume(ConsumeRequest)
    /// Works on the consumers of one name of many tenants.
    indirect case consumeTenants(ConsumeTenantsRequest)
    /// Sets and cancels schedules.
    indirect case changeSchedules(ChangeSchedulesRequest)
    /// Asks which schedules a tenant has.
    indirect case listSchedules(ListSchedulesRequest)

    /// The tenant that the call is about; nil for a call about the server, or about many tenants.
    public var tenant: TenantID? {
        switch self {
        case .append(let request): request.tenant
        case .load(let request): request.tenant
        case .read(let request): request.tenant
        case .subscribe(let request): request.tenant
        case .getHead(let tenant): tenant
        case .getStatus, .getServerInfo: nil
        case .saveSnapshot(let request): request.tenant
        case .loadSnapshot(let request): request.tenant
        case .listSnapshots(let tenant, _): tenant
        case .deleteSnapshots(let request): request.tenant
        case .putSettings(let request): request.tenant
        case .getSettings(let tenant, _): tenant
        case .putConsumer(let request): request.consumer.tenant
        case .getConsumer(let consumer), .deleteConsumer(let consumer): consumer.tenant
        case .listConsumers(let request): request.tenant
        case .resetConsumer(let request): request.consumer.tenant
        case .listBlockedKeys(let request): request.consumer.tenant
        case .unblockKeys(let request): request.consumer.tenant
        case .awaitConsumer(let request): request.consumer.tenant
        case .consume(let request): request.consumer.tenant
        case .consumeTenants: nil
        case .changeSchedules(let request): request.tenant
        case .listSchedules(let request): request.tenant
        }
    }
}

extension CallRequest {
    /// Whether the call changes what is stored, or may.
    public var isWrite: Bool {
        switch self {
        case .append, .saveSnapshot, .deleteSnapshots, .putSettings, .putConsumer, .deleteConsumer, .resetConsumer,
            .unblockKeys, .changeSchedules:
            true
        case .load, .read, .subscribe, .getHead, .getStatus, .getServerInfo, .loadSnapshot, .listSnapshots,
            .getSettings, .getConsumer, .listConsumers, .listBlockedKeys, .awaitConsumer, .consume, .consumeTenants,
            .listSchedules:
            false
        }
    }
}

/// What a call answers, however it travels: one message for a unary call, any number for one that streams. Large and
/// rare cases are boxed: a message is passed on many times.
public enum CallMessage: Hashable, Sendable {
    /// The answer to an append.
    case append(AppendReceipt)
    /// A part of the answer to a load: entries (``EventPage/entries``); the view in the first part only.
    indirect case load(ByteBuffer, LoadView?)
    /// A part of the answer to a read: entries (``EventPage/entries``); the view in the first part only.
    indirect case read(ByteBuffer, ReadView?)
    /// The next part of a load needs that much credit, and the call has less.
    case loadWaits(creditBytes: UInt64)
    /// The next part of a read needs that much credit, and the call has less.
    case readWaits(creditBytes: UInt64)
    /// A message of a subscription. `count` does not travel: it is 0 in a frame that came over the wire.
    case subscribe(SubscriptionMessage)
    /// The answer to getHead.
    case head(TenantHead)
    /// The answer to getStatus.
    indirect case serverStatus(ServerStatus)
    /// The answer to getServerInfo.
    indirect case serverInfo(ServerInfo)
    /// The answer to saveSnapshot.
    indirect case snapshotSaved(SaveSnapshotReceipt)
    /// The answer to loadSnapshot.
    indirect case snapshot(LoadedSnapshot)
    /// The answer to listSnapshots.
    case snapshots([SnapshotInfo])
    /// The answer to deleteSnapshots: how many there were.
    case snapshotsDeleted(UInt64)
    /// The answer to putSettings: the revision that they have now.
    case settingsPut(revision: UInt64)
    /// The answer to getSettings.
    indirect case settings(SettingsDocument)
    /// The answer to putConsumer.
    case consumerPut(PutConsumerReceipt)
    /// The answer to getConsumer.
    indirect case consumer(ConsumerDescription)
    /// The answer to listConsumers: at most ``ListConsumersRequest/countMax``; fewer where there are no more.
    case consumers([ListedConsumer])
    /// The answer to deleteConsumer.
    case consumerDeleted
    /// The answer to resetConsumer.
    case consumerReset(ResetConsumerReceipt)
    /// The answer to listBlockedKeys: at most ``ListBlockedKeysRequest/countMax``; fewer where there are no more.
    case blockedKeys([ListedKey])
    /// The answer to unblockKeys: so many of them are tried again.
    case keysUnblocked(UInt64)
    /// The answer to awaitConsumer: everything of the consumer up to there is settled, or belongs to a blocked key.
    case consumerReached(Position)
    /// A message to a worker.
    indirect case consume(ConsumeMessage)
    /// A message to a worker of many tenants' consumers about that one's.
    indirect case consumeOf(TenantID, ConsumeMessage)
    /// The answer to changeSchedules: what became of each change, in their order.
    case schedulesChanged([ScheduleChanged])
    /// The answer to listSchedules: fewer than were asked for where there are no more.
    case schedules([ListedSchedule])
}

/// Which tenants a connection may use.
public enum TenantScope: Hashable, Sendable {
    /// Every tenant: no identity is configured.
    case all
    /// These tenants.
    case only(Set<TenantID>)

    /// Whether the connection may use that tenant.
    public func allows(_ tenant: TenantID) -> Bool {
        switch self {
        case .all: true
        case .only(let tenants): tenants.contains(tenant)
        }
    }
}
