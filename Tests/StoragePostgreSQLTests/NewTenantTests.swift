import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// A tenant comes into being, or goes, between two statements of a command that changes its snapshots.
@Suite(.blocking, .needsPostgres) struct NewTenantTests {
    private static let snapshot = NewSnapshot(payload: ByteBuffer(string: "{}"))

    /// Holds a command up before its first statement that uses a table, and meanwhile commits that the tenant is there, or
    /// is not.
    /// - Returns: what the command comes to.
    private func outcome(
        of command: TenantChange, heldAt table: String, isThereThen: Bool, _ bench: Bench
    ) throws -> WriteOutcome? {
        let (id, hidden) = (bench.tenant.uuid.uuidString, UUID().uuidString)
        let (now, then) = isThereThen ? (hidden, id) : (id, hidden)
        try bench.run("UPDATE tenants SET id = '\(now)' WHERE id = '\(id)'")
        let engine = bench.engine()
        // To prepare statements takes the tables' locks, too.
        try engine.makeWriter().append(.sample(tenant: TenantID(UUID())))
        let other = try bench.connect()
        try other.run(
            """
            BEGIN; LOCK TABLE \(bench.schema).\(table) IN ACCESS EXCLUSIVE MODE;
            UPDATE \(bench.schema).tenants SET id = '\(then)' WHERE id = '\(now)'
            """)
        let answer = Threads.start {
            try engine.makeWriter().commit([.change(command)], now: .now(), lockWait: .seconds(30)).outcomes
        }
        try bench.waitForSession("wait_event_type = 'Lock'")
        try other.run("COMMIT")
        return try answer.value().first
    }

    @Test func aSaveFindsTheTenantThatAnotherServerHasJustMade() throws {
        let bench = try Bench()
        let name = AggregateName.new()
        try bench.engine().makeWriter().append(.sample(to: name, tenant: bench.tenant))
        let save = SaveSnapshotRequest(
            tenant: bench.tenant, aggregate: name, version: Version(1), snapshot: Self.snapshot)
        let outcome = try outcome(of: .saveSnapshot(save, kept: 3), heldAt: "aggregates", isThereThen: true, bench)
        #expect(outcome == .snapshotSaved(SaveSnapshotReceipt(isKept: true, newestVersion: Version(1))))
        #expect(try bench.engine().makeReader().snapshots(of: name, in: bench.tenant).map(\.version) == [Version(1)])
    }

    /// They were not there yet when what is deleted from was locked.
    @Test func aDeletionFindsTheSnapshotsOfATenantThatAnotherServerHasJustMade() throws {
        let bench = try Bench()
        let name = AggregateName.new()
        var request = try AppendRequest.sample(to: name, tenant: bench.tenant)
        request.aggregates[0].snapshot = Self.snapshot
        try bench.engine().makeWriter().append(request)
        let delete = DeleteSnapshotsRequest(tenant: bench.tenant, aggregate: name)
        let outcome = try outcome(of: .deleteSnapshots(delete), heldAt: "snapshots", isThereThen: true, bench)
        #expect(outcome == .snapshotsDeleted(1))
        #expect(try bench.engine().makeReader().snapshots(of: name, in: bench.tenant).isEmpty)
    }

    /// No program of ours does that; one who restores a database might.
    @Test func aSaveWhoseTenantGoesIsNotCarriedOut() throws {
        let bench = try Bench()
        let name = AggregateName.new()
        try bench.engine().makeWriter().append(.sample(to: name, tenant: bench.tenant))
        let save = SaveSnapshotRequest(
            tenant: bench.tenant, aggregate: name, version: Version(1), snapshot: Self.snapshot)
        let outcome = try outcome(of: .saveSnapshot(save, kept: 3), heldAt: "snapshots", isThereThen: false, bench)
        #expect(outcome == .snapshotBeyondAggregate(.none))
        #expect(try bench.rows("SELECT count(*) FROM snapshots") == [["0"]])
    }
}
