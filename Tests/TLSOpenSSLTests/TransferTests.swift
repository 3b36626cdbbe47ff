import NIOCore
import Testing

@testable import MartletTLSOpenSSL

@Suite(.timeLimit(.minutes(1)))
struct TransferTests {
    let certificates: TestCertificates

    init() throws {
        certificates = try TestCertificates.shared.get()
    }

    /// `count` bytes that repeat with a period that divides no record.
    private func pattern(_ count: Int) -> ByteBuffer {
        ByteBuffer(bytes: (0..<count).lazy.map { UInt8(truncatingIfNeeded: $0 % 251) })
    }

    @Test func echoesManyMegabytesInOddPieces() async throws {
        let server = try await TestServer(certificates.server, echo: true)
        let client = try await server.connect(certificates.client)
        _ = try await client.handshake()
        let total = 6 * 1_024 * 1_024 + 17
        let sent = pattern(total)
        var left = sent
        let sizes = [1, 16_383, 3, 16_384, 16_385, 700_001, 64, 40_000, 255]
        var round = 0
        while let piece = left.readSlice(length: min(sizes[round % sizes.count], left.readableBytes)),
            piece.readableBytes > 0
        {
            client.channel.write(piece, promise: nil)
            // Sometimes one piece a flush, sometimes several.
            if round % 5 < 2 { client.channel.flush() }
            round += 1
        }
        client.channel.flush()
        let answer = try await client.bytes(total)
        #expect(answer == sent)
        await client.close()
        await server.close()
    }

    @Test func oneHugeWriteAndItsPromise() async throws {
        let server = try await TestServer(certificates.server, echo: true)
        let client = try await server.connect(certificates.client)
        let sent = pattern(9_000_001)
        // Before the handshake has ended, too.
        try await client.send(sent)
        #expect(try await client.bytes(sent.readableBytes) == sent)
        await client.close()
        await server.close()
    }

    @Test func bothSidesSendAtOnce() async throws {
        let server = try await TestServer(certificates.server)
        let client = try await server.connect(certificates.client)
        let accepted = try await server.accept()
        let count = 3_000_000
        let sent = pattern(count)
        client.channel.writeAndFlush(sent, promise: nil)
        accepted.channel.writeAndFlush(sent, promise: nil)
        #expect(try await client.bytes(count) == sent)
        #expect(try await accepted.bytes(count) == sent)
        await client.close()
        await server.close()
    }

    @Test func withoutAutoReadNothingIsReadUnasked() async throws {
        let server = try await TestServer(certificates.server, autoRead: false)
        let client = try await server.connect(certificates.client)
        let accepted = try await server.accept()
        _ = try await client.handshake()
        _ = try await accepted.handshake()
        try await client.send(pattern(100))
        // The bytes are there, and the loop looks at its sockets in each turn.
        for _ in 0..<100 { try await accepted.channel.eventLoop.submit {}.get() }
        #expect(accepted.bytesSeen == 0)
        accepted.channel.read()
        #expect(try await accepted.bytes(100) == pattern(100))
        await client.close()
        accepted.channel.close(promise: nil)
        await server.close()
    }

    @Test func manyConnectionsLeaveNothingBehind() async throws {
        let server = try await TestServer(certificates.verifyingServer, echo: true)
        let context = try TLSClientContext(certificates.client(certificate: "both"))
        let census = Census()
        for round in 0..<500 {
            let client = try await server.connect(context)
            let accepted = try await server.accept()
            for peer in [client, accepted] {
                try await peer.channel.eventLoop.submit {
                    census.watch(try peer.channel.pipeline.syncOperations.handler(type: TLSHandler.self).connection)
                }.get()
            }
            try await client.send(ByteBuffer(string: "hello"))
            #expect(try await client.bytes(5).readableBytes == 5)
            if round.isMultiple(of: 2) {
                await client.close()
            } else {
                try await accepted.channel.close()
            }
            try await client.channel.closeFuture.get()
            try await accepted.channel.closeFuture.get()
        }
        await server.close()
        #expect(census.watched == 1_000)
        // The last handlers go a moment after their channels.
        for _ in 0..<100 where census.alive > 0 { try await Task.sleep(for: .milliseconds(20)) }
        #expect(census.alive == 0)
    }
}
