import Foundation
import MartletClient
import MartletModel
import MartletSession
import MartletTesting
import NIOCore
import Testing

/// The memory that Docs/OPERATIONS.md promises, which `LimitsTests` hold that page to, is kept by a process whose pools
/// are all attacked at the same time.
@Suite(.serialized, .timeLimit(.minutes(4))) struct FullPoolsTests {
    private static let idleConnections = TestRounds.count(200, long: 600)
    private static let tenants = 32
    /// What the attack comes to at least, when the server has taken it in.
    private static let filledMiB = 300

    @Test func aServerWithAllPoolsFullKeepsToItsMemory() async throws {
        let tenants = (0..<Self.tenants).map { _ in TenantID(UUID()) }
        let target = Ammunition.aggregate()
        try await Victim.with { victim in
            try await seed(victim, tenants, target)
            // All connect before the server is busy. Most have nothing to say.
            var peers: [AttackPeer] = []
            for _ in 0..<Self.idleConnections + 4 * Self.tenants { peers.append(try await victim.connect()) }
            var idle = peers[...]
            let before = try victim.forgetPeak()
            // Subscriptions with as much of a filter as they may have, which give no credit and do not read. One without a
            // filter keeps the tenant's recent events alive.
            let filtered = try FilteredSubscriptions(80)
            for tenant in tenants {
                let peer = idle.removeFirst()
                let whole = CallRequest.subscribe(SubscribeRequest(tenant: tenant, start: .head))
                peer.push(AttackPeer.frames([whole], creditBytes: 1))
                peer.push(bytes: filtered.frames(tenant))
                try await peer.stopReading()
            }
            // Large answers that nobody reads.
            for tenant in tenants {
                let peer = idle.removeFirst()
                try await peer.stopReading()
                peer.push(
                    AttackPeer.frames(
                        Array(
                            repeating: .loadSnapshot(LoadSnapshotRequest(tenant: tenant, aggregate: target)), count: 20),
                        creditBytes: 8 << 20))
            }
            // Requests of which the end does not come.
            var half = ByteBuffer(bytes: [0])
            half.writeInteger(UInt32(8 << 20))
            half.writeRepeatingByte(0x0A, count: 7 << 20)
            for _ in 0..<Self.tenants { idle.removeFirst().push(bytes: half) }
            // More appends than are committed meanwhile, which are recent events afterwards.
            for tenant in tenants {
                let peer = idle.removeFirst()
                let appends = try (0..<10).map { _ in
                    CallRequest.append(
                        try AppendRequest(
                            [
                                NewAggregateEvents(
                                    aggregate: Ammunition.aggregate(), expected: .none,
                                    events: Ammunition.large(1_000_000))
                            ],
                            tenant: tenant))
                }
                peer.push(AttackPeer.frames(appends))
            }
            let peak = try await settledPeak(victim, above: before + Self.filledMiB)
            let bound = Limits().memoryBytesMax(connections: peers.count) >> 20
            print(
                "attack: all pools at once on \(peers.count) connections: \(before) MiB before, \(peak) MiB at most, of "
                    + "\(bound) MiB that are documented")
            #expect(peak < bound)
            // The room of the process, and of connections that say nothing, is none for the pools.
            let pools = (Limits().memoryBytesMax(connections: 4 * Self.tenants) - Limits.processBytesMax) >> 20
            #expect(peak - before < pools, "the pools hold more than they count")
            #expect(peak - before > Self.filledMiB, "the attack fills nothing")
            for peer in peers { peer.close() }
            try await answersAgain(victim)
        }
    }

    /// It goes on, whatever was refused, once it has done what it had taken in.
    private func answersAgain(_ victim: Victim) async throws {
        let end = ContinuousClock.now + .seconds(60)
        while true {
            do {
                return try await victim.withClient { client in
                    let tenant = TenantID(UUID())
                    _ = try await client.append(
                        Ammunition.events(1), to: Ammunition.aggregate(), expecting: .none, tenant: tenant)
                    #expect(try await client.head(of: tenant).position == Position(1))
                }
            } catch  where ContinuousClock.now < end {
                try await Task.sleep(for: .milliseconds(100))
            }
        }
    }

    /// Settings of every tenant, a snapshot and an event as large as they may be.
    private func seed(_ victim: Victim, _ tenants: [TenantID], _ target: AggregateName) async throws {
        try await victim.withClient { client in
            let filler = String(repeating: "x", count: 1_000_000)
            let operation = #"{"set":{"path":"/a","value":"\#(filler)"}}"#
            let document = ByteBuffer(
                string: #"{"upcasters":[{"event":"Other","from":1,"operations":[\#(operation)]}]}"#)
            for tenant in tenants {
                try await client.putSettings(PutSettingsRequest(tenant: tenant, kind: .upcasters, document: document))
                _ = try await client.append(Ammunition.large(1_000_000), to: target, expecting: .none, tenant: tenant)
                _ = try await client.saveSnapshot(
                    SaveSnapshotRequest(
                        tenant: tenant, aggregate: target, version: Version(1),
                        snapshot: Ammunition.snapshot(Limits().snapshotBytesMax)))
            }
        }
    }

    /// The peak once it is high enough and has not grown for two seconds; at the latest after 90, as a machine with other
    /// things to do may pause longer than that.
    private func settledPeak(_ victim: Victim, above least: Int) async throws -> Int {
        let end = ContinuousClock.now + .seconds(90)
        var (peak, unchanged) = (0, 0)
        while ContinuousClock.now < end, unchanged < 40 || peak <= least {
            let now = try victim.memoryMiB().peak
            unchanged = now > peak ? 0 : unchanged + 1
            peak = max(peak, now)
            try await Task.sleep(for: .milliseconds(50))
        }
        return peak
    }
}

/// Frames that open subscriptions with large filters. They are encoded once, and differ in the tenant: a debug build takes
/// long for so many.
private struct FilteredSubscriptions {
    private let template: ByteBuffer
    private let tenant = TenantID(UUID())
    private let places: [Int]

    /// Calls from the id 2 on.
    init(_ count: Int) throws {
        let types = (0..<Limits().filterValuesMax).map { number in
            Ammunition.eventType(String(repeating: "t", count: 250) + String(1_000 + number))
        }
        let request = CallRequest.subscribe(
            SubscribeRequest(tenant: tenant, start: .head, filter: EventFilter(eventTypes: Set(types))))
        var (template, places) = (ByteBuffer(), [Int]())
        for number in 0..<count {
            let start = template.writerIndex
            AttackPeer.encode(ClientFrame(CallID(UInt64(2 + number)), .request(request), creditBytes: 1), to: &template)
            let frame = Data(template.readableBytesView[start...])
            let range = frame.firstRange(of: Data(tenant.uuid.bytes))
            places.append(start + (try #require(range)).lowerBound - frame.startIndex)
        }
        (self.template, self.places) = (template, places)
    }

    func frames(_ tenant: TenantID) -> ByteBuffer {
        var frames = template
        for place in places { frames.setBytes(tenant.uuid.bytes, at: place) }
        return frames
    }
}
