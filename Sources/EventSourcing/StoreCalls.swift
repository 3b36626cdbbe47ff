import MartletClient
import MartletModel
import NIOConcurrencyHelpers

/// What a repository needs of a client: the seam at which tests put faults in.
protocol StoreCalls: Sendable {
    func load(_ request: LoadRequest) async throws(MartletError) -> EventStream<LoadView>
    func append(_ parts: [NewAggregateEvents], tenant: TenantID) async throws(MartletError) -> AppendReceipt
    func save(_ request: SaveSnapshotRequest) async throws(MartletError) -> SaveSnapshotReceipt
}

/// The client.
struct ClientCalls: StoreCalls {
    let client: MartletClient

    func load(_ request: LoadRequest) async throws(MartletError) -> EventStream<LoadView> {
        try await client.load(request)
    }

    func append(_ parts: [NewAggregateEvents], tenant: TenantID) async throws(MartletError) -> AppendReceipt {
        try await client.append(parts, tenant: tenant, includeConflictingEvents: true)
    }

    func save(_ request: SaveSnapshotRequest) async throws(MartletError) -> SaveSnapshotReceipt {
        try await client.saveSnapshot(request)
    }
}

/// What a repository takes from outside beside the store.
struct RepositoryEnvironment: Sendable {
    var now: Clock = { .now() }
    var sleep: @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) }
    /// From 0 up to 1.
    var random: @Sendable () -> Double = { .random(in: 0..<1) }
}

/// Counts; shared by the copies of a repository.
struct RepositoryCounters: Sendable {
    private let figures = NIOLockedValueBox(RepositoryFigures())

    var now: RepositoryFigures { figures.withLockedValue { $0 } }

    func add(_ count: Int = 1, to figure: WritableKeyPath<RepositoryFigures, UInt64>) {
        figures.withLockedValue { $0[keyPath: figure] += UInt64(clamping: count) }
    }
}
