public import MartletModel

/// What the conformance suite is run against: an engine under the server's own store and hub, or a server behind
/// a client.
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
    /// - Throws: ``ConformanceFailure`` where it does not hold.
    public func check(_ subject: any ConformanceSubject, random: SeededGenerator) async throws {
        var scenario = Scenario(subject: subject, random: random)
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
        + raceClauses
}

func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
    if !condition { throw ConformanceFailure(message()) }
}

func requireEqual<Value: Equatable>(_ found: Value, _ expected: Value, _ what: String) throws {
    try require(found == expected, "\(what) is \(found), expected \(expected)")
}
