import FoundationEssentials
import MartletAccess
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTenants
import MartletTesting
import NIOCore
import NIOEmbedded
import Testing

@testable import MartletService

/// What open calls keep of their requests is on the account of their tenants, for as long as they keep it.
@Suite final class OpenCallAccountTests {
    private let tenant = TenantID(UUID())
    private let loop = EmbeddedEventLoop()
    private let transport = Transport()
    private let service: EventService
    private let hands: StorageHands
    private let calls: ConnectionCalls

    /// A connection that takes no bytes: its calls wait.
    private final class Transport: CallTransport {
        let isWritable = false
        var ends: [CallKey: MartletError?] = [:]
        var answers: [CallKey: CallMessage] = [:]

        func send(_ message: CallMessage, of call: CallKey, isLast: Bool) { answers[call] = message }
        func end(_ call: CallKey, _ error: MartletError?) { ends[call] = .some(error) }
        func flush() {}
    }

    init() throws {
        (service, hands) = try EventService.startByHand(
            engine: MemoryEngine(), limits: Limits(), serverVersion: "1", clock: { Timestamp(microseconds: 1) },
            logger: .silent, uptime: { .uptimeNanoseconds(0) })
        calls = ConnectionCalls(service: service, principal: .anybody, transport: transport, eventLoop: loop)
    }

    deinit { service.release() }

    private var pool: FairPool { service.pools.calls }

    /// What a call holds while it is open.
    private func bytes(of request: CallRequest) -> Int {
        transport.ends = [:]
        calls.start(1, request, timeoutMillis: 0, creditBytes: 1)
        defer {
            calls.cancel(1)
            #expect(pool.bytes == 0)
        }
        #expect(transport.ends[1] == nil)
        return pool.bytes(of: .tenant(tenant))
    }

    /// Until storage has nothing to do.
    private func runToRest() {
        repeat { loop.run() } while hands.commitOne() || hands.readOne()
    }

    enum Kind: CaseIterable { case load, loadSnapshot, read, subscribe }

    private func request(
        _ kind: Kind, upcasting: UpcastingOptions = .latest, snapshot: SnapshotUse = SnapshotUse()
    ) -> CallRequest {
        let name = AggregateName.new()
        return switch kind {
        case .load: .load(LoadRequest(tenant: tenant, aggregate: name, snapshot: snapshot, upcasting: upcasting))
        case .loadSnapshot:
            .loadSnapshot(LoadSnapshotRequest(tenant: tenant, aggregate: name, use: snapshot, upcasting: upcasting))
        case .read: .read(ReadRequest(tenant: tenant, upcasting: upcasting))
        case .subscribe: .subscribe(SubscribeRequest(tenant: tenant, upcasting: upcasting))
        }
    }

    @Test(arguments: Kind.allCases) func whereChainsStopCounts(_ kind: Kind) throws {
        let count = service.limits.filterValuesMax
        var options = UpcastingOptions()
        for number in 0..<count {
            let type = try #require(EventType(String(repeating: "t", count: 252) + String(1_000 + number)))
            options.stopAt[type] = 1
        }
        let more = bytes(of: request(kind, upcasting: options)) - bytes(of: request(kind))
        #expect(more >= count * (256 + 64), "\(more) bytes are counted")
    }

    @Test(arguments: [Kind.load, .loadSnapshot]) func theSchemasOfSnapshotsCount(_ kind: Kind) {
        let use = SnapshotUse(schemaVersions: Set(1...UInt32(service.limits.filterValuesMax)))
        let more = bytes(of: request(kind, snapshot: use)) - bytes(of: request(kind))
        #expect(more >= use.schemaVersions.count * 8, "\(more) bytes are counted")
    }

    /// Appends to as many aggregates as one call may, and again, which loses.
    private func lose(beforeItIsDecided: () -> Void = {}) throws {
        let type = try #require(AggregateType(String(repeating: "t", count: 128)))
        let parts = try (0..<service.limits.aggregatesPerAppendMax).map { _ in
            AggregateAppend(aggregate: .init(type: type, id: UUID()), expected: .none, events: [try .sample()])
        }
        calls.start(1, .append(AppendRequest(tenant: tenant, aggregates: parts)), timeoutMillis: 0, creditBytes: 0)
        runToRest()
        #expect(transport.answers[1] != nil)
        var again = try parts.map {
            AggregateAppend(aggregate: $0.aggregate, expected: .none, events: [try .sample()])
        }
        again[0] = AggregateAppend(aggregate: .new(), expected: .exists, events: [try .sample()])
        let losing = AppendRequest(tenant: tenant, aggregates: again, includeConflictingEvents: true)
        calls.start(2, .append(losing), timeoutMillis: 0, creditBytes: 0)
        beforeItIsDecided()
        runToRest()
        #expect(service.store.waitingAppendBytes == 0)
    }

    @Test func conflictsThatWaitForTheirEventsCount() throws {
        try lose()
        #expect(transport.ends[2] == nil, "it waits until the connection takes bytes")
        let bytes = pool.bytes(of: .tenant(tenant))
        #expect(bytes >= 100 * (128 + 64), "\(bytes) bytes are counted")
        calls.cancel(2)
        #expect(pool.bytes == 0)
    }

    @Test func conflictsThatFindNoMemoryEndWithoutTheirEvents() throws {
        let rival = FairPool.Holder.tenant(TenantID(UUID()))
        try lose { _ = pool.takeAlways(pool.bytesMax, for: rival) }
        let error = try #require(transport.ends[2] ?? nil)
        #expect(error.reason == .versionConflict && error.conflicts.count == 100)
        #expect(error.conflicts.allSatisfy { $0.events.readableBytes == 0 })
        #expect(error.conflicts.map(\.eventsTruncated) == [false] + Array(repeating: true, count: 99))
        #expect(pool.bytes(of: .tenant(tenant)) == 0)
        pool.give(pool.bytesMax, for: rival)
        #expect(pool.bytes == 0)
    }
}
