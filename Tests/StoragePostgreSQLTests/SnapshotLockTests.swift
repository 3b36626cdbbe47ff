import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// A command without events locks only its own rows, and changes nothing that an append is proved by.
@Suite(.blocking, .needsPostgres) struct SnapshotLockTests {
    private static func save(
        _ version: UInt64, of name: AggregateName, in tenant: TenantID, kept: Int = 3, payload: String = "{}"
    ) -> TenantChange {
        .saveSnapshot(
            SaveSnapshotRequest(
                tenant: tenant, aggregate: name, version: Version(version),
                snapshot: NewSnapshot(payload: ByteBuffer(string: payload))), kept: kept)
    }

    /// One server saves and deletes as fast as it can, another one appends to the same aggregates.
    @Test func savesOnOneServerLeaveTheMemoryOfAnotherAlone() async throws {
        let bench = try Bench()
        let names = (0..<5).map { _ in AggregateName.new() }
        let own = try bench.writer()
        for name in names { for _ in 0..<5 { try own.append(.sample(to: name, tenant: bench.tenant)) } }
        let before = own.optimisticCommits
        let isDone = NIOLockedValueBox(false)
        let saving = Threads.start {
            let other = bench.engine().makeWriter()
            var count = 0
            while !isDone.withLockedValue({ $0 }) {
                let name = names[count % names.count]
                if count % 20 == 19 {
                    let delete = DeleteSnapshotsRequest(tenant: bench.tenant, aggregate: name)
                    _ = try other.apply(.deleteSnapshots(delete), now: .now())
                } else {
                    _ = try other.apply(
                        Self.save(UInt64(1 + count % 5), of: name, in: bench.tenant), now: .now())
                }
                count += 1
            }
            return count
        }
        var commits = 0
        let end = ContinuousClock.now + .seconds(2)
        while commits < 200 || ContinuousClock.now < end {
            try own.append(.sample(to: names[commits % names.count], tenant: bench.tenant))
            commits += 1
        }
        isDone.withLockedValue { $0 = true }
        let saves = try saving.value()
        let share = Double(own.optimisticCommits - before) / Double(commits)
        print("\(commits) appends beside \(saves) saves of another server: \(share) of them in one round trip")
        #expect(saves > 50)
        // A connection that was idle for a second is asked first.
        #expect(own.optimisticCommits - before >= commits - 2, "\(share)")
    }

    @Test func aSaveDoesNotWaitForTheTenantsRow() throws {
        let bench = try Bench()
        let name = AggregateName.new()
        let writer = bench.engine().makeWriter()
        try writer.append(.sample(to: name, tenant: bench.tenant))
        let other = try bench.connect()
        try other.run("BEGIN; SELECT 1 FROM \(bench.schema).tenants FOR UPDATE")
        for lockWait in [Duration.zero, .seconds(5)] {
            let result = try writer.commit(
                [.change(Self.save(1, of: name, in: bench.tenant))], now: .now(), lockWait: lockWait)
            #expect(result.lockedTenants.isEmpty)
            guard case .snapshotSaved = result.outcomes[0] else {
                Issue.record("\(result.outcomes)")
                return
            }
        }
        let append = try writer.commit([.append(.sample(to: name, tenant: bench.tenant))], now: .now(), lockWait: .zero)
        #expect(append.lockedTenants == [bench.tenant])
        try other.run("ROLLBACK")
    }

    @Test func aSaveWaitsForItsAggregatesRow() throws {
        let bench = try Bench()
        let (name, free) = (AggregateName.new(), AggregateName.new())
        let writer = bench.engine().makeWriter()
        for name in [name, free] { try writer.append(.sample(to: name, tenant: bench.tenant)) }
        let other = try bench.connect()
        try other.run(
            "BEGIN; SELECT 1 FROM \(bench.schema).aggregates WHERE id = '\(name.id.uuidString)' FOR UPDATE")
        let saves = [name, free].map { WriteCommand.change(Self.save(1, of: $0, in: bench.tenant)) }
        #expect(
            try writer.commit(saves, now: .now(), lockWait: .zero).lockedTenants == [bench.tenant],
            "all of the tenant's commands wait: they are in order")
        let error = refusal { () throws(StorageError) in
            _ = try writer.commit(saves, now: .now(), lockWait: .milliseconds(50))
        }
        #expect(error?.kind == .locked)
        let appended = try writer.append(.sample(to: name, tenant: bench.tenant))
        #expect(appended?.lastPosition == Position(3), "an append is not held up")
        try other.run("ROLLBACK")
        #expect(try writer.commit(saves, now: .now(), lockWait: .zero).lockedTenants.isEmpty)
    }

    /// Servers that save at once keep as many as are to be kept, and the newest.
    @Test func savesOfSeveralServersAreDecidedOneAfterTheOther() async throws {
        let bench = try Bench()
        let name = AggregateName.new()
        try bench.engine().makeWriter().append(.sample(30, to: name, tenant: bench.tenant))
        let random = SeededGenerator.fromEnvironment()
        let saved = try await Threads.race(4) { server in
            var numbers = SeededGenerator(seed: random.seed &+ UInt64(server))
            let writer = bench.engine().makeWriter()
            let reader = bench.engine().makeReader()
            var versions: Set<UInt64> = []
            for _ in 0..<40 {
                let version = UInt64.random(in: 1...30, using: &numbers)
                if Int.random(in: 0..<4, using: &numbers) == 0 {
                    var request = try AppendRequest.sample(to: name, tenant: bench.tenant)
                    request.aggregates[0].snapshot = NewSnapshot(payload: ByteBuffer(string: "{}"))
                    request.aggregates[0].snapshotPolicy.kept = 3
                    guard let receipt = try writer.append(request) else { throw BenchFailure("no receipt") }
                    versions.insert(receipt.aggregates[0].lastVersion.rawValue)
                } else {
                    _ = try writer.apply(Self.save(version, of: name, in: bench.tenant), now: .now())
                    versions.insert(version)
                }
                let kept = try reader.snapshots(of: name, in: bench.tenant)
                guard kept.count <= 3 else { throw BenchFailure("\(kept.count) are kept") }
            }
            return versions
        }
        let newest = saved.reduce(into: Set<UInt64>()) { $0.formUnion($1) }.max()
        let kept = try bench.engine().makeReader().snapshots(of: name, in: bench.tenant)
        #expect(kept.count == 3 && kept.first?.version.rawValue == newest, "seed \(random.seed): \(kept)")
    }
}
