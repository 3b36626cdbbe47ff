import MartletModel
import MartletTesting

/// A subject with a bug: an acknowledgement of one delivery counts for all before it.
struct GenerousSubject: ConformanceSubject {
    let base: any ConformanceSubject

    func consume(_ request: ConsumeRequest) -> any ConformanceWorker { Worker(base: base.consume(request)) }

    private final class Worker: ConformanceWorker {
        let base: any ConformanceWorker

        init(base: any ConformanceWorker) { self.base = base }

        func next() async throws(MartletError) -> WorkerItem? { try await base.next() }

        func say(_ reply: WorkerReply) {
            if case .acknowledge(let number, _) = reply {
                base.say(.acknowledge(number, upTo: true))
            } else {
                base.say(reply)
            }
        }

        func leave() async { await base.leave() }
    }

    func append(_ request: AppendRequest) async throws(MartletError) -> AppendReceipt {
        try await base.append(request)
    }

    func load(_ request: LoadRequest) async throws(MartletError) -> (view: LoadView, events: [RecordedEvent]) {
        try await base.load(request)
    }

    func read(_ request: ReadRequest) async throws(MartletError) -> (view: ReadView, events: [RecordedEvent]) {
        try await base.read(request)
    }

    func head(of tenant: TenantID) async throws(MartletError) -> TenantHead { try await base.head(of: tenant) }

    func saveSnapshot(_ request: SaveSnapshotRequest) async throws(MartletError) -> SaveSnapshotReceipt {
        try await base.saveSnapshot(request)
    }

    func loadSnapshot(_ request: LoadSnapshotRequest) async throws(MartletError) -> LoadedSnapshot {
        try await base.loadSnapshot(request)
    }

    func listSnapshots(
        of aggregate: AggregateName, tenant: TenantID
    ) async throws(MartletError) -> [SnapshotInfo] {
        try await base.listSnapshots(of: aggregate, tenant: tenant)
    }

    func deleteSnapshots(_ request: DeleteSnapshotsRequest) async throws(MartletError) -> Int {
        try await base.deleteSnapshots(request)
    }

    func putSettings(_ request: PutSettingsRequest) async throws(MartletError) -> UInt64 {
        try await base.putSettings(request)
    }

    func settings(_ kind: SettingsKind, tenant: TenantID) async throws(MartletError) -> SettingsDocument {
        try await base.settings(kind, tenant: tenant)
    }

    func subscribe(
        _ request: SubscribeRequest, _ take: @escaping @Sendable (FollowedItem) async throws -> Bool
    ) async throws {
        try await base.subscribe(request, take)
    }

    func putConsumer(_ request: PutConsumerRequest) async throws(MartletError) -> PutConsumerReceipt {
        try await base.putConsumer(request)
    }

    func consumer(_ consumer: ConsumerID) async throws(MartletError) -> ConsumerDescription {
        try await base.consumer(consumer)
    }

    func consumers(of tenant: TenantID) async throws(MartletError) -> [ListedConsumer] {
        try await base.consumers(of: tenant)
    }

    func deleteConsumer(_ consumer: ConsumerID) async throws(MartletError) { try await base.deleteConsumer(consumer) }

    func resetConsumer(_ request: ResetConsumerRequest) async throws(MartletError) -> ResetConsumerReceipt {
        try await base.resetConsumer(request)
    }

    func blockedKeys(_ request: ListBlockedKeysRequest) async throws(MartletError) -> [ListedKey] {
        try await base.blockedKeys(request)
    }

    func unblockKeys(_ request: UnblockKeysRequest) async throws(MartletError) -> Int {
        try await base.unblockKeys(request)
    }

    func awaitConsumer(_ request: AwaitConsumerRequest, timeout: Duration) async throws(MartletError) -> Position {
        try await base.awaitConsumer(request, timeout: timeout)
    }

    func changeSchedules(_ request: ChangeSchedulesRequest) async throws(MartletError) -> [ScheduleChanged] {
        try await base.changeSchedules(request)
    }

    func schedules(_ request: ListSchedulesRequest) async throws(MartletError) -> [ListedSchedule] {
        try await base.schedules(request)
    }
}
