import FoundationEssentials
import MartletClient
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Settings come into force although the read that was to bring them into force failed.
@Suite struct MissedSettingsTests {
    /// Whoever put them has gone before they were durable, and they are: they come into force without it.
    @Test func subscriptionsGetThemThoughTheCallerHasGone() async throws {
        let engine = HeldCommits(MemoryEngine())
        let tenant = TenantID(UUID())
        let placed = EventType("Placed")
        let upcasters = #"{"upcasters":[{"event":"Placed","from":1,"operations":[{"rename":{"path":"/n","to":"m"}}]}]}"#
        let order = AggregateName.new()
        try await TestServer.with(engine) { server in
            try await server.withClient { client in
                @Sendable func append() async throws {
                    _ = try await client.append(
                        [NewEvent(type: placed, payload: ByteBuffer(string: #"{"n":1}"#))], to: order, expecting: .any,
                        tenant: tenant)
                }
                try await append()
                var items = client.subscribe(SubscribeRequest(tenant: tenant)).makeAsyncIterator()
                var isUnderOldOnes = false
                while !isUnderOldOnes, let item = try await items.next() {
                    if case .events = item { isUnderOldOnes = true }
                }
                engine.holdsChanges(true)
                let request = PutSettingsRequest(
                    tenant: tenant, kind: .upcasters, document: ByteBuffer(string: upcasters))
                let putting = Task { try await client.putSettings(request) }
                while !engine.isHolding { try await Task.sleep(for: .milliseconds(1)) }
                putting.cancel()
                await #expect(throws: MartletError.self) { try await putting.value }
                // The server has heard that nobody waits: a call that it was sent afterwards is answered.
                _ = try await client.head(of: tenant)
                engine.holdsChanges(false)
                while try await client.settings(.upcasters, tenant: tenant).revision == 0 {}
                let appending = Task { while !Task.isCancelled { try await append() } }
                defer { appending.cancel() }
                let deadline = ContinuousClock.now + .seconds(20)
                var isUpcast = false
                while !isUpcast, .now < deadline, let item = try await items.next() {
                    guard case .events(let events, _) = item else { continue }
                    isUpcast = events.contains { $0.event.schemaVersion == 2 }
                }
                #expect(isUpcast, "the subscription goes on under the old ones")
            }
        }
    }

    @Test func subscriptionsGetThemAllTheSame() async throws {
        let engine = FaultyEngine(MemoryEngine())
        let tenant = TenantID(UUID())
        let placed = EventType("Placed")
        let rename = #"{"rename":{"path":"/n","to":"count","required":true}}"#
        let upcasters = #"{"upcasters":[{"event":"Placed","from":1,"operations":[\#(rename)]}]}"#
        let order = AggregateName.new()
        let seen = NIOLockedValueBox(0)
        try await TestServer.with(engine) { server in
            try await server.withClient { client in
                try await withThrowingTaskGroup(of: Bool.self) { group in
                    group.addTask {
                        for try await item in client.subscribe(SubscribeRequest(tenant: tenant)) {
                            guard case .events(let events, _) = item else { continue }
                            seen.withLockedValue { $0 += events.count }
                            if events.contains(where: { $0.event.schemaVersion == 2 }) { return true }
                        }
                        return false
                    }
                    group.addTask {
                        _ = try await client.append(
                            [NewEvent(type: placed, payload: ByteBuffer(string: #"{"n":1}"#))], to: order,
                            expecting: .any, tenant: tenant)
                        // Now it knows the settings of before.
                        while seen.withLockedValue({ $0 }) == 0 { try await Task.sleep(for: .milliseconds(1)) }
                        engine.failReads(count: 1)
                        let request = PutSettingsRequest(
                            tenant: tenant, kind: .upcasters, document: ByteBuffer(string: upcasters))
                        try await client.putSettings(request)
                        for _ in 0..<500 {
                            _ = try await client.append(
                                [NewEvent(type: placed, payload: ByteBuffer(string: #"{"n":1}"#))], to: order,
                                expecting: .any, tenant: tenant)
                            try await Task.sleep(for: .milliseconds(10))
                        }
                        return false
                    }
                    let isFound = try await group.next()
                    #expect(isFound == true, "no event came under the new settings")
                    group.cancelAll()
                }
            }
        }
    }
}

/// An engine whose commits of settings wait until they may go on.
private final class HeldCommits: WrappingEngine {
    let base: any StorageEngine
    private let condition = ConditionLock(value: 0)
    private let holding = NIOLockedValueBox(false)

    init(_ base: MemoryEngine) { self.base = base }

    /// Whether a commit waits.
    var isHolding: Bool { holding.withLockedValue { $0 } }

    func holdsChanges(_ holds: Bool) {
        condition.lock()
        condition.unlock(withValue: holds ? 1 : 0)
    }

    func makeWriter() -> any StorageWriter { Writer(base: base.makeWriter(), engine: self) }

    private func waitWhereItIsHeld(_ batch: [WriteCommand]) {
        guard batch.contains(where: { if case .change = $0 { true } else { false } }) else { return }
        guard condition.value == 1 else { return }
        holding.withLockedValue { $0 = true }
        condition.lock(whenValue: 0)
        condition.unlock()
    }

    private final class Writer: StorageWriter {
        let base: any StorageWriter
        let engine: HeldCommits

        init(base: any StorageWriter, engine: HeldCommits) {
            self.base = base
            self.engine = engine
        }

        func commit(
            _ batch: [WriteCommand], now: Timestamp, lockWait: Duration
        ) throws(StorageError) -> CommitResult {
            engine.waitWhereItIsHeld(batch)
            return try base.commit(batch, now: now, lockWait: lockWait)
        }
    }
}
