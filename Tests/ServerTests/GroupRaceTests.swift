import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletSession
import MartletStorage
import MartletStoragePostgreSQL
import MartletStorageSQLite
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Workers of one consumer over the wire, on one server or two, while events are appended, and workers die, fall silent past
/// their lease and come back, and fail on events. What they do is counted in a table without a key of its own: each event
/// once, each key in order.
@Suite struct GroupRaceTests {
    /// Where workers store what they did, each event in one transaction with the epoch of its slot.
    private final class Table: Sendable {
        struct State {
            var epochs: [Int: UInt64] = [:]
            var last: [UUID: UInt64] = [:]
            /// Of each event that was handled, how often it took effect.
            var effects: [UUID: Int] = [:]
            var refused = 0
            var repeated = 0
            var violations: [String] = []
        }

        let state = NIOLockedValueBox(State())

        /// A worker claims its epoch before it reads.
        func claim(_ slots: [ConsumeMessage.Slot]) {
            state.withLockedValue { state in
                for slot in slots { state.epochs[slot.number] = max(state.epochs[slot.number] ?? 0, slot.epoch) }
            }
        }

        /// - Returns: false where another worker has the slot.
        func handle(_ event: RecordedEvent, slot: Int, epoch: UInt64) -> Bool {
            state.withLockedValue { state in
                guard epoch >= state.epochs[slot] ?? 0 else {
                    state.refused += 1
                    return false
                }
                let (id, version) = (event.aggregate.id, event.version.rawValue)
                let last = state.last[id] ?? 0
                if version <= last {
                    state.repeated += 1
                } else if version == last + 1 {
                    state.last[id] = version
                    state.effects[event.event.id, default: 0] += 1
                } else {
                    state.violations.append("\(id): version \(version) came after \(last)")
                }
                return true
            }
        }
    }

    private static let tenant = TenantID(UUID(high: 4, low: 4))
    private static let eventCount =
        ProcessInfo.processInfo.environment["MARTLET_TEST_GROUP_EVENTS"].flatMap { Int($0) } ?? 600
    private static let lease = 600

    private let consumer: ConsumerID
    private let table = Table()

    init() throws { consumer = ConsumerID(tenant: Self.tenant, name: try #require(ConsumerName("effects"))) }

    private static var limits: Limits {
        var limits = Limits()
        limits.consumerLeaseMillis = lease
        return limits
    }

    @Test func oneServerOnSQLite() async throws {
        let folder = try TemporaryFolder()
        try await TestServer.with(
            SQLiteEngine(path: folder.path + "/m.db", logger: .silent), limits: Self.limits
        ) { server in try await race([server]) }
    }

    @Test(.enabled(if: PostgresTestDatabase.isAvailable, "MARTLET_TEST_POSTGRES names no database"))
    func twoServersOnPostgreSQL() async throws {
        let database = try PostgresTestDatabase()
        @Sendable func engine() -> PostgreSQLEngine {
            PostgreSQLEngine(
                connectionString: database.url, schema: database.schema, writers: 2, readers: 2, logger: .silent)
        }
        try await TestServer.with(engine(), limits: Self.limits) { first in
            try await TestServer.with(engine(), limits: Self.limits) { second in try await race([first, second]) }
        }
    }

    private func race(_ servers: [TestServer]) async throws {
        let random = SeededGenerator.fromEnvironment()
        let control = try await RawPeer.secure(servers[0])
        var definition = ConsumerDefinition(slotCount: 8)
        definition.delivery.acknowledgementTimeout = .seconds(1)
        definition.delivery.backoffMin = .milliseconds(20)
        definition.delivery.triesMax = 1_000
        let put = PutConsumerRequest(consumer, definition)
        try await control.send(ClientFrame(CallID(1), .request(.putConsumer(put))))
        guard case .message(.consumerPut)? = try await control.next()?.body else {
            Issue.record("the consumer was not put")
            return
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<6 {
                group.addTask { try await work(number, servers, seed: random.seed &+ UInt64(number)) }
            }
            try await append(servers, seed: random.seed)
            let start = ContinuousClock.now
            while table.state.withLockedValue({ $0.effects.count }) < Self.eventCount,
                ContinuousClock.now - start < .seconds(600)
            {
                try await Task.sleep(for: .milliseconds(20))
            }
            // Whoever waits for something hears within a lease that it was silent for too long.
            group.cancelAll()
        }
        let state = table.state.withLockedValue { $0 }
        #expect(state.violations.isEmpty, "seed \(random.seed): \(state.violations.prefix(3))")
        #expect(state.effects.count == Self.eventCount && state.effects.values.allSatisfy { $0 == 1 })
        print("group race: \(state.refused) refused by the fence, \(state.repeated) came again")
    }

    private func append(_ servers: [TestServer], seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let keys = (0..<40).map { AggregateName(type: AggregateName.new("account").type, id: UUID(high: 5, low: $0)) }
        var peers: [RawPeer] = []
        for server in servers { peers.append(try await RawPeer.secure(server)) }
        for number in 0..<Self.eventCount {
            let key = keys[Int.random(in: 0..<keys.count, using: &random)]
            let request = AppendRequest.of([try .sample("{}")], to: key, tenant: Self.tenant)
            let peer = peers[number % peers.count]
            try await peer.send(
                ClientFrame(CallID(UInt64(1 + number / peers.count)), .request(.append(request))))
            guard case .message(.append)? = try await peer.next()?.body else {
                throw ConsumeFailure(description: "an append failed")
            }
        }
    }

    private struct ConsumeFailure: Error, CustomStringConvertible {
        var description: String
    }

    /// A worker's lives, one after the other.
    private func work(_ number: Int, _ servers: [TestServer], seed: UInt64) async throws {
        var random = SeededGenerator(seed: seed)
        let name = try #require(WorkerName("worker-\(number)"))
        while !Task.isCancelled {
            let server = servers[Int.random(in: 0..<servers.count, using: &random)]
            guard let peer = try? await RawPeer.secure(server) else { continue }
            try? await live(name, peer, &random)
            peer.close()
        }
    }

    /// One life: until it dies by chance, or the stream ends.
    private func live(_ name: WorkerName, _ peer: RawPeer, _ random: inout SeededGenerator) async throws {
        let call = CallID(1)
        try await peer.send(
            ClientFrame(call, .request(.consume(ConsumeRequest(consumer, worker: name))), creditBytes: 1 << 20))
        var epochs: [Int: UInt64] = [:]
        // Of each aggregate, what it has rejected: what comes after it was on its way before the server heard of that.
        var rejected: [UUID: Version] = [:]
        while !Task.isCancelled, let frame = try await peer.next() {
            guard case .message(.consume(let message)) = frame.body else { return }
            switch message {
            case .assigned(let slots):
                for slot in slots { epochs[slot.number] = slot.epoch }
                table.claim(slots)
            case .revoked(let numbers): for number in numbers { epochs[number] = nil }
            case .events(let entries, let deliveries):
                try await peer.send(ClientFrame(call, .credit(UInt64(entries.readableBytes))))
                var replies: [WorkerReply] = []
                for (event, delivery) in zip(try RecordedEntries.decode(entries), deliveries) {
                    // What it has heard that it lost, it does not touch.
                    guard let epoch = epochs[delivery.slot], event.version <= rejected[event.aggregate.id] ?? .max
                    else { continue }
                    rejected[event.aggregate.id] = nil
                    switch Int.random(in: 0..<120, using: &random) {
                    case 0: return
                    case 1:
                        // It stalls past its lease, and goes on as if nothing had happened.
                        try await Task.sleep(for: .milliseconds(Int64(2 * Self.lease)))
                    case 2...5:
                        rejected[event.aggregate.id] = event.version
                        replies.append(.reject(delivery.number, .retry(afterMillis: 10), reason: "by chance"))
                        continue
                    default: break
                    }
                    if table.handle(event, slot: delivery.slot, epoch: epoch) {
                        replies.append(.acknowledge(delivery.number, upTo: false))
                    }
                }
                if !replies.isEmpty { try await peer.send(ClientFrame(call, .replies(replies))) }
            default: break
            }
        }
    }
}
