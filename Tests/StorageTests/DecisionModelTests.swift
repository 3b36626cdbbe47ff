import FoundationEssentials
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing

/// Random batches against the simplest model of the contract: a list of events a tenant, one call at a time.
@Suite struct DecisionModelTests {
    @Test func decidesAsTheModelDoes() throws {
        var random = SeededGenerator.fromEnvironment()
        let seed = random.seed
        var counts = [0, 0, 0, 0]
        for round in 0..<150 {
            var ledger = Ledger()
            var model = Model()
            var history: [AppendRequest] = []
            var now = Timestamp(microseconds: 1_000)
            for _ in 0..<12 {
                now.microseconds += Int64.random(in: -50...100, using: &random)
                let batch = try (0..<Int.random(in: 1...8, using: &random)).map { _ in
                    try request(like: history, using: &random)
                }
                history += batch
                let expected = model.commit(batch, now: now)
                let actual = try ledger.commit(batch, now: now)
                try #require(actual == expected, "seed \(seed), round \(round)")
                for outcome in actual {
                    switch outcome {
                    case .appended(let receipt): counts[receipt.replayed ? 1 : 0] += 1
                    case .versionConflict: counts[2] += 1
                    case .eventIDsReused: counts[3] += 1
                    case .limitReached(let limit): Issue.record("\(limit)")
                    case .refused(let error): Issue.record("nothing keeps it out: \(error)")
                    default: Issue.record("no append comes to \(outcome)")
                    }
                }
            }
            for (tenant, rows) in ledger.rows {
                let times = rows.map(\.recordedAt)
                #expect(times == times.sorted(), "seed \(seed), round \(round)")
                #expect(Set(rows.map(\.id)).count == rows.count, "seed \(seed), round \(round)")
                #expect(
                    rows.map(\.id) == model.tenants[tenant]?.events.map(\.event.id), "seed \(seed), round \(round)")
            }
        }
        #expect(counts.allSatisfy { $0 > 100 }, "seed \(seed): \(counts) outcomes of a kind say little")
    }

    /// A new call, a repeated one, or a repeated one with something changed.
    private func request(
        like history: [AppendRequest], using random: inout SeededGenerator
    ) throws -> AppendRequest {
        if let old = history.randomElement(using: &random), Int.random(in: 0..<3, using: &random) == 0 {
            var request = old
            let index = Int.random(in: 0..<request.aggregates.count, using: &random)
            switch Int.random(in: 0..<9, using: &random) {
            case 0: request.aggregates[index].events.reverse()
            case 1: request.aggregates.reverse()
            case 2 where request.aggregates[index].events.count > 1: request.aggregates[index].events.removeFirst()
            case 3 where request.aggregates.count > 1: request.aggregates.remove(at: index)
            case 4: request.aggregates[index].events.append(try event(new: true, using: &random))
            case 5:
                let number = UInt64.random(in: 0..<4, using: &random)
                if !request.aggregates.contains(where: { $0.aggregate == Sample.aggregate(number) }) {
                    request.aggregates[index].aggregate = Sample.aggregate(number)
                }
            case 6: request.tenant = Sample.tenant(UInt64.random(in: 1...2, using: &random))
            default: break
            }
            return request
        }
        let tenant = UInt64.random(in: 1...2, using: &random)
        var ids: Set<UUID> = []
        let aggregates = (UInt64(0)..<4).shuffled(using: &random).prefix(Int.random(in: 1...3, using: &random))
        let parts = try aggregates.map { aggregate in
            var events: [EncodedEvent] = []
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                var next = try event(new: Int.random(in: 0..<12, using: &random) > 0, using: &random)
                while !ids.insert(next.id).inserted { next = try event(new: true, using: &random) }
                events.append(next)
            }
            let expected: [ExpectedVersion] = [
                .any, .any, .none, .exists, .exact(Version(UInt64.random(in: 0...6, using: &random))),
            ]
            return AggregateAppend(
                aggregate: Sample.aggregate(aggregate), expected: expected.randomElement(using: &random) ?? .any,
                events: events)
        }
        return Sample.request(tenant, parts)
    }

    private func event(new: Bool, using random: inout SeededGenerator) throws -> EncodedEvent {
        try Sample.event(
            new ? random.next() : UInt64.random(in: 0..<12, using: &random),
            ["x", "x", "x", "y"].randomElement(using: &random) ?? "x")
    }

    /// The contract, word for word. It shares no code with the decision: content is compared as bodies, places by
    /// searching the list.
    private struct Model {
        struct Entry {
            var event: EncodedEvent
            var aggregate: AggregateName
            var recordedAt: Timestamp
        }

        struct Tenant {
            var events: [Entry] = []

            func version(_ aggregate: AggregateName, upTo count: Int? = nil) -> Version {
                Version(UInt64(events.prefix(count ?? events.count).count { $0.aggregate == aggregate }))
            }

            func index(of id: UUID) -> Int? { events.firstIndex { $0.event.id == id } }
        }

        var tenants: [TenantID: Tenant] = [:]

        mutating func commit(_ batch: [AppendRequest], now: Timestamp) -> [WriteOutcome] {
            // All that a batch stores for a tenant has one time.
            var times: [TenantID: Timestamp] = [:]
            for request in batch {
                times[request.tenant] = max(now, tenants[request.tenant]?.events.last?.recordedAt ?? now)
            }
            return batch.map { decide($0, at: times[$0.tenant] ?? now) }
        }

        private mutating func decide(_ request: AppendRequest, at time: Timestamp) -> WriteOutcome {
            var tenant = tenants[request.tenant] ?? Tenant()
            let wanted = request.aggregates.flatMap { part in part.events.map { (part.aggregate, $0) } }
            let known = wanted.compactMap { tenant.index(of: $0.1.id) }
            if !known.isEmpty {
                let first = known[0]
                let stretch = tenant.events[first...].prefix(wanted.count)
                let isReplay =
                    stretch.count == wanted.count
                    && zip(stretch, wanted).allSatisfy { $0.aggregate == $1.0 && $0.event == $1.1 }
                if !isReplay {
                    return .eventIDsReused(
                        known.map { index in
                            let entry = tenant.events[index]
                            return ReusedEventID(
                                id: entry.event.id, aggregate: entry.aggregate,
                                version: tenant.version(entry.aggregate, upTo: index + 1),
                                position: Position(UInt64(index) + 1))
                        })
                }
                return .appended(
                    receipt(request, tenant, first: first, time: stretch[first].recordedAt, replayed: true))
            }
            let conflicts = request.aggregates.compactMap { part -> VersionConflict? in
                let actual = tenant.version(part.aggregate)
                let holds =
                    switch part.expected {
                    case .any: true
                    case .none: actual.rawValue == 0
                    case .exists: actual.rawValue > 0
                    case .exact(let version): actual.rawValue == version.rawValue
                    }
                return holds ? nil : .init(aggregate: part.aggregate, expected: part.expected, actual: actual)
            }
            guard conflicts.isEmpty else { return .versionConflict(conflicts) }
            let first = tenant.events.count
            for (aggregate, event) in wanted {
                tenant.events.append(Entry(event: event, aggregate: aggregate, recordedAt: time))
            }
            tenants[request.tenant] = tenant
            return .appended(receipt(request, tenant, first: first, time: time, replayed: false))
        }

        private func receipt(
            _ request: AppendRequest, _ tenant: Tenant, first: Int, time: Timestamp, replayed: Bool
        ) -> AppendReceipt {
            var index = first
            let aggregates = request.aggregates.map { part in
                let firstVersion = tenant.version(part.aggregate, upTo: index + 1)
                index += part.events.count
                return AppendedAggregate(
                    aggregate: part.aggregate, firstVersion: firstVersion,
                    lastVersion: tenant.version(part.aggregate, upTo: index))
            }
            return AppendReceipt(
                aggregates: aggregates, firstPosition: Position(UInt64(first) + 1),
                lastPosition: Position(UInt64(index)),
                recordedAt: time, replayed: replayed)
        }
    }
}
