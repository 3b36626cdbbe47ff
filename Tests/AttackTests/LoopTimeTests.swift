import Foundation
import MartletClient
import MartletModel
import MartletSession
import NIOCore
import Testing

/// No peer holds up the connections that share its event loop.
@Suite(.serialized) struct LoopTimeTests {
    enum Start: String, CaseIterable { case live, catchUp, manyLive, filtered }

    /// Upcasting that takes the whole budget of each payload, on events that are delivered to subscriptions.
    @Test(arguments: Heavy.allCases, [Start.live, .catchUp])
    func upcastingForSubscriptionsLeavesTheLoopFree(_ heavy: Heavy, _ start: Start) async throws {
        try await upcast(heavy, start)
    }

    @Test(arguments: [Start.manyLive, .filtered])
    func howeverTheySubscribe(_ start: Start) async throws { try await upcast(.elements, start) }

    private func upcast(_ heavy: Heavy, _ start: Start) async throws {
        try await Victim.with { victim in
            let tenant = TenantID(UUID())
            let target = Ammunition.aggregate()
            let peer = try await victim.connect()
            let definition = heavy.definition
            let millis = try await victim.withClient { client in
                try await client.putSettings(
                    PutSettingsRequest(tenant: tenant, kind: .upcasters, document: definition))
                let append: @Sendable () async throws -> Void = {
                    _ = try await client.append(Ammunition.events(40), to: target, expecting: .any, tenant: tenant)
                }
                var request = SubscribeRequest(tenant: tenant, upcasting: UpcastingOptions(onFailure: .raw))
                if start == .filtered { request.filter.eventTypes = [Ammunition.type] }
                let requests = Array(
                    repeating: CallRequest.subscribe(request), count: start == .manyLive ? 20 : 1)
                if start == .catchUp || start == .filtered { try await append() }
                return try await LoopWatch.slowestPongMillis(port: victim.port) {
                    try await peer.call(requests, creditBytes: 64 << 20)
                    if start == .live || start == .manyLive {
                        _ = try await peer.waits(seconds: Bound.attackSeconds) { $0.caughtUp.count == requests.count }
                        try await append()
                    }
                    return try await peer.waits(seconds: Bound.attackSeconds) {
                        $0.events.values.reduce(0, +) == 40 * requests.count
                    }
                }.millis
            }
            let events = peer.received.events.values.reduce(0, +)
            print(
                "attack: upcasting, \(heavy.rawValue), \(start.rawValue), \(definition.readableBytes) bytes of definition: "
                    + "slowest pong \(Int(millis)) ms, \(events) events came meanwhile")
            #expect(millis < Bound.pingMillis)
        }
    }

    enum Ending: String, CaseIterable { case connectionsClose, callsAreCancelled }

    /// One tenant's subscriptions end all at once.
    @Test(arguments: Ending.allCases)
    func manySubscriptionsEndWithoutHoldingUpALoop(_ ending: Ending) async throws {
        #if DEBUG
            let connections = 6
        #else
            let connections = 20
        #endif
        let callsOfEach = 1_000
        try await Victim.with { victim in
            let tenant = TenantID(UUID())
            var peers: [AttackPeer] = []
            for _ in 0..<connections { peers.append(try await victim.connect()) }
            let request = CallRequest.subscribe(SubscribeRequest(tenant: tenant, start: .head))
            for peer in peers {
                try await peer.call(Array(repeating: request, count: callsOfEach), creditBytes: 1 << 20)
            }
            for peer in peers {
                let isReady = try await peer.waits(seconds: 30) { $0.caughtUp.count == callsOfEach }
                try #require(isReady, "not all subscriptions were opened")
            }
            let all = peers
            let (_, millis) = try await LoopWatch.slowestPongMillis(port: victim.port) {
                switch ending {
                case .connectionsClose: for peer in all { peer.close() }
                case .callsAreCancelled:
                    for peer in all {
                        peer.push((1...UInt64(callsOfEach)).map { ClientFrame(CallID($0), .cancel) })
                    }
                }
                for peer in all {
                    _ = try await peer.waits(seconds: Bound.attackSeconds) {
                        $0.isClosed || $0.endCount == callsOfEach
                    }
                }
                // Whoever calls now waits for what closing left to do.
                try await victim.withClient { _ = try await $0.head(of: tenant) }
            }
            print(
                "attack: \(connections * callsOfEach) subscriptions, \(ending.rawValue): slowest pong \(Int(millis)) ms"
            )
            #expect(millis < Bound.pingMillis)
        }
    }

    /// A call whose answer takes files costs its own loop as little as any other.
    @Test func aFloodOfStatusCallsLeavesTheLoopFree() async throws {
        try await Victim.with { victim in
            var peers: [AttackPeer] = []
            for _ in 0..<4 { peers.append(try await victim.connect()) }
            let all = peers
            let (_, millis) = try await LoopWatch.slowestPongMillis(port: victim.port) {
                for wave in 0..<3 {
                    for peer in all {
                        peer.push(
                            AttackPeer.frames(
                                Array(repeating: .getStatus, count: 1_000), from: UInt64(1 + wave * 1_000)))
                    }
                    for peer in all {
                        _ = try await peer.waits(seconds: Bound.attackSeconds) { $0.endCount == 1_000 * (wave + 1) }
                    }
                }
            }
            print("attack: 12,000 get_status: slowest pong \(Int(millis)) ms")
            #expect(millis < Bound.pingMillis)
            for peer in all { #expect(peer.received.endCount == 3_000 && peer.received.doubled.isEmpty) }
        }
    }
}
