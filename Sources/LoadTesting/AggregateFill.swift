import MartletClient
import MartletModel
import MartletSession

/// Writes one event to each aggregate of each tenant before a run, with many aggregates in an append.
struct AggregateFill: Sendable {
    /// The most that is written.
    static let eventsMax = 10_000_000
    private static let callsAtOnceMax = 64
    private static let appendBytesMax = 1 << 20
    /// Bytes of all appends under way: a small part of what a server lets wait for its commits.
    private static let bytesAtOnceMax = 8 << 20
    /// The name of an aggregate and the framing of its event, roughly.
    private static let envelopeBytes = 64

    let tenants: RunTenants
    /// Aggregates of each tenant, by their numbers.
    let aggregates: Int
    let template: EventTemplate
    /// Told about how many events are written so far.
    var onProgress: (@Sendable (Int) -> Void)?

    /// Writes them.
    /// - Throws: the first append that fails.
    func run(_ clients: [MartletClient]) async throws {
        let limits = try await clients[0].welcome().limits
        let eventBytes = template.bodyBytes + Self.envelopeBytes
        let size = max(
            1,
            min(
                aggregates, limits.aggregatesPerAppendMax, limits.eventsPerAppendMax,
                min(limits.frameBytesMax, Self.appendBytesMax) / eventBytes))
        let parts = (aggregates + size - 1) / size
        let calls = parts * tenants.count
        let workers = max(1, min(Self.callsAtOnceMax, calls, Self.bytesAtOnceMax / (size * eventBytes)))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for worker in 0..<workers {
                let client = clients[worker % clients.count]
                group.addTask(executorPreference: client.taskExecutor) {
                    var maker = EventMaker([template])
                    for call in stride(from: worker, to: calls, by: workers) {
                        let (tenant, first) = (call / parts, call % parts * size)
                        try await append(
                            first..<min(first + size, aggregates), of: tenants[tenant], &maker, client: client)
                        // The others are about as far.
                        if worker == 0 { onProgress?(tenant * aggregates + first) }
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    private func append(
        _ numbers: Range<Int>, of tenant: TenantID, _ maker: inout EventMaker, client: MartletClient
    ) async throws {
        let appends = zip(numbers, maker.events(numbers.count)).map { number, event in
            AggregateAppend(aggregate: BenchNames.aggregate(numbered: number), expected: .any, events: [event])
        }
        _ = try await client.append(AppendRequest(tenant: tenant, aggregates: appends))
    }
}
