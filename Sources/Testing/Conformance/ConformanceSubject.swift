public import MartletModel

/// What the conformance suite is run against: an engine under the server's own service, or a server behind a client.
public protocol ConformanceSubject: Sendable {
    /// Appends; refusals are errors with their details.
    func append(_ request: AppendRequest) async throws(MartletError) -> AppendReceipt
    /// Loads all that is asked for.
    func load(_ request: LoadRequest) async throws(MartletError) -> (view: LoadView, events: [RecordedEvent])
    /// Reads all that is asked for.
    func read(_ request: ReadRequest) async throws(MartletError) -> (view: ReadView, events: [RecordedEvent])
    /// A tenant's head.
    func head(of tenant: TenantID) async throws(MartletError) -> TenantHead
    /// Saves a snapshot.
    func saveSnapshot(_ request: SaveSnapshotRequest) async throws(MartletError) -> SaveSnapshotReceipt
    /// The newest usable snapshot.
    func loadSnapshot(_ request: LoadSnapshotRequest) async throws(MartletError) -> LoadedSnapshot
    /// What snapshots there are, newest first.
    func listSnapshots(of aggregate: AggregateName, tenant: TenantID) async throws(MartletError) -> [SnapshotInfo]
    /// Deletes snapshots; how many there were.
    func deleteSnapshots(_ request: DeleteSnapshotsRequest) async throws(MartletError) -> Int
    /// Replaces settings; their revision now.
    func putSettings(_ request: PutSettingsRequest) async throws(MartletError) -> UInt64
    /// The settings of one kind.
    func settings(_ kind: SettingsKind, tenant: TenantID) async throws(MartletError) -> SettingsDocument
    /// Hands each message of a subscription to `take`, one after the other, until it returns false.
    func subscribe(
        _ request: SubscribeRequest, _ take: @escaping @Sendable (FollowedItem) async throws -> Bool
    ) async throws

    /// Makes a consumer, or replaces its definition.
    func putConsumer(_ request: PutConsumerRequest) async throws(MartletError) -> PutConsumerReceipt
    /// How a consumer is.
    func consumer(_ consumer: ConsumerID) async throws(MartletError) -> ConsumerDescription
    /// All consumers of a tenant, by name.
    func consumers(of tenant: TenantID) async throws(MartletError) -> [ListedConsumer]
    /// Deletes a consumer.
    func deleteConsumer(_ consumer: ConsumerID) async throws(MartletError)
    /// Has a consumer begin again, or says what would come again.
    func resetConsumer(_ request: ResetConsumerRequest) async throws(MartletError) -> ResetConsumerReceipt
    /// A page of a consumer's blocked keys.
    func blockedKeys(_ request: ListBlockedKeysRequest) async throws(MartletError) -> [ListedKey]
    /// Has blocked keys tried again; how many.
    func unblockKeys(_ request: UnblockKeysRequest) async throws(MartletError) -> Int
    /// Waits until a consumer has come to a position, at most so long; how far it has come.
    func awaitConsumer(_ request: AwaitConsumerRequest, timeout: Duration) async throws(MartletError) -> Position
    /// Works on a consumer, until the worker leaves or is let go of.
    func consume(_ request: ConsumeRequest) -> any ConformanceWorker

    /// Sets and cancels schedules; what became of each change.
    func changeSchedules(_ request: ChangeSchedulesRequest) async throws(MartletError) -> [ScheduleChanged]
    /// A page of a tenant's schedules.
    func schedules(_ request: ListSchedulesRequest) async throws(MartletError) -> [ListedSchedule]
}

/// A worker of a consumer, as a clause sees it. It says by itself that it is there.
public protocol ConformanceWorker: AnyObject, Sendable {
    /// The next item; nil where the stream has ended, or the task is cancelled.
    /// - Throws: what ended the stream; once.
    func next() async throws(MartletError) -> WorkerItem?
    /// Says what became of deliveries.
    func say(_ reply: WorkerReply)
    /// Ends the stream.
    func leave() async
}

/// What a worker got.
public enum WorkerItem: Sendable {
    /// It has these slots from now on.
    case assigned([ConsumeMessage.Slot])
    /// It no longer has these slots.
    case revoked([Int])
    /// Events to handle.
    case events([WorkerEvent])
    /// What is stored of a slot has come to that checkpoint.
    case committed(slot: Int, Checkpoint)
    /// A slot delivers nothing more, for that reason.
    case stopped(slot: Int, reason: String)
    /// The consumer is paused, or goes on.
    case paused(Bool)
}

/// An event that a worker is to handle.
public struct WorkerEvent: Hashable, Sendable {
    /// The event.
    public var event: RecordedEvent
    /// How it is delivered.
    public var delivery: ConsumeMessage.Delivery

    /// An event that is delivered so.
    public init(event: RecordedEvent, delivery: ConsumeMessage.Delivery) {
        self.event = event
        self.delivery = delivery
    }
}

/// What a subscription brought.
public enum FollowedItem: Sendable {
    /// Events, and the head that came with them.
    case events([RecordedEvent], head: TenantHead)
    /// A signal, and the head that came with it.
    case signal(SubscriptionMessage.Signal, head: TenantHead)
}

/// A sentence of the contract, and the proof of it.
public struct ConformanceClause: Sendable, CustomStringConvertible {
    /// Its name, as in `append.exact`.
    public let id: String
    /// The sentence.
    public let sentence: String
    let run: @Sendable (inout Scenario) async throws -> Void

    init(_ id: String, _ sentence: String, _ run: @escaping @Sendable (inout Scenario) async throws -> Void) {
        self.id = id
        self.sentence = sentence
        self.run = run
    }

    /// The name.
    public var description: String { id }

    /// Proves the clause, in tenants of its own.
    /// - Parameter patience: how long a clause about consumers waits for what must come.
    /// - Throws: ``ConformanceFailure`` where it does not hold.
    public func check(
        _ subject: any ConformanceSubject, random: SeededGenerator, patience: Duration = .seconds(60)
    ) async throws {
        var scenario = Scenario(subject: subject, random: random, patience: patience)
        do {
            try await run(&scenario)
        } catch {
            throw ConformanceFailure("\(id), seed \(random.seed): \(error) — \(sentence)")
        }
    }
}

/// A clause that does not hold.
public struct ConformanceFailure: Error, CustomStringConvertible {
    /// Which, and why.
    public var description: String

    init(_ description: String) { self.description = description }
}

/// The contract of DESIGN, sentence by sentence.
public enum ConformanceSuite {
    /// Every clause.
    public static let clauses: [ConformanceClause] =
        appendClauses + replayClauses + loadClauses + readClauses + subscribeClauses + snapshotClauses + upcastClauses
        + raceClauses + workersClauses + scheduleClauses

    /// The clauses about consumers and their workers, which hold on a worker's stream over many tenants as well.
    public static let workersClauses: [ConformanceClause] =
        consumerClauses + consumerPlaceClauses + workerClauses + settlementClauses + blockedKeyClauses + reactionClauses
}

func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
    if !condition { throw ConformanceFailure(message()) }
}

func requireEqual<Value: Equatable>(_ found: Value, _ expected: Value, _ what: String) throws {
    try require(found == expected, "\(what) is \(found), expected \(expected)")
}
