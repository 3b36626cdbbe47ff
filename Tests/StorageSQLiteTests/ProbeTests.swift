import MartletModel
import MartletStorage
import MartletTesting
import Testing
@testable import MartletStorageSQLite

/// The commit of an empty batch: it finds out what a commit with something in it would.
@Suite(.blocking) struct ProbeTests {
    private func probe(_ bench: Bench) -> StorageError? {
        refusal { () throws(StorageError) in
            let result = try bench.writer.commit([], now: .now(), lockWait: .zero)
            if !result.outcomes.isEmpty || !result.runs.isEmpty { throw StorageError(.corrupted, "it has results") }
        }
    }

    @Test func itChangesNothing() throws {
        let bench = try Bench()
        let request = try AppendRequest.sample(3, tenant: bench.tenant)
        #expect(probe(bench) == nil)
        try bench.writer.append(request)
        let marks = ["user_version", "application_id"].map { try? bench.pragma($0) }
        for _ in 0..<3 { #expect(probe(bench) == nil) }
        #expect(["user_version", "application_id"].map { try? bench.pragma($0) } == marks)
        #expect(try bench.holds(request.ids))
        try bench.writer.append(.sample(tenant: bench.tenant))
    }

    @Test(arguments: [
        (FaultyDisk.Fault.full, StorageError.Kind.full), (.readOnly, .unavailable), (.write, .unavailable),
    ])
    func aDiskThatTakesNothingIsFound(_ fault: FaultyDisk.Fault, _ kind: StorageError.Kind) throws {
        let bench = try Bench()
        let request = try AppendRequest.sample(3, tenant: bench.tenant)
        try bench.writer.append(request)
        FaultyDisk.fail(bench.path, fault)
        // Where an append fails in the middle of a commit, its outcome is unknown; so is the probe's.
        for _ in 0..<2 { #expect([kind, .outcomeUnknown].contains(probe(bench)?.kind), "\(fault)") }
        FaultyDisk.fail(bench.path, nil)
        #expect(probe(bench) == nil)
        #expect(try bench.holds(request.ids))
    }

    @Test func itIsSynced() throws {
        let bench = try Bench()
        try bench.writer.append(.sample(tenant: bench.tenant))
        FaultyDisk.fail(bench.path, .sync)
        #expect(probe(bench)?.kind == .outcomeUnknown)
        FaultyDisk.fail(bench.path, nil)
        #expect(probe(bench)?.kind == .unavailable, "nothing is written after a sync that failed")
    }
}
