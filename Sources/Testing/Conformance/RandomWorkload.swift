import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletStorageMemory
import NIOCore

/// Random appends against a subject and against the oracle: every answer the same, but for the time.
enum RandomWorkload {
    static func run(_ s: inout Scenario) async throws {
        let oracle = MemoryEngine().makeWriter()
        let names = [s.aggregate("a"), s.aggregate("a"), s.aggregate("b")]
        var sent: [AppendRequest] = []
        for round in 0..<150 {
            let request = try next(names, sent, &s)
            sent.append(request)
            let expected = try oracle.commit([request], now: Timestamp(microseconds: 0)).outcomes[0]
            let found: WriteOutcome
            do throws(MartletError) {
                found = .appended(try await s.subject.append(request))
            } catch {
                switch error.reason {
                case .versionConflict: found = .versionConflict(error.conflicts)
                case .eventIDReused: found = .eventIDsReused(error.reusedEventIDs)
                default: throw error
                }
            }
            try requireEqual(timeless(found), timeless(expected), "the answer of round \(round)")
        }
    }

    /// A new call, an old one again, or an old one with something changed.
    private static func next(
        _ names: [AggregateName], _ sent: [AppendRequest], _ s: inout Scenario
    ) throws -> AppendRequest {
        let kind = Int.random(in: 0..<10, using: &s.random)
        if kind < 2, let old = sent.randomElement(using: &s.random) { return old }
        if kind < 4, var old = sent.randomElement(using: &s.random) {
            let change = Int.random(in: 0..<3, using: &s.random)
            if change == 0 { old.aggregates.reverse() }
            if change == 1 { old.aggregates[0].events += try s.events(1) }
            if change == 2 {
                old.aggregates[0].events[0] = try s.event(id: old.aggregates[0].events[0].id, payload: "77")
            }
            return old
        }
        var parts: [AggregateAppend] = []
        for name in names.shuffled(using: &s.random).prefix(Int.random(in: 1...3, using: &s.random)) {
            let expected: ExpectedVersion =
                switch Int.random(in: 0..<6, using: &s.random) {
                case 0: .none
                case 1: .exists
                case 2: .exact(Version(UInt64.random(in: 0...6, using: &s.random)))
                default: .any
                }
            parts.append(
                AggregateAppend(
                    aggregate: name, expected: expected, events: try s.events(Int.random(in: 1...3, using: &s.random))))
        }
        return AppendRequest(tenant: s.tenant, aggregates: parts)
    }

    private static func timeless(_ outcome: WriteOutcome) -> WriteOutcome {
        guard case .appended(var receipt) = outcome else { return outcome }
        receipt.recordedAt = Timestamp(microseconds: 0)
        return .appended(receipt)
    }
}
