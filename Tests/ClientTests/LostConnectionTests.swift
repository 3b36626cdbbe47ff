import MartletModel
import MartletTesting
import MartletStorageMemory
import FoundationEssentials
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import MartletClient

/// The client against the real server, over TLS, while its connection is cut again and again.
@Suite(.timeLimit(.minutes(2))) struct LostConnectionTests {
    private static let writers = 6
    private static let appendsEach = 40

    /// Counts what gets through.
    private let progress = NIOLockedValueBox(0)

    @Test func nothingIsLostAndNothingComesTwice() async throws {
        let seed = UInt64.random(in: 1...UInt64.max)
        try await TestServer.with(MemoryEngine()) { server in
            let proxy = try await ChoppingProxy.start(to: server.port)
            var configuration = server.clientConfiguration(port: proxy.port)
            configuration.backoff = Backoff(initial: .milliseconds(2), max: .milliseconds(20))
            configuration.streamWindowBytes = 1
            try await MartletClient.withClient(configuration) { client in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        var random = SplitMix(state: seed)
                        var seen = 0
                        while !Task.isCancelled {
                            try? await Task.sleep(for: .milliseconds(Int.random(in: 5...60, using: &random)))
                            // Something gets through between two cuts, however slow the machine is.
                            while progress.withLockedValue({ $0 }) == seen, !Task.isCancelled {
                                try? await Task.sleep(for: .milliseconds(1))
                            }
                            seen = progress.withLockedValue { $0 }
                            proxy.chop()
                        }
                    }
                    try await work(client, seed: seed)
                    group.cancelAll()
                }
            }
            await proxy.stop()
        }
    }

    /// Packets are dropped while the sockets stay open: after twice the keepalive time the client connects again, and its
    /// subscription goes on where it was.
    @Test func aBlackHoleIsNoticed() async throws {
        let keepalive = Duration.milliseconds(500)
        try await TestServer.with(MemoryEngine()) { server in
            let proxy = try await ChoppingProxy.start(to: server.port)
            var configuration = server.clientConfiguration(port: proxy.port)
            configuration.limits.keepaliveMillis = 500
            configuration.backoff = Backoff(initial: .milliseconds(2), max: .milliseconds(20))
            let settings = configuration
            try await server.withClient { other in
                try await MartletClient.withClient(settings) { client in
                    let (before, after) = (try Sample.aggregate(1), try Sample.aggregate(2))
                    func append(_ client: MartletClient, _ version: UInt64, _ name: AggregateName) async throws {
                        _ = try await client.append(
                            [Sample.event()], to: name, expecting: .exact(Version(version)), tenant: Sample.tenant)
                    }
                    for version in 0..<3 { try await append(client, UInt64(version), before) }
                    var positions: [UInt64] = []
                    var times: [Duration] = []
                    var swallowed = ContinuousClock.now
                    for try await item in client.subscribe(SubscribeRequest(tenant: Sample.tenant)) {
                        switch item {
                        case .caughtUp where times.count < 3:
                            proxy.swallow()
                            swallowed = .now
                            // Of one connection the server hears nothing more, and the client nothing of it.
                            try await append(other, UInt64(times.count), after)
                        case .events(let events, _): positions += events.positions
                        case .reconnected: times.append(ContinuousClock.now - swallowed)
                        default: break
                        }
                        if positions.count == 6, times.count == 3 { break }
                    }
                    #expect(positions == Array(1...6), "no gap, and nothing twice")
                    print("black hole with a keepalive of \(keepalive): noticed after \(times)")
                    // The slack is for a machine that is busy.
                    for time in times { #expect(time > keepalive && time < keepalive * 2 + .seconds(1)) }
                    // A call that goes into the hole comes out of it.
                    proxy.swallow()
                    try await append(client, 3, before)
                }
            }
            await proxy.stop()
        }
    }

    private func work(_ client: MartletClient, seed: UInt64) async throws {
        let total = UInt64(Self.writers * Self.appendsEach)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for windowBytes in [300, 5_000, 1 << 20] {
                group.addTask {
                    let request = SubscribeRequest(tenant: Sample.tenant)
                    var positions: [UInt64] = []
                    for try await item in client.subscribe(request, windowBytes: windowBytes) {
                        guard case .events(let events, _) = item else { continue }
                        positions += events.positions
                        progress.withLockedValue { $0 += 1 }
                        if positions.count >= total { break }
                    }
                    #expect(positions == Array(1...total), "seed \(seed)")
                }
            }
            for writer in 1...UInt64(Self.writers) {
                group.addTask { try await write(client, Sample.aggregate(writer), seed: seed) }
            }
            try await group.waitForAll()
        }
        for direction in [Direction.forward, .backward] {
            let stream = try await client.read(ReadRequest(tenant: Sample.tenant, direction: direction))
            var positions: [UInt64] = []
            for try await page in stream.pages {
                positions += page.positions
                progress.withLockedValue { $0 += 1 }
                try await Task.sleep(for: .milliseconds(5))
            }
            let expected = Array(1...total)
            #expect(positions == (direction == .forward ? expected : expected.reversed()), "seed \(seed)")
        }
    }

    private func write(_ client: MartletClient, _ aggregate: AggregateName, seed: UInt64) async throws {
        for index in 0..<UInt64(Self.appendsEach) {
            // Were a retried append stored twice, or an acknowledged one lost, the next would conflict.
            let receipt = try await client.append(
                [Sample.event(payloadBytes: Int(index) * 40)], to: aggregate, expecting: .exact(Version(index)),
                tenant: Sample.tenant)
            progress.withLockedValue { $0 += 1 }
            #expect(receipt.aggregates.map(\.lastVersion) == [Version(index + 1)], "seed \(seed)")
        }
        let versions = try await client.load(LoadRequest(tenant: Sample.tenant, aggregate: aggregate))
            .reduce(into: []) { $0.append($1.version.rawValue) }
        #expect(versions == Array(1...UInt64(Self.appendsEach)), "seed \(seed)")
    }
}
