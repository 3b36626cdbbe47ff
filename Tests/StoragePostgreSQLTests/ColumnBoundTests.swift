import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// Numbers near the bounds of the columns, and numbers that no server would write.
@Suite(.blocking, .needsPostgres) struct ColumnBoundTests {
    @Test func theLastPositionIsGivenAndTheCallsBeyondItAreRefusedAlone() throws {
        let bench = try Bench()
        try bench.writer().append(try .sample(tenant: bench.tenant))
        try bench.run("UPDATE tenants SET position = \(Int64.max - 2)")
        let writer = try bench.writer()
        let other = TenantID(UUID())
        let batch = [
            try AppendRequest.sample(3, tenant: bench.tenant), try .sample(2, tenant: bench.tenant),
            try .sample(1, tenant: bench.tenant), try .sample(1, tenant: other),
        ]
        let outcomes = try writer.commit(batch, now: .now()).outcomes
        #expect(outcomes.map { $0.receipt?.lastPosition.rawValue } == [nil, UInt64(Int64.max), nil, 1])
        for outcome in [outcomes[0], outcomes[2]] { #expect("\(outcome)".contains("\(Int64.max)"), "\(outcome)") }
        #expect(try writer.append(batch[1])?.replayed == true)
        // By what is remembered as well.
        for _ in 0..<3 { #expect(try writer.append(try .sample(tenant: bench.tenant)) == nil) }
    }

    /// SQL that plants what no server wrote.
    static let planted = [
        "UPDATE tenants SET position = -1", "UPDATE tenants SET position = 9223372036854775807",
        "UPDATE tenants SET settings_revision = -1", "UPDATE tenants SET settings_revision = 9223372036854775807",
        "UPDATE tenants SET aggregate_count = -1", "UPDATE tenants SET aggregate_count = 9223372036854775807",
        "UPDATE tenants SET changes = 9223372036854775807", "UPDATE tenants SET changes = -1",
        "UPDATE aggregates SET snapshot_version = -1", "UPDATE aggregates SET snapshot_bytes = -1",
        "UPDATE snapshots SET version = -7", "UPDATE snapshots SET schema_version = -7, checksum = -1",
        "UPDATE events SET position = -position", "UPDATE events SET version = -version",
        "UPDATE events SET position = 9223372036854775807 - position",
        "UPDATE events SET version = 9223372036854775807 - version",
        "UPDATE events SET aggregate_bytes = -1", "UPDATE events SET aggregate_bytes = 9223372036854775807",
        "UPDATE events SET payload_bytes = -1, schema_version = -1", "UPDATE events SET record = ''",
    ]

    /// Nothing that stands in the tables ends the process, whatever is called then: each call is answered or refused.
    @Test(arguments: planted) func plantedNumbersEndNoProcess(_ sql: String) throws {
        let bench = try Bench()
        let name = AggregateName.new()
        let requests = try (0..<4).map { _ in try AppendRequest.sample(2, to: name, tenant: bench.tenant) }
        let before = try bench.writer()
        for request in requests { try before.append(request) }
        let snapshot = NewSnapshot(payload: ByteBuffer(string: "{}"))
        func save(_ version: UInt64) -> TenantChange {
            .saveSnapshot(
                SaveSnapshotRequest(
                    tenant: bench.tenant, aggregate: name, version: Version(version), snapshot: snapshot), kept: 3)
        }
        _ = try before.apply(save(3), now: .now())
        let policies = PutSettingsRequest(
            tenant: bench.tenant, kind: .snapshotPolicies, document: ByteBuffer(string: "{}"))
        _ = try before.apply(.putSettings(policies), now: .now())
        try bench.run(sql)
        let engine = bench.engine()
        let (reader, tenant) = (engine.makeReader(), bench.tenant)
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
        for position in [0, 1, 5, 8, UInt64(Int64.max), .max].map({ Position($0) }) {
            note { () throws(StorageError) in try reader.version(of: name, in: tenant, asOf: position) }
            for bounds in bounds {
                note { () throws(StorageError) in
                    try reader.page(
                        of: tenant, positions: PageRange(after: .start, to: position), filter: .all, bounds: bounds
                    ).count
                }
                note { () throws(StorageError) in
                    try reader.page(
                        of: name, in: tenant, versions: PageRange(after: .none, to: Version(position.rawValue)),
                        bounds: bounds
                    ).count
                }
            }
        }
        for micros in [0, Int64.max] {
            note { () throws(StorageError) in try reader.position(of: tenant, asOf: Timestamp(microseconds: micros)) }
        }
        // By one that remembers what was before, and by one that looks up.
        for writer in [before, try bench.writer()] {
            for request in requests { note { () throws(StorageError) in try writer.append(request) as Any } }
            for _ in 0..<2 {
                var request = try AppendRequest.sample(2, to: name, tenant: tenant)
                request.aggregates[0].snapshot = snapshot
                let made = request
                let plain = try AppendRequest.sample(tenant: tenant)
                note { () throws(StorageError) in try writer.append(plain) as Any }
                note { () throws(StorageError) in try writer.commit([made], now: .now()).outcomes }
                note { () throws(StorageError) in try writer.apply(save(4), now: .now()) }
                note { () throws(StorageError) in try writer.apply(.putSettings(policies), now: .now()) }
                note { () throws(StorageError) in
                    try writer.apply(
                        .deleteSnapshots(DeleteSnapshotsRequest(tenant: tenant, aggregate: name)), now: .now())
                }
            }
        }
        #expect(results.count == 73, "\(results.count) calls were answered")
    }
}
