import FoundationEssentials
import MartletModel
public import MartletStorage
import MartletStorageMemory
import NIOCore

/// Random batches of commands for an engine and for the oracle: each must come to the same, and leave the same behind.
///
/// Appends, with and without snapshots, expected versions that hold and that do not, repeated calls and ids that are used
/// again, reactions to a consumer's events; snapshots that are saved, not worth keeping, beyond their aggregate, and
/// deleted; settings that are put, deleted, and expected at another revision; consumers with all that is done to them
/// (``ConsumerWorkload``); schedules, and events whose time has come (``ScheduleWorkload``); of new tenants and old ones, in
/// one batch.
public struct WriteComparison {
    /// Gives the same batches again.
    public let seed: UInt64
    private var random: SeededGenerator
    private let oracle = MemoryEngine()
    private let tenants = (0..<4).map { _ in TenantID(UUID()) }
    private let names = ["order", "order", "customer"].map { AggregateName.new($0) }
    private var appends: [AppendRequest] = []
    private var consumers = ConsumerWorkload()
    private var schedules = ScheduleWorkload()
    private var micros: Int64 = 1_000_000

    /// A comparison that has written nothing yet.
    public init() {
        random = .fromEnvironment()
        seed = random.seed
    }

    /// Writes so many batches.
    /// - Parameter writer: called for each batch, which need not always get the same writer.
    /// - Throws: ``ConformanceFailure`` naming the seed and the first batch that came to something else.
    public mutating func write(batches: Int, with writer: () -> any StorageWriter) throws {
        let oracle = oracle.makeWriter()
        for number in 0..<batches {
            let batch = try (0..<Int.random(in: 1...6, using: &random)).map { _ in try command() }
            micros += Int64.random(in: -3...10, using: &random)
            let now = Timestamp(microseconds: micros)
            let expected = try oracle.commit(batch, now: now)
            let result = try writer().commit(batch, now: now)
            consumers.note(batch, expected.outcomes)
            guard result.outcomes == expected.outcomes else {
                let first = batch.indices.first { result.outcomes[$0] != expected.outcomes[$0] } ?? 0
                throw ConformanceFailure(
                    "seed \(seed), batch \(number): command \(first) of \(batch.map(\.summary)) came to "
                        + "\(result.outcomes[first]) instead of \(expected.outcomes[first])")
            }
            let runs = Set(result.runs.map { $0.head.position.rawValue }).symmetricDifference(
                expected.runs.map { $0.head.position.rawValue })
            guard runs.isEmpty, result.runs.count == expected.runs.count else {
                throw ConformanceFailure("seed \(seed), batch \(number): other events were committed")
            }
        }
    }

    /// Reads all that was left behind.
    /// - Throws: ``ConformanceFailure`` naming the seed and what differs.
    public func check(_ reader: any StorageReader) throws {
        let oracle = oracle.makeReader()
        func same<Value: Equatable>(_ what: String, _ body: (any StorageReader) throws -> Value) throws {
            let (found, expected) = (try body(reader), try body(oracle))
            guard found == expected else {
                throw ConformanceFailure("seed \(seed): \(what) is \(found) instead of \(expected)")
            }
        }
        try same("where the tenants stand") { try $0.tenantStates(of: tenants) }
        let due = DueQuestion(
            now: Timestamp(microseconds: micros), patienceMicros: 0, tenantsMax: 100, countPerTenantMax: 100,
            bytesMax: 1 << 20)
        try same("which schedules are due") {
            Dictionary(grouping: try $0.dueSchedules(due).schedules, by: \.tenant)
        }
        try same("when the next schedule is due") { try $0.dueSchedules(due).next }
        for name in Set(tenants.flatMap { ConsumerWorkload.ids(of: $0).map(\.name) }) {
            for scope in [TenantScope.all, .only(Set(tenants.prefix(2)))] {
                try same("who has a consumer \(name) of \(scope)") {
                    try $0.tenants(withConsumer: name, in: scope, after: nil, countMax: 100)
                }
            }
        }
        for tenant in tenants {
            for isParkedOnly in [false, true] {
                try same("the schedules of \(tenant), parked only: \(isParkedOnly)") {
                    try $0.schedules(of: tenant, after: nil, isParkedOnly: isParkedOnly, countMax: 100)
                }
            }
            try same("the settings of \(tenant)") { try $0.settings(of: tenant) }
            try same("the log of \(tenant)") { try $0.events(of: tenant) }
            for id in ConsumerWorkload.ids(of: tenant) {
                try same("the group \(id)") { try $0.group(id)?.withoutTimes }
            }
            try same("the consumers of \(tenant)") { try $0.consumers(of: tenant, after: nil, countMax: 100) }
            for id in ConsumerWorkload.ids(of: tenant) { try checkConsumer(id, same) }
            for name in names {
                try same("the list of snapshots of \(name)") { try $0.snapshots(of: name, in: tenant) }
                for info in try oracle.snapshots(of: name, in: tenant) {
                    try same("the snapshot \(info.version) of \(name)") {
                        try $0.snapshot(of: name, in: tenant, at: info.version)
                    }
                }
            }
        }
    }

    private func checkConsumer(
        _ id: ConsumerID, _ same: (String, (any StorageReader) throws -> [StoredBlockedKey]) throws -> Void
    ) throws {
        try same("what is blocked of \(id)") { try $0.blockedKeys(of: id, slot: nil, after: nil, countMax: 100) }
        try same("what was blocked last of \(id)") { [try $0.lastBlockedKey(of: id)].compactMap { $0 } }
        for key in try oracle.makeReader().blockedKeys(of: id, slot: nil, after: nil, countMax: 100) {
            let place = BlockedKeyID(slot: SlotID(consumer: id, number: key.slot), key: key.key)
            try same("what is blocked of \(id) behind \(key)") {
                try $0.blockedKeys(of: id, slot: nil, after: place, countMax: 2)
            }
            try same("what is blocked of slot \(key.slot) of \(id)") {
                try $0.blockedKeys(of: id, slot: key.slot, after: place, countMax: 1)
            }
        }
    }

    private mutating func pick<Value>(_ values: [Value]) -> Value {
        values[Int.random(in: 0..<values.count, using: &random)]
    }

    private mutating func command() throws -> WriteCommand {
        let (tenant, name) = (pick(tenants), pick(names))
        switch Int.random(in: 0..<18, using: &random) {
        case 14...:
            return try schedules.command(of: tenant, near: micros, names, oracle.makeReader(), &random)
        case 10...: return .change(.consumer(consumers.change(of: tenant, &random)))
        case 0:
            return .change(
                .saveSnapshot(
                    SaveSnapshotRequest(
                        tenant: tenant, aggregate: name, version: Version(.random(in: 1...12, using: &random)),
                        snapshot: snapshot()), kept: Int.random(in: 1...3, using: &random)))
        case 1:
            let version: Version? = Bool.random(using: &random) ? nil : Version(.random(in: 0...9, using: &random))
            return .change(.deleteSnapshots(DeleteSnapshotsRequest(tenant: tenant, aggregate: name, version: version)))
        case 2, 3:
            let kind: SettingsKind = Bool.random(using: &random) ? .upcasters : .snapshotPolicies
            var request = PutSettingsRequest(
                tenant: tenant, kind: kind,
                document: ByteBuffer(string: pick(["", "{}", "{}" + String(repeating: " ", count: 300)])))
            if Bool.random(using: &random) { request.expectedRevision = .random(in: 0...4, using: &random) }
            return .change(.putSettings(request))
        case 4 where !appends.isEmpty: return .append(pick(appends))
        case 5 where !appends.isEmpty:
            // One of its ids again, with others.
            let stored = pick(appends)
            var events = [stored.aggregates[0].events[0], try .sample()]
            if Bool.random(using: &random) { events.reverse() }
            return .append(.of(events, to: name, tenant: stored.tenant))
        default:
            let expected: ExpectedVersion = pick([
                .any, .any, .any, .none, .exists, .exact(Version(.random(in: 0...9, using: &random))),
            ])
            var request = AppendRequest.of(
                try (0..<Int.random(in: 1...3, using: &random)).map { _ in try .sample() }, to: name, expected,
                tenant: tenant)
            request.aggregates[0].snapshotPolicy = SnapshotPolicy(
                everyEvents: 3, everyBytes: 400, kept: Int.random(in: 1...3, using: &random))
            if Int.random(in: 0..<4, using: &random) == 0 { request.aggregates[0].snapshot = snapshot() }
            if Int.random(in: 0..<3, using: &random) == 0 {
                let stored = try oracle.makeReader().events(of: tenant)
                request.checkpoint = consumers.checkpoint(of: tenant, among: stored, &random)
            }
            if Int.random(in: 0..<4, using: &random) == 0 {
                request.schedules = try schedules.changes(2, near: micros, names, &random)
                request.schedulesMax = Int.random(in: 2...6, using: &random)
            }
            appends.append(request)
            return .append(request)
        }
    }

    private mutating func snapshot() -> NewSnapshot {
        NewSnapshot(
            schemaVersion: .random(in: 1...2, using: &random),
            payload: ByteBuffer(repeating: 0x2E, count: Int.random(in: 1...300, using: &random)))
    }
}

extension StoredGroup {
    /// Until when workers are present goes by each storage's own clock.
    fileprivate var withoutTimes: StoredGroup {
        var group = self
        for name in group.workers.keys { group.workers[name]?.until = Timestamp(microseconds: 0) }
        return group
    }
}

extension WriteCommand {
    fileprivate var summary: String {
        switch self {
        case .append(let request):
            "append of \(request.eventCount) to \(request.aggregates[0].aggregate) of \(tenant)"
                + (request.aggregates[0].snapshot == nil ? "" : " with a snapshot")
                + (request.checkpoint.map { " with \($0)" } ?? "")
                + (request.firing.map { " by \($0)" } ?? "") + (request.hasExtras ? " \(request.schedules)" : "")
        case .change(.saveSnapshot(let request, let kept)):
            "snapshot \(request.version) of \(request.aggregate) of \(tenant), \(kept) kept"
        case .change(.deleteSnapshots(let request)):
            "deletion of snapshot \(request.version?.rawValue ?? 0) of \(request.aggregate) of \(tenant)"
        case .change(.putSettings(let request)):
            "settings \(request.kind) of \(tenant), expected revision \(request.expectedRevision ?? 0)"
        case .change(.schedules(let change)): "\(change.kind) of \(tenant)"
        case .change(.consumer(let change)): "\(change.kind) of \(change.consumer.name) of \(tenant)"
        }
    }
}
