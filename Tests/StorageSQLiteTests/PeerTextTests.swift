import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOCore
import Testing
@testable import MartletStorageSQLite

/// What peers are told of storage that fails, and what its operator finds in the log.
@Suite struct PeerTextTests {
    /// A store on a file of its own, with an event.
    private func withStore(
        _ body: (EventStore, Bench, CapturedLog, AppendRequest) async throws -> Void
    ) async throws {
        let bench = try Bench(prepares: false)
        let log = CapturedLog()
        let store = EventStore(engine: bench.engine, limits: Limits(), clock: { .now() }, logger: log.logger)
        try store.start()
        let request = try AppendRequest.sample(tenant: bench.tenant)
        _ = try await store.append(request)
        let tenant = bench.tenant
        _ = try await store.read(for: tenant) { reader throws(StorageError) in try reader.head(of: tenant) }
        do { try await body(store, bench, log, request) } catch {
            await store.shutDown()
            throw error
        }
        await store.shutDown()
    }

    private func check(
        _ reason: Reason, _ logged: String, _ bench: Bench, _ log: CapturedLog,
        sourceLocation: SourceLocation = #_sourceLocation,
        _ call: () async throws(MartletError) -> Void
    ) async {
        do throws(MartletError) {
            try await call()
            Issue.record("it went through", sourceLocation: sourceLocation)
        } catch {
            #expect(error.reason == reason, "\(error)", sourceLocation: sourceLocation)
            let leaks = PeerTexts.leaks(in: error, secrets: [bench.path, "m.db"])
            #expect(leaks == [], "\(error)", sourceLocation: sourceLocation)
            #expect(
                log.lines.contains { $0.contains(logged) }, "\(logged) is not in \(log.lines)",
                sourceLocation: sourceLocation)
        }
    }

    private func append(_ store: EventStore, _ bench: Bench) async throws(MartletError) {
        guard let request = try? AppendRequest.sample(tenant: bench.tenant) else { return }
        _ = try await store.append(request)
    }

    private func readAll(_ store: EventStore, _ bench: Bench) async throws(MartletError) {
        let tenant = bench.tenant
        _ = try await store.read(for: tenant) { reader throws(StorageError) in
            try reader.page(
                of: tenant, positions: PageRange(after: .start, to: Position(1)), filter: .all,
                bounds: PageBounds(bytesMax: 1 << 20))
        }
    }

    @Test func aFileThatIsGoneOrReplaced() async throws {
        try await withStore { store, bench, log, _ in
            try FileManager.default.moveItem(atPath: bench.path, toPath: bench.path + ".moved")
            await check(.storageUnavailable, "\(bench.path) is gone", bench, log) { () async throws(MartletError) in
                try await append(store, bench)
            }
            await check(.storageUnavailable, "read failed", bench, log) { () async throws(MartletError) in
                try await readAll(store, bench)
            }
            try Data().write(to: URL(fileURLWithPath: bench.path))
            await check(.storageUnavailable, "was replaced", bench, log) { () async throws(MartletError) in
                try await append(store, bench)
            }
        }
    }

    @Test func aDiskThatIsFullOrFails() async throws {
        for (fault, reason, logged) in [
            (FaultyDisk.Fault.full, Reason.storageFull, "full"), (.readOnly, .storageUnavailable, "readonly"),
            (.sync, .outcomeUnknown, "I/O"),
        ] {
            try await withStore { store, bench, log, _ in
                FaultyDisk.fail(bench.path, fault)
                defer { FaultyDisk.fail(bench.path, nil) }
                await check(reason, logged, bench, log) { () async throws(MartletError) in
                    try await append(store, bench)
                }
                let change = TenantChange.putSettings(
                    PutSettingsRequest(
                        tenant: bench.tenant, kind: .snapshotPolicies, document: ByteBuffer(string: "{}")))
                await check(fault == .sync ? .storageUnavailable : reason, "commit failed", bench, log) {
                    () async throws(MartletError) in _ = try await store.apply(change)
                }
            }
        }
    }

    @Test func aDamagedFile() async throws {
        try await withStore { store, bench, log, request in
            try RawDatabase(bench.path).run("UPDATE blocks SET entries = zeroblob(length(entries))")
            await check(.storageCorrupted, "a block of tenant", bench, log) { () async throws(MartletError) in
                try await readAll(store, bench)
            }
            await check(.storageCorrupted, "no block holds event", bench, log) { () async throws(MartletError) in
                _ = try await store.append(request)
            }
        }
    }

    @Test func aReadThatFailsAgainAndAgainDoesNotFillTheLog() async throws {
        try await withStore { store, bench, log, _ in
            try FileManager.default.moveItem(atPath: bench.path, toPath: bench.path + ".moved")
            let startedAt = ContinuousClock.now
            for _ in 0..<2_000 { try? await readAll(store, bench) }
            let seconds = (ContinuousClock.now - startedAt) / .seconds(1)
            let lines = log.lines.count { $0.contains("read failed") }
            #expect(lines >= 1 && Double(lines) <= 10 * (seconds + 1), "\(lines) lines in \(seconds) s")
        }
    }
}
