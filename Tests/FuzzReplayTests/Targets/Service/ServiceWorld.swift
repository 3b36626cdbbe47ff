import FoundationEssentials
import Logging
import MartletAccess
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import NIOEmbedded

@testable import MartletService
@testable import MartletSubscriptions
@testable import MartletTenants

/// A service over the memory engine with connections on two event loops, and a clock that only the script moves.
final class ServiceWorld {
    /// Limits that a few calls reach; `outboundBytesMax` holds four frames, which a few loads with snapshots fill.
    static let limits: Limits = {
        var limits = Limits()
        limits.payloadBytesMax = 8 << 10
        limits.metadataBytesMax = 256
        limits.snapshotBytesMax = 24 << 10
        limits.settingsBytesMax = 8 << 10
        limits.pageBytesMax = 16 << 10
        limits.frameBytesMax = 96 << 10
        limits.settingsTenantsMax = 2
        limits.settingsCacheBytesMax = 256 << 10
        limits.eventsPerAppendMax = 8
        limits.aggregatesPerAppendMax = 4
        limits.callsPerConnectionMax = 128
        limits.waitingAppendBytesMax = 192 << 10
        limits.heartbeatMillis = 1_000
        limits.pageScanEventsMax = 8
        limits.tailBytesPerTenantMax = 16 << 10
        limits.tailBytesMax = 24 << 10
        limits.recentPageBytesMax = 32 << 10
        limits.commitBytesMax = 32 << 10
        limits.commitEventsMax = 16
        limits.waitingReadsMax = 48
        limits.inboundBytesMax = 192 << 10
        limits.outboundBytesMax = 384 << 10
        limits.callBytesMax = 1 << 20
        limits.filterValuesMax = 4
        return limits
    }()
    static let tenants = (1...3).map { TenantID(UUID(high: 1, low: $0)) }
    private static let principals = [
        Principal.anybody, Principal(identity: "a", tenants: .only([tenants[0]])),
        Principal(identity: "b", tenants: .only([tenants[0], tenants[1]])),
    ]
    private static let logger = Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }

    private let time = NIOLockedValueBox(NIODeadline.uptimeNanoseconds(1_000_000_000))
    private let loops = [EmbeddedEventLoop(), EmbeddedEventLoop()]
    let service: EventService
    let hands: StorageHands
    private(set) var peers: [ServicePeer] = []
    /// Connections that are closed: nothing may come to them, and what their calls held must be given back as well. Their
    /// calls do not keep them in memory, and a message to one that is gone could not be seen.
    private var closed: [ServicePeer] = []
    /// Numbers new events.
    var nextEvent: UInt64 = 1
    /// Storage, which fails as the script says.
    let engine: FaultyEngine

    init(old: OldData) throws {
        try Self.limits.validate()
        for loop in loops { loop.advanceTime(to: time.withLockedValue { $0 }) }
        let memory = MemoryEngine()
        try old.store(in: memory)
        engine = FaultyEngine(memory)
        (service, hands) = try EventService.startByHand(
            engine: engine, limits: Self.limits, serverVersion: "1",
            clock: { [time] in
                let nanos = time.withLockedValue { $0.uptimeNanoseconds }
                return Timestamp(microseconds: 1_700_000_000_000_000 + Int64(nanos / 1_000))
            }, logger: Self.logger, uptime: { [time] in time.withLockedValue { $0 } })
        peers = Self.principals.indices.map { peer($0) }
    }

    private func peer(_ index: Int) -> ServicePeer {
        ServicePeer(self, principal: Self.principals[index], eventLoop: loops[index % loops.count])
    }

    /// Ends what would keep the service in memory.
    func release() {
        for peer in peers { peer.close() }
        peers = []
        closed = []
        service.release()
    }

    // MARK: What goes on

    /// A new connection in the place of one that is closed now.
    func reopen(_ old: ServicePeer) {
        guard let index = peers.firstIndex(where: { $0 === old }) else { return }
        close(old)
        peers[index] = peer(index)
    }

    private func close(_ peer: ServicePeer) {
        closed.append(peer)
        peer.close()
    }

    func advance(millis: Int64) {
        let now = time.withLockedValue { time in
            time = time + .milliseconds(millis)
            return time
        }
        for loop in loops { loop.advanceTime(to: now) }
    }

    func runLoops() { for loop in loops { loop.run() } }

    /// Until storage has nothing to do and the loops neither.
    func runToRest() throws {
        var turns = 0
        var isAtRest = false
        while !isAtRest {
            turns += 1
            try hold(turns < 10_000, "the service never comes to rest")
            // A loop may have woken the other one.
            for _ in 0..<3 { runLoops() }
            isAtRest = true
            while hands.commitOne() { isAtRest = false }
            while hands.readOne() { isAtRest = false }
        }
        for peer in peers + closed { try peer.check() }
    }

    // MARK: What must hold

    /// No account is above its bound.
    func checkAccounts() throws {
        let limits = Self.limits
        let accounts = [
            ("inbound", service.pools.inbound.bytes, limits.inboundBytesMax),
            ("outbound", service.pools.outbound.bytes, limits.outboundBytesMax),
            ("calls", service.pools.calls.bytes, limits.callBytesMax),
            // Changes have a quarter of what appends have.
            ("appends", service.store.waitingAppendBytes, limits.waitingAppendBytesMax / 4 * 5),
            ("tails", service.hub.tailBytes, limits.tailBytesMax),
            ("pages", service.reads.keptBytes, limits.recentPageBytesMax),
            ("settings", service.settings.bytes, limits.settingsCacheBytesMax),
            ("open calls", peers.map(\.open.count).max() ?? 0, limits.callsPerConnectionMax),
        ]
        for (name, bytes, bytesMax) in accounts {
            try hold((0...bytesMax).contains(bytes), "\(name): \(bytes), the bound is \(bytesMax)")
        }
    }

    /// Lets every peer take all that comes: each call ends. Then closes the connections: nothing is held.
    func finish() throws {
        engine.failReads(false)
        engine.failCommits(.none)
        for peer in peers where !peer.isClosed {
            try peer.setWritable(true)
            try peer.grantAll()
        }
        try runToRest()
        try checkAccounts()
        for peer in peers { peer.drain() }
        // Streams may wait for their reminder, and feeds for their next wave.
        for _ in 0..<4 {
            try runToRest()
            advance(millis: 300)
        }
        try runToRest()
        for peer in peers { try hold(peer.open.isEmpty, "calls \(peer.open.sorted()) never end") }
        for peer in peers { close(peer) }
        try runToRest()
        try checkNothingIsHeld()
    }

    private func checkNothingIsHeld() throws {
        let accounts = [
            ("inbound", service.pools.inbound.bytes), ("outbound", service.pools.outbound.bytes),
            ("calls", service.pools.calls.bytes), ("appends", service.store.waitingAppendBytes),
            ("tails", service.hub.tailBytes), ("followed tenants", service.hub.followedTenants.count),
            ("subscriptions", service.counters.subscriptionCount), ("connections", service.connectionCount),
            ("shared reads", service.reads.waitingCounts.reads),
        ]
        for (name, bytes) in accounts { try hold(bytes == 0, "\(name): \(bytes) are held after the end") }
        for peer in closed {
            // Somebody who waits, or a byte that is held, and the whole window is not to be had.
            let waiting = peer.calls?.window.enter(ReadWindow.bytesMax, wake: {})
            try hold(waiting == nil, "a connection's window holds something after its end")
        }
    }
}
