import FoundationEssentials
import MartletClient
import MartletModel
import MartletRecordCodec
import MartletSession
import MartletStorageMemory
import MartletTesting
import NIOCore
import Testing

/// Peers that do wrong: each gets the precise error or a clean close, and the others are served.
@Suite struct BadPeerTests {
    private static let tenant = TenantID(UUID())

    /// Runs `body`, and checks that the server still serves others afterwards, with nothing stored.
    private func withServer(
        limits: Limits = Limits(), _ body: @escaping @Sendable (TestServer) async throws -> Void
    ) async throws {
        try await TestServer.with(MemoryEngine(), limits: limits) { server in
            try await body(server)
            let head = try await server.withClient { try await $0.head(of: Self.tenant) }
            #expect(head == .empty)
        }
    }

    @Test(arguments: [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\u{16}\u{3}\u{1}\u{7F}garbage", String(repeating: "x", count: 70_000),
    ])
    func bytesThatAreNoTLSCloseTheConnection(_ text: String) async throws {
        try await withServer { server in
            let peer = try await RawPeer.bare(server)
            try await peer.send(bytes: Array(text.utf8))
            #expect(try await peer.isClosed(within: .seconds(5)))
        }
    }

    @Test func aHandshakeThatIsNeverFinishedTimesOut() async throws {
        try await withServer { server in
            let peer = try await RawPeer.bare(server)
            #expect(try await peer.isClosed(within: .seconds(15)))
        }
    }

    @Test func aHelloThatNeverComesTimesOut() async throws {
        var limits = Limits()
        limits.handshakeMillis = 300
        try await withServer(limits: limits) { server in
            let peer = try await RawPeer.secure(server, hello: false)
            guard case .status(let error)? = try await peer.next()?.body else {
                Issue.record("no status came")
                return
            }
            #expect(error?.reason == .helloExpected)
            #expect(try await peer.isClosed(within: .seconds(5)))
        }
    }

    @Test func aSilentPeerIsPingedAndThenClosed() async throws {
        var limits = Limits()
        limits.keepaliveMillis = 200
        limits.handshakeMillis = 200
        try await withServer(limits: limits) { server in
            let peer = try await RawPeer.secure(server)
            // Answered by `next()` while something is waited for; here nobody answers.
            #expect(try await peer.isClosed(within: .seconds(5)))
        }
    }

    @Test func aDeclaredLengthThatNeverComesHoldsUpNobody() async throws {
        try await withServer { server in
            let peer = try await RawPeer.secure(server)
            try await peer.send(bytes: [0, 0, 0x7F, 0xFF, 0xFF, 1, 2, 3])
            let status = try await server.withClient { try await $0.status() }
            #expect(status.storageReady)
            peer.close()
        }
    }

    @Test func aPeerThatStopsReadingCostsABoundedAmountAndIsClosed() async throws {
        var limits = Limits()
        limits.writeStallMillis = 500
        limits.handshakeMillis = 400
        try await TestServer.with(MemoryEngine(), limits: limits) { server in
            let tenant = TenantID(UUID())
            try await server.withClient { client in
                let name = AggregateName(type: AggregateType("big"), id: UUID())
                let kind = EventType("Big")
                let payload = ByteBuffer(string: "\"" + String(repeating: "x", count: 500_000) + "\"")
                for _ in 0..<40 {
                    _ = try await client.append(
                        [NewEvent(type: kind, payload: payload)], to: name, expecting: .any, tenant: tenant)
                }
                let peer = try await RawPeer.secure(server, autoRead: false)
                defer { peer.close() }
                // Credit without end, and nothing is taken from the socket.
                try await peer.send(
                    ClientFrame(CallID(1), .request(.read(ReadRequest(tenant: tenant))), creditBytes: 1 << 40))
                // Others are served meanwhile and afterwards.
                #expect(try await client.head(of: tenant).position == Position(40))
                let deadline = ContinuousClock.now + .seconds(10)
                while try await client.status().connections > 1, .now < deadline {
                    try await Task.sleep(for: .milliseconds(50))
                }
                #expect(try await client.status().connections == 1, "the stalled connection was closed")
            }
        }
    }

    @Test func tooManyConnectionsAreRefusedWithTheLimit() async throws {
        var limits = Limits()
        limits.connectionsMax = 2
        try await TestServer.with(MemoryEngine(), limits: limits) { server in
            let first = try await RawPeer.secure(server)
            let second = try await RawPeer.secure(server)
            let third = try await RawPeer.secure(server, hello: false)
            guard case .status(let error)? = try await third.next()?.body else {
                Issue.record("no status came")
                return
            }
            #expect(error?.reason == .tooManyConnections && error?.isRetryable == true && error?.limit?.limit == 2)
            #expect(try await third.isClosed(within: .seconds(5)))
            for peer in [first, second] { peer.close() }
        }
    }

    @Test func aCancelledCallEndsWithItsStatus() async throws {
        try await withServer { server in
            let peer = try await RawPeer.secure(server)
            try await peer.send(ClientFrame(CallID(1), .request(.subscribe(SubscribeRequest(tenant: Self.tenant)))))
            try await peer.send(ClientFrame(CallID(1), .cancel))
            try await peer.send(ClientFrame(CallID(1), .credit(5)))
            var last: ServerFrame?
            while let frame = try await peer.next() {
                last = frame
                if case .status = frame.body { break }
            }
            guard case .status(let error)? = last?.body else {
                Issue.record("no status came")
                return
            }
            #expect(error?.reason == .cancelled)
            peer.close()
        }
    }
}
