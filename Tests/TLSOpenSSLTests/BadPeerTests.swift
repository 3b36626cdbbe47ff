import NIOCore
import Testing

@testable import MartletTLSOpenSSL

@Suite(.timeLimit(.minutes(1)))
struct BadPeerTests {
    let certificates: TestCertificates

    init() throws {
        certificates = try TestCertificates.shared.get()
    }

    /// What a server says to a peer that sends these bytes, after which it still serves others.
    private func failure(after bytes: ByteBuffer) async throws -> TLSError? {
        let server = try await TestServer(certificates.server)
        let peer = try await server.connectPlainly()
        try await peer.send(bytes)
        let failure = try await server.accept().failure()
        // The peer sees the end of the connection, and no plaintext answer.
        _ = await peer.rest()
        let client = try await server.connect(certificates.client)
        _ = try await client.handshake()
        await client.close()
        await server.close()
        return failure
    }

    @Test(arguments: [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "POST /x HTTP/1.1\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\n\r\n",
    ])
    func plainHTTPIsNamed(request: String) async throws {
        let failure = try await failure(after: ByteBuffer(string: request))
        #expect(failure?.kind == .notTLS)
        #expect(failure?.message.contains("plain HTTP") == true)
    }

    @Test func randomBytesAreRefused() async throws {
        var generator = SystemRandomNumberGenerator()
        let seed = generator.next()
        var random = SplitMix(state: seed)
        for _ in 0..<10 {
            var bytes = (0..<2_000).map { _ in UInt8.random(in: 0...255, using: &random) }
            // 0x16, or the length and type of SSL 2.0's first message, may be the start of a record that never ends: that is
            // the timeout's case.
            if bytes[0] == 0x16 || (bytes[0] >= 0x80 && bytes[2] == 1) { bytes[0] = 0x17 }
            let failure = try await failure(after: ByteBuffer(bytes: bytes))
            #expect(failure != nil, "seed \(seed)")
        }
    }

    @Test func aDamagedClientHelloIsRefused() async throws {
        // A handshake record of 40 bytes whose message claims to be a ServerHello.
        let bytes: [UInt8] = [0x16, 3, 1, 0, 40, 2, 0, 0, 36] + [UInt8](repeating: 7, count: 36)
        #expect(try await failure(after: ByteBuffer(bytes: bytes))?.kind == .handshake)
    }

    @Test func aPeerThatNeverSpeaksIsClosed() async throws {
        var configuration = certificates.server
        configuration.handshakeTimeout = .milliseconds(100)
        let server = try await TestServer(configuration)
        let peer = try await server.connectPlainly()
        let failure = try await server.accept().failure()
        #expect(failure?.kind == .handshakeTimeout)
        #expect(failure?.message.contains("100 ms") == true)
        _ = await peer.rest()
        await server.close()
    }

    @Test func aPeerThatGoesAwayDuringTheHandshakeIsAnError() async throws {
        let server = try await TestServer(certificates.server)
        let peer = try await server.connectPlainly()
        let accepted = try await server.accept()
        try await peer.send(ByteBuffer(bytes: [0x16, 3, 1]))
        await peer.close()
        #expect(await accepted.failure()?.kind == .handshake)
        await server.close()
    }

    @Test(arguments: [false, true])
    func anEndWithoutGoodbyeIsATruncation(halfClosure: Bool) async throws {
        let server = try await TestServer(certificates.server, halfClosure: halfClosure)
        let client = try await server.connect(certificates.client)
        let accepted = try await server.accept()
        _ = try await accepted.handshake()
        try await client.send(ByteBuffer(string: "hello"))
        #expect(try await accepted.bytes(5).readableBytes == 5)
        // Below TLS.
        try await client.channel.eventLoop.submit {
            try client.channel.pipeline.syncOperations.context(handlerType: TLSHandler.self).close(promise: nil)
        }.get()
        #expect(await accepted.failure()?.kind == .truncated)
        await server.close()
    }
}

/// Random numbers that a seed reproduces.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
