import Foundation
import MartletClient
import MartletModel
import MartletSession
import MartletStorageMemory
import MartletTesting
import NIOCore
import Testing

/// What waits for a peer is bounded in memory, and is answered or refused once the peer goes on.
@Suite(.serialized) struct MemoryTests {
    /// What a peer that does not read may cost beside what the server had.
    private static let memoryMiB = 200
    /// What calls under settings of their own may cost.
    private static let settingsMemoryMiB = 150
    /// What a peer may cost that follows in many places and does not read.
    private static let subscriptionMemoryMiB = 96

    enum Answer: String, CaseIterable { case loadSnapshot, getSettings, conflicts, largeEvents }

    /// A peer that asks for much and reads nothing.
    @Test(arguments: Answer.allCases.map { ($0, 1) } + [(.loadSnapshot, 8), (.largeEvents, 8)])
    func answersThatNobodyReadsAreBounded(_ answer: Answer, _ connections: Int) async throws {
        let calls = answer == .getSettings || answer == .largeEvents ? 480 : answer == .conflicts ? 1_000 : 120
        try await Victim.with { victim in
            let tenant = TenantID(UUID())
            let target = Ammunition.aggregate()
            let many = Ammunition.aggregate()
            try await seed(victim, tenant, target, many: many)
            let request: CallRequest =
                switch answer {
                case .loadSnapshot: .loadSnapshot(LoadSnapshotRequest(tenant: tenant, aggregate: target))
                case .getSettings: .getSettings(tenant, .upcasters)
                case .largeEvents: .load(LoadRequest(tenant: tenant, aggregate: target, eventsMax: 1))
                case .conflicts:
                    .append(
                        try AppendRequest(
                            [NewAggregateEvents(aggregate: many, expected: .none, events: Ammunition.events(1))],
                            tenant: tenant, includeConflictingEvents: true))
                }
            var peers: [AttackPeer] = []
            for _ in 0..<connections { peers.append(try await victim.connect()) }
            let all = peers
            let before = try victim.forgetPeak()
            let (_, times) = try await victim.bystander {
                for peer in all {
                    try await peer.stopReading()
                    peer.push(
                        AttackPeer.frames(
                            Array(repeating: request, count: calls / connections), creditBytes: 2 << 20))
                }
                try await settles(victim)
            }
            let more = try victim.memoryMiB().peak - before
            print("attack: \(calls) \(answer.rawValue) unread on \(connections): \(more) MiB more; bystander \(times)")
            #expect(more < Self.memoryMiB)
            #expect(times.slowest < Bound.callMillis && times.failures.isEmpty, "\(times)")
            for peer in all {
                try await peer.readAgain()
                let isOver = try await peer.waits(seconds: 60) { $0.endCount == calls / connections }
                #expect(isOver, "\(peer.received.endCount) of \(calls / connections) calls were answered")
                check(peer.received)
            }
        }
    }

    enum Followed: String, CaseIterable { case pages, filteredPages, largeEvents, upcastPages }

    /// A peer that follows a history in a thousand places and reads nothing.
    @Test(arguments: Followed.allCases) func historiesThatNobodyReadsAreBounded(_ followed: Followed) async throws {
        let calls = 1_000
        try await Victim.with { victim in
            let tenant = TenantID(UUID())
            try await victim.withClient { client in
                for _ in 0..<8 {
                    let events =
                        switch followed {
                        case .pages, .filteredPages: Ammunition.large(1_000, 1_000)
                        case .largeEvents: Ammunition.large(1_000_000)
                        case .upcastPages: Ammunition.events(1_000, payload: #"{"a":1}"#)
                        }
                    _ = try await client.append(events, to: Ammunition.aggregate(), expecting: .none, tenant: tenant)
                }
                guard followed == .upcastPages else { return }
                try await client.putSettings(
                    PutSettingsRequest(tenant: tenant, kind: .upcasters, document: Ammunition.growing(to: 4_000)))
            }
            let requests: [CallRequest] = (0..<calls).map { number in
                let filter = EventFilter(
                    eventTypes: followed == .pages ? [] : [Ammunition.type, Ammunition.eventType("No\(number)")])
                let start = followed == .pages ? Position(UInt64(number * 7)) : .start
                return .subscribe(SubscribeRequest(tenant: tenant, start: .after(start), filter: filter))
            }
            let peer = try await victim.connect()
            let before = try victim.forgetPeak()
            let (_, times) = try await victim.bystander {
                try await peer.stopReading()
                peer.push(AttackPeer.frames(requests, creditBytes: 1 << 20))
                try await settles(victim)
            }
            let more = try victim.memoryMiB().peak - before
            print("attack: \(calls) subscriptions to \(followed.rawValue) unread: \(more) MiB more; bystander \(times)")
            #expect(more < Self.subscriptionMemoryMiB)
            #expect(times.slowest < Bound.callMillis && times.failures.isEmpty, "\(times)")
            try await peer.readAgain()
            let areServed = try await peer.waits(seconds: 60) { $0.parts.count == calls }
            #expect(areServed, "\(peer.received.parts.count) of \(calls) subscriptions got events")
            #expect(peer.received.fault == nil && peer.received.statuses.isEmpty)
        }
    }

    /// A peer that changes its tenant's settings, and each time opens a call that goes by those it replaces next.
    @Test(arguments: ["loads", "subscriptions"]) func settingsThatOldCallsGoByAreBounded(_ kind: String) async throws {
        let rounds = 120
        try await Victim.with { victim in
            let tenant = TenantID(UUID())
            let target = Ammunition.aggregate()
            let peer = try await victim.connect()
            let before = try victim.forgetPeak()
            let (_, times) = try await victim.bystander {
                try await victim.withClient { client in
                    _ = try await client.append(
                        Ammunition.events(2, payload: #"{"a":1}"#), to: target, expecting: .none, tenant: tenant)
                    for round in 1...UInt64(rounds) {
                        let filler = String(repeating: "x", count: 1_000_000 + Int(round))
                        let step =
                            #"{"event":"Grow","from":1,"operations":[{"set":{"path":"/a","value":"\#(filler)"}}]}"#
                        try await client.putSettings(
                            PutSettingsRequest(
                                tenant: tenant, kind: .upcasters,
                                document: ByteBuffer(string: #"{"upcasters":[\#(step)]}"#)))
                        let request: CallRequest =
                            kind == "loads"
                            ? .load(LoadRequest(tenant: tenant, aggregate: target))
                            : .subscribe(SubscribeRequest(tenant: tenant))
                        try await peer.call([request], from: round, creditBytes: 1)
                        let id = CallID(round)
                        let isOpen = try await peer.waits(seconds: 10) {
                            $0.waitingBytes[id] != nil || $0.statuses[id] != nil
                        }
                        #expect(isOpen, "call \(round)")
                    }
                }
            }
            let more = try victim.memoryMiB().peak - before
            let refused = peer.received.statuses.count
            #expect(!peer.received.isClosed && peer.received.fault == nil, "\(String(describing: peer.received.fault))")
            let raw = CallID(UInt64(rounds) + 1)
            try await peer.call(
                [.load(LoadRequest(tenant: tenant, aggregate: target, upcasting: .raw))], from: raw.rawValue,
                creditBytes: 1 << 20)
            let isLoaded = try await peer.waits(seconds: 10) { $0.statuses[raw] != nil }
            #expect(isLoaded && peer.received.events[raw] == 2, "events as they are stored need no settings")
            print(
                "attack: \(rounds) \(kind) under settings of their own: \(more) MiB more, \(refused) refused; "
                    + "bystander \(times)")
            #expect(more < Self.settingsMemoryMiB)
            #expect(times.slowest < Bound.callMillis && times.failures.isEmpty, "\(times)")
        }
    }

    enum Held: String, CaseIterable { case loadWithSnapshot, loadLargeEvent, readLargeEvent }

    /// A peer that reads, and gives too little credit for what comes next.
    @Test(arguments: Held.allCases) func answersWithoutCreditAreBounded(_ held: Held) async throws {
        let calls = held == .loadWithSnapshot ? 120 : 480
        try await Victim.with { victim in
            let tenant = TenantID(UUID())
            let target = Ammunition.aggregate()
            try await seed(victim, tenant, target)
            let request: CallRequest =
                switch held {
                case .loadWithSnapshot:
                    .load(LoadRequest(tenant: tenant, aggregate: target, snapshot: SnapshotUse()))
                case .loadLargeEvent: .load(LoadRequest(tenant: tenant, aggregate: target, eventsMax: 1))
                case .readLargeEvent: .read(ReadRequest(tenant: tenant, eventsMax: 1))
                }
            let peer = try await victim.connect()
            let before = try victim.forgetPeak()
            let (_, times) = try await victim.bystander {
                peer.push(AttackPeer.frames(Array(repeating: request, count: calls), creditBytes: 1))
                try await settles(victim)
            }
            let more = try victim.memoryMiB().peak - before
            print("attack: \(calls) \(held.rawValue) without credit: \(more) MiB more; bystander \(times)")
            #expect(more < Self.memoryMiB)
            #expect(times.slowest < Bound.callMillis && times.failures.isEmpty, "\(times)")
            peer.push((1...UInt64(calls)).map { ClientFrame(CallID($0), .credit(16 << 20)) })
            let isOver = try await peer.waits(seconds: 60) { $0.endCount == calls }
            #expect(isOver, "\(peer.received.endCount) of \(calls) calls were answered")
            check(peer.received)
        }
    }

    /// Waits until the server's memory has stopped growing, for as long as an attack lasts.
    private func settles(_ victim: Victim) async throws {
        let end = ContinuousClock.now + .seconds(Bound.attackSeconds)
        var (last, unchanged) = (0, 0)
        while ContinuousClock.now < end, unchanged < 40 {
            let now = try victim.memoryMiB().now
            unchanged = now > last ? 0 : unchanged + 1
            last = max(last, now)
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    /// Settings as large as may be, an aggregate with a large event and a snapshot, and one whose events fill a page.
    private func seed(
        _ victim: Victim, _ tenant: TenantID, _ target: AggregateName, many: AggregateName = Ammunition.aggregate()
    ) async throws {
        try await victim.withClient { client in
            let filler = String(repeating: "x", count: 1_000_000)
            let document = ByteBuffer(
                string:
                    #"{"upcasters":[{"event":"Other","from":1,"operations":[{"set":{"path":"/a","value":"\#(filler)"}}]}]}"#
            )
            try await client.putSettings(PutSettingsRequest(tenant: tenant, kind: .upcasters, document: document))
            _ = try await client.append(Ammunition.large(1_000_000), to: target, expecting: .none, tenant: tenant)
            _ = try await client.append(Ammunition.large(1_000, 260), to: many, expecting: .none, tenant: tenant)
            _ = try await client.saveSnapshot(
                SaveSnapshotRequest(
                    tenant: tenant, aggregate: target, version: Version(1),
                    snapshot: Ammunition.snapshot(Limits().snapshotBytesMax)))
        }
    }

    /// Each call ended once, with what it asked for or a refusal that says which limit was met.
    private func check(_ log: AttackLog) {
        #expect(log.doubled.isEmpty && log.fault == nil && !log.isClosed)
        for case .some(let error) in log.statuses.values where error.reason != .versionConflict {
            #expect(error.code == .resourceExhausted && error.isRetryable && !error.message.isEmpty, "\(error)")
        }
    }

    /// Small appends that wait for a commit, each come in a large read of its own.
    @Test(arguments: [120_000, 40_000]) func appendsThatWaitDoNotKeepTheReadsThatTheyCameIn(_ padding: Int) async throws
    {
        let count = padding > 100_000 ? 2_000 : 4_000
        let engine = StallingEngine(MemoryEngine(), afterCalls: 1, seconds: 6)
        try await TestServer.with(engine) { server in
            let tenant = TenantID(UUID())
            let peers = try await [
                AttackPeer.connect(port: server.port), AttackPeer.connect(port: server.port),
                AttackPeer.connect(port: server.port), AttackPeer.connect(port: server.port),
            ]
            let before = try Self.ownMemoryMiB()
            for number in 0..<count {
                let append = try AppendRequest(
                    [
                        NewAggregateEvents(
                            aggregate: Ammunition.aggregate(), expected: .none, events: Ammunition.events(1))
                    ],
                    tenant: tenant)
                let id = CallID(UInt64(1 + number / peers.count))
                try await peers[number % peers.count].send(
                    bytes: Self.padded(ClientFrame(id, .request(.append(append))), by: padding))
            }
            // Pongs come after what was sent before the pings.
            for peer in peers {
                let isTaken = try await peer.waits(seconds: 10) { $0.pongs == count / peers.count }
                #expect(isTaken, "the appends were not all taken in")
            }
            let more = try Self.ownMemoryMiB() - before
            print("attack: \(count) waiting appends behind \(padding) bytes each: \(more) MiB more")
            #expect(more < 128)
            for peer in peers {
                let isOver = try await peer.waits(seconds: 15) { $0.endCount == count / peers.count }
                #expect(isOver, "\(peer.received.endCount) of \(count / peers.count) appends were answered")
                for case .some(let error) in peer.received.statuses.values { #expect(error.reason == .appendQueueFull) }
            }
        }
    }

    /// A frame behind a ping with a field that nobody knows.
    private static func padded(_ frame: ClientFrame, by bytes: Int) -> ByteBuffer {
        var ping = ByteBuffer()
        // token = 1, and field 15 with the filler.
        ping.writeBytes([0x08, 0x01, 0x7A])
        writeVarint(bytes, to: &ping)
        ping.writeRepeatingByte(UInt8(ascii: "x"), count: bytes)
        var message = ByteBuffer()
        message.writeBytes([0x3A])
        writeVarint(ping.readableBytes, to: &message)
        message.writeBuffer(&ping)
        var buffer = ByteBuffer()
        buffer.writeBytes([0])
        buffer.writeInteger(UInt32(message.readableBytes))
        buffer.writeBuffer(&message)
        AttackPeer.encode(frame, to: &buffer)
        return buffer
    }

    private static func writeVarint(_ value: Int, to buffer: inout ByteBuffer) {
        var rest = value
        while rest > 0x7F {
            buffer.writeBytes([UInt8(rest & 0x7F | 0x80)])
            rest >>= 7
        }
        buffer.writeBytes([UInt8(rest)])
    }

    private static func ownMemoryMiB() throws -> Int {
        let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
        let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmRSS:") })
        return try #require(Int(line.filter(\.isNumber))) >> 10
    }

    /// Subscribers of many tenants, each with an event that fills a page of its own.
    @Test(arguments: [(400, 900_000), (1_000, 250_000)])
    func recentEventsOfManyTenantsStayWithinTheirBound(_ tenants: Int, _ bytes: Int) async throws {
        try await Victim.with { victim in
            let all = (0..<tenants).map { _ in TenantID(UUID()) }
            let peer = try await victim.connect()
            try await peer.call(
                all.map { .subscribe(SubscribeRequest(tenant: $0, start: .head)) }, creditBytes: 8 << 20)
            let isReady = try await peer.waits(seconds: 20) { $0.caughtUp.count == tenants }
            try #require(isReady)
            let before = try victim.forgetPeak()
            try await victim.withClient { client in
                for tenant in all {
                    _ = try await client.append(
                        Ammunition.large(bytes), to: Ammunition.aggregate(), expecting: .none, tenant: tenant)
                }
            }
            let isDelivered = try await peer.waits(seconds: 20) { $0.parts.count == tenants }
            #expect(isDelivered)
            let more = try victim.memoryMiB().now - before
            print("attack: a last page of \(bytes) bytes for each of \(tenants) tenants: \(more) MiB more")
            let limits = Limits()
            #expect(more < (limits.tailBytesMax + limits.recentPageBytesMax) >> 20 + 64)
        }
    }
}
