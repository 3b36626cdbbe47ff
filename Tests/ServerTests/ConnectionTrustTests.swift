import FoundationEssentials
import MartletClient
import MartletModel
import MartletSession
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// How long a connection lasts by the certificate that it was let in by, and by which clocks.
@Suite struct ConnectionTrustTests {
    private static let tenant = TenantID(UUID())
    private static let day: Int64 = 86_400 * 1_000_000

    private static func limits(keepalive: Int) -> Limits {
        var limits = Limits()
        limits.keepaliveMillis = keepalive
        limits.handshakeMillis = 200
        return limits
    }

    /// The development client's certificate is valid for a year.
    @Test func aConnectionEndsWithItsCertificate() async throws {
        let clock = ManualClock(.now())
        try await TestServer.with(
            MemoryEngine(), limits: Self.limits(keepalive: 200), clock: clock.clock, requiresClientCertificate: true
        ) { server in
            let peer = try await RawPeer.secure(server)
            clock.advance(microseconds: 364 * Self.day)
            try await peer.send(ClientFrame(.connection, .ping(7)))
            #expect(try await peer.next()?.body == .pong(7), "it is valid for another day")
            clock.advance(microseconds: 2 * Self.day)
            guard case .status(let error)? = try await peer.next()?.body else {
                Issue.record("no status came")
                return
            }
            #expect(
                error?.code == .unauthenticated && error?.reason == .certificateExpired, "\(String(describing: error))")
            #expect(try await peer.isClosed(within: .seconds(10)))
        }
    }

    /// The wall clock jumps by a day again and again: nobody who is alive is closed, nobody is pinged more.
    @Test(arguments: [Self.day, -Self.day])
    func aJumpOfTheWallClockEndsNothing(jump: Int64) async throws {
        let (clock, looks) = (ManualClock(.now()), NIOLockedValueBox(0))
        let counting: Clock = {
            looks.withLockedValue { $0 += 1 }
            return clock.now
        }
        try await TestServer.with(
            MemoryEngine(), limits: Self.limits(keepalive: 60_000), clock: counting, requiresClientCertificate: true
        ) { server in
            let peer = try await RawPeer.secure(server)
            for round in 0..<4 {
                clock.advance(microseconds: jump)
                // With each of its ticks, the server looks whether the peer's certificate is still valid.
                let seen = looks.withLockedValue { $0 }
                while looks.withLockedValue({ $0 }) < seen + 3 { try await Task.sleep(for: .milliseconds(1)) }
                try await peer.send(ClientFrame(.connection, .ping(UInt64(round))))
                #expect(try await peer.nextOfAny()?.body == .pong(UInt64(round)))
            }
            peer.close()
        }
    }

    /// A silent peer is found also where the wall clock stands still, or goes back.
    @Test(arguments: [0, -Self.day])
    func aSilentPeerIsFoundWhateverTheWallClockSays(jump: Int64) async throws {
        let clock = ManualClock(.now())
        try await TestServer.with(
            MemoryEngine(), limits: Self.limits(keepalive: 200), clock: clock.clock
        ) { server in
            let peer = try await RawPeer.secure(server)
            clock.advance(microseconds: jump)
            #expect(try await peer.isClosed(within: .seconds(10)))
        }
    }
}
