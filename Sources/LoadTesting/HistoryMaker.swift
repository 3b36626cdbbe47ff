import MartletClient
import MartletModel
import MartletSession

/// Appends what a run is going to read, with large batches and a few calls at a time.
struct HistoryMaker: Sendable {
    private static let callsAtOnce = 8
    private static let batchMax = 1_000

    let tenant: TenantID
    let templates: [EventTemplate]
    /// Told how many events are written so far.
    var onProgress: (@Sendable (Int) -> Void)?

    /// Appends this many events to each of the aggregates.
    /// - Throws: the first append that fails.
    func fill(_ aggregates: [AggregateName], events: Int, client: MartletClient) async throws {
        let batch = try await batchEvents(client)
        var written = 0
        try await withThrowingTaskGroup(of: Int.self) { group in
            var left = aggregates[...]
            func start() {
                guard let aggregate = left.popFirst() else { return }
                group.addTask { try await fill(aggregate, events: events, batch: batch, client: client) }
            }
            for _ in 0..<Self.callsAtOnce { start() }
            while let count = try await group.next() {
                written += count
                onProgress?(written)
                start()
            }
        }
    }

    private func fill(_ aggregate: AggregateName, events: Int, batch: Int, client: MartletClient) async throws -> Int {
        var maker = EventMaker(templates)
        var left = events
        while left > 0 {
            let count = min(left, batch)
            let request = AppendRequest(
                tenant: tenant,
                aggregates: [AggregateAppend(aggregate: aggregate, expected: .any, events: maker.events(count))])
            _ = try await client.append(request)
            left -= count
        }
        return events
    }

    /// Events of one append, within the server's limits.
    private func batchEvents(_ client: MartletClient) async throws -> Int {
        let limits = try await client.welcome().limits
        let bytes = templates.map(\.bodyBytes).max() ?? 1
        // A few frames wait at the server at once: they are kept small.
        return max(1, min(Self.batchMax, limits.eventsPerAppendMax, min(limits.frameBytesMax, 1 << 20) / (bytes + 8)))
    }
}

extension HistoryMaker {
    /// Appends this many events, a thousand to each new aggregate.
    func fill(history events: Int, client: MartletClient) async throws {
        let whole = events / 1_000
        var maker = EventMaker(templates)
        func names(_ count: Int) -> [AggregateName] {
            (0..<count).map {
                AggregateName(
                    type: templates.count == 1
                        ? BenchNames.aggregateType : BenchNames.aggregateTypes[$0 % BenchNames.aggregateTypes.count],
                    id: maker.id())
            }
        }
        if whole > 0 { try await fill(names(whole), events: 1_000, client: client) }
        if events % 1_000 > 0 { try await fill(names(1), events: events % 1_000, client: client) }
    }
}
