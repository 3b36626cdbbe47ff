import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStorageSQLite

/// Numbers near the bounds of the file's keys, and numbers that no server would write.
@Suite(.blocking) struct FileBoundTests {
    private static let positionsMax: UInt64 = 1 << 40 - 1
    private static let tenantsMax: Int64 = 1 << 23 - 1

    /// Moves a tenant with one event on, as if it had all events up to that position.
    private func move(_ bench: Bench, to position: UInt64) throws {
        let key = Int64(1) << 40
        try RawDatabase(bench.path).run(
            "UPDATE tenants SET position = \(position), ranged = \(position) WHERE no = 1; "
                + "UPDATE blocks SET key = \(key) + \(position) WHERE key = \(key) + 1")
    }

    @Test func theLastPositionIsGivenAndTheCallsBeyondItAreRefusedAlone() throws {
        let bench = try Bench()
        try bench.writer.append(try .sample(tenant: bench.tenant))
        try move(bench, to: Self.positionsMax - 2)
        let writer = bench.engine.makeWriter()
        let other = TenantID(UUID())
        let batch = [
            try AppendRequest.sample(3, tenant: bench.tenant), try .sample(2, tenant: bench.tenant),
            try .sample(1, tenant: bench.tenant), try .sample(1, tenant: other),
        ]
        let outcomes = try writer.commit(batch, now: .now()).outcomes
        #expect(outcomes.map { $0.receipt?.lastPosition.rawValue } == [nil, Self.positionsMax, nil, 1])
        for outcome in [outcomes[0], outcomes[2]] {
            #expect("\(outcome)".contains("\(Self.positionsMax)"), "\(outcome)")
        }
        // What is stored is answered for ever.
        #expect(try writer.append(batch[1])?.replayed == true)
        #expect(try bench.engine.makeReader().head(of: bench.tenant).position.rawValue == Self.positionsMax)
    }

    @Test func theLastTenantIsMadeAndOthersAreRefusedAlone() throws {
        let bench = try Bench()
        try bench.writer.append(try .sample(tenant: bench.tenant))
        try RawDatabase(bench.path).run(
            "INSERT INTO tenants (no, id, position, recorded_at) VALUES (\(Self.tenantsMax - 1), x'00', 0, 0)")
        let writer = bench.engine.makeWriter()
        let (last, beyond) = (TenantID(UUID()), TenantID(UUID()))
        let outcomes = try writer.commit(
            [
                try .sample(tenant: last), try .sample(tenant: beyond), try .sample(tenant: bench.tenant),
                try .sample(tenant: last),
            ], now: .now()
        ).outcomes
        #expect(outcomes.map { $0.receipt?.lastPosition.rawValue } == [1, nil, 2, 2])
        #expect("\(outcomes[1])".contains("\(Self.tenantsMax)"), "\(outcomes[1])")
        let settings = PutSettingsRequest(
            tenant: beyond, kind: .snapshotPolicies, document: ByteBuffer(string: "{}"))
        let change = try writer.apply(.putSettings(settings), now: .now())
        #expect("\(change)".contains("\(Self.tenantsMax)"), "\(change)")
        #expect(try writer.append(try .sample(tenant: last))?.lastPosition == Position(3))
    }

    /// SQL that plants what no server wrote, where a call then comes by it.
    static let planted = [
        "UPDATE tenants SET position = -1", "UPDATE tenants SET position = 9223372036854775807",
        "UPDATE tenants SET position = 1099511627776, ranged = 1099511627775",
        "UPDATE tenants SET ranged = -5",
        "UPDATE tenants SET ranged = 9223372036854775807, position = 9223372036854775807",
        "UPDATE tenants SET settings_revision = -1", "UPDATE tenants SET settings_revision = 9223372036854775807",
        "UPDATE tenants SET no = 8388608", "UPDATE tenants SET no = -3",
        "UPDATE aggregates SET snapshot_version = -1", "UPDATE aggregates SET snapshot_bytes = -1",
        "UPDATE snapshots SET version = -7", "UPDATE snapshots SET schema_version = -7, checksum = -1",
        "UPDATE event_ids SET position = -1", "UPDATE event_ids SET position = 1099511627776",
        "UPDATE event_ids SET position = 9223372036854775807",
        "UPDATE blocks SET count = -1", "UPDATE blocks SET count = 9223372036854775807",
        "UPDATE blocks SET key = -key", "UPDATE blocks SET key = key - 1099511627776",
        "UPDATE blocks SET key = 9223372036854775807 WHERE key = (SELECT max(key) FROM blocks)",
        "UPDATE ranges SET count = -1", "UPDATE ranges SET count = 9223372036854775807",
        "UPDATE ranges SET position = 0, before = 9223372036854775807", "UPDATE ranges SET position = -4",
        "UPDATE ranges SET position = 9223372036854775807", "UPDATE ranges SET before = -9223372036854775808",
        "UPDATE ranges SET start = -1", "UPDATE ranges SET length = -1",
        "UPDATE ranges SET start = 9223372036854775807, length = 9223372036854775807",
        "UPDATE ranges SET bytes = -1", "UPDATE ranges SET bytes = 9223372036854775807",
        "UPDATE ranges SET last_version = -last_version",
        "UPDATE ranges SET last_version = 9223372036854775807 - last_version",
    ]

    /// Nothing that stands in the file ends the process, whatever is called then: each call is answered or refused.
    @Test(arguments: planted, [false, true])
    func plantedNumbersEndNoProcess(_ sql: String, _ isInTail: Bool) throws {
        let bench = try Bench(rangesHeldMax: isInTail ? 4_096 : 1)
        let name = AggregateName.new()
        let requests = try (0..<4).map { _ in try AppendRequest.sample(2, to: name, tenant: bench.tenant) }
        for request in requests { try bench.writer.append(request) }
        let snapshot = NewSnapshot(payload: ByteBuffer(string: "{}"))
        func save(_ version: UInt64) -> TenantChange {
            .saveSnapshot(
                SaveSnapshotRequest(
                    tenant: bench.tenant, aggregate: name, version: Version(version), snapshot: snapshot), kept: 3)
        }
        _ = try bench.writer.apply(save(3), now: .now())
        let policies = PutSettingsRequest(
            tenant: bench.tenant, kind: .snapshotPolicies, document: ByteBuffer(string: "{}"))
        _ = try bench.writer.apply(.putSettings(policies), now: .now())
        try RawDatabase(bench.path).run(sql)
        let engine = SQLiteEngine(file: DatabaseFile(path: bench.path), logger: .silent)
        let (writer, reader, tenant) = (engine.makeWriter(), engine.makeReader(), bench.tenant)
        let bounds = [Direction.forward, .backward].map { PageBounds(direction: $0, bytesMax: 1 << 16) }
        var results: [String] = []
        func note(_ body: () throws(StorageError) -> Any) {
            do throws(StorageError) { results.append("\(try body())") } catch { results.append("\(error)") }
        }
        note { () throws(StorageError) in try reader.tenantState(of: tenant) }
        note { () throws(StorageError) in try reader.settings(of: tenant) }
        note { () throws(StorageError) in try reader.snapshots(of: name, in: tenant) }
        for version in [1, 3, 8, UInt64(Int64.max), .max].map({ Version($0) }) {
            note { () throws(StorageError) in try reader.snapshot(of: name, in: tenant, at: version) as Any }
            note { () throws(StorageError) in try reader.position(of: version, of: name, in: tenant) as Any }
        }
        for position in [0, 1, 5, 8, 1 << 40, UInt64(Int64.max), .max].map({ Position($0) }) {
            note { () throws(StorageError) in try reader.version(of: name, in: tenant, asOf: position) }
            for bounds in bounds {
                note { () throws(StorageError) in
                    try reader.page(
                        of: tenant, positions: PageRange(after: .start, to: position), filter: .all, bounds: bounds
                    ).count
                }
            }
        }
        for micros in [0, Int64.max] {
            note { () throws(StorageError) in try reader.position(of: tenant, asOf: Timestamp(microseconds: micros)) }
        }
        for (after, to) in [(UInt64(0), UInt64(8)), (1, 3), (0, UInt64(Int64.max)), (7, .max)] {
            for bounds in bounds {
                note { () throws(StorageError) in
                    try reader.page(
                        of: name, in: tenant, versions: PageRange(after: Version(after), to: Version(to)),
                        bounds: bounds
                    ).count
                }
            }
        }
        // A retry, new events with a snapshot, and changes.
        for request in requests { note { () throws(StorageError) in try writer.append(request) as Any } }
        for _ in 0..<2 {
            var request = try AppendRequest.sample(2, to: name, tenant: tenant)
            request.aggregates[0].snapshot = snapshot
            let made = request
            note { () throws(StorageError) in try writer.commit([made], now: .now()).outcomes }
            note { () throws(StorageError) in try writer.apply(save(4), now: .now()) }
            note { () throws(StorageError) in try writer.apply(.putSettings(policies), now: .now()) }
            note { () throws(StorageError) in
                try writer.apply(
                    .deleteSnapshots(DeleteSnapshotsRequest(tenant: tenant, aggregate: name)), now: .now())
            }
        }
        #expect(results.count == 56, "\(results.count) calls were answered")
    }

    /// Blocks of another tenant are never served, where the own ones are gone.
    @Test func aMissingBlockDoesNotBringAnotherTenantsEvents() throws {
        let bench = try Bench()
        try bench.writer.append(try .sample(3, tenant: bench.tenant))
        let other = TenantID(UUID())
        try bench.writer.append(try .sample(2, tenant: other))
        try bench.writer.append(try .sample(2, tenant: other))
        try RawDatabase(bench.path).run("DELETE FROM blocks WHERE key = (2 << 40) + 1")
        let reader = bench.engine.makeReader()
        let error = refusal { () throws(StorageError) in
            _ = try reader.page(
                of: other, positions: PageRange(after: .start, to: Position(4)), filter: .all,
                bounds: PageBounds(bytesMax: 1 << 16))
        }
        #expect(error?.kind == .corrupted, "\(String(describing: error))")
    }
}
