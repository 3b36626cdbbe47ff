import NIOCore
import NIOEmbedded
import Testing

@testable import MartletTLSOpenSSL

/// The handler on channels without sockets, where each write is seen as it leaves and time stands still.
@Suite struct EmbeddedTests {
    private struct Pair {
        let client: EmbeddedChannel
        let server: EmbeddedChannel

        init(handshakes: Bool = true) throws {
            let certificates = try TestCertificates.shared.get()
            let clientContext = try TLSClientContext(certificates.client)
            var configuration = certificates.server
            configuration.handshakeTimeout = .seconds(10)
            let serverContext = try TLSServerContext(configuration)
            client = try EmbeddedChannel(handler: clientContext.makeHandler())
            server = try EmbeddedChannel(handler: serverContext.makeHandler())
            let address = try SocketAddress(ipAddress: "127.0.0.1", port: 1)
            client.connect(to: address, promise: nil)
            server.connect(to: address, promise: nil)
            if handshakes { try pump() }
        }

        /// Carries all that either side sends to the other, in pieces of at most that many bytes.
        func pump(pieceBytes: Int = .max) throws {
            var isMoving = true
            while isMoving {
                isMoving = false
                for (from, to) in [(client, server), (server, client)] {
                    while var bytes = try from.readOutbound(as: ByteBuffer.self) {
                        isMoving = true
                        while bytes.readableBytes > 0 {
                            let piece = bytes.readSlice(length: min(pieceBytes, bytes.readableBytes))
                            try to.writeInbound(piece ?? ByteBuffer())
                        }
                    }
                }
            }
        }

        /// Both say goodbye, which `EmbeddedChannel.finish` alone would wait for in vain.
        func finish() {
            client.close(promise: nil)
            try? pump()
            for channel in [client, server] { channel.embeddedEventLoop.advanceTime(by: .seconds(10)) }
            _ = try? client.finish(acceptAlreadyClosed: true)
            _ = try? server.finish(acceptAlreadyClosed: true)
        }
    }

    /// The lengths of the records in `ciphertext`, without their headers.
    private func recordLengths(_ ciphertext: ByteBuffer) -> [Int] {
        var ciphertext = ciphertext
        var lengths: [Int] = []
        while ciphertext.readBytes(length: 3) != nil, let length = ciphertext.readInteger(as: UInt16.self),
            ciphertext.readSlice(length: Int(length)) != nil
        {
            lengths.append(Int(length))
        }
        return lengths
    }

    /// What a TLS 1.3 record adds to its plaintext, besides the header.
    private static let overhead = 17

    @Test(arguments: [
        ([Int](repeating: 100, count: 100), [10_000]),
        ([Int](repeating: 1_000, count: 40), [16_384, 16_384, 7_232]),
        ([5], [5]),
        ([20_000, 20_000], [16_384, 16_384, 7_232]),
        ([100, 50_000], [16_384, 16_384, 16_384, 948]),
        ([16_384, 16_384], [16_384, 16_384]),
        ([0, 10, 0], [10]),
    ])
    func aFlushIsOneWriteOfFullRecords(writes: [Int], records: [Int]) throws {
        let pair = try Pair()
        defer { pair.finish() }
        var expected = ByteBuffer()
        for (index, count) in writes.enumerated() {
            let bytes = ByteBuffer(repeating: UInt8(truncatingIfNeeded: index), count: count)
            expected.writeImmutableBuffer(bytes)
            pair.server.write(bytes, promise: nil)
        }
        #expect(try pair.server.readOutbound(as: ByteBuffer.self) == nil)
        pair.server.flush()
        let ciphertext = try #require(try pair.server.readOutbound(as: ByteBuffer.self))
        #expect(try pair.server.readOutbound(as: ByteBuffer.self) == nil)
        #expect(recordLengths(ciphertext) == records.map { $0 + Self.overhead })
        // One read, one plaintext.
        try pair.client.writeInbound(ciphertext)
        #expect(try pair.client.readInbound(as: ByteBuffer.self) == expected)
    }

    @Test func byteByByteIsAsGoodAsAtOnce() throws {
        let pair = try Pair(handshakes: false)
        defer { pair.finish() }
        let sent = ByteBuffer(repeating: 9, count: 20_000)
        // Written before the handshake.
        pair.client.writeAndFlush(sent, promise: nil)
        try pair.pump(pieceBytes: 1)
        var received = ByteBuffer()
        while let part = try pair.server.readInbound(as: ByteBuffer.self) { received.writeImmutableBuffer(part) }
        #expect(received == sent)
    }

    @Test func everyWriteIsToldOfItsFlush() throws {
        let pair = try Pair()
        defer { pair.finish() }
        let writes = (0..<3).map { pair.client.write(ByteBuffer(repeating: 1, count: $0 * 10_000)) }
        pair.client.flush()
        pair.client.embeddedEventLoop.run()
        for write in writes { try write.wait() }
    }

    @Test func unflushedWritesFailOnClose() throws {
        let pair = try Pair()
        defer { pair.finish() }
        let write = pair.client.write(ByteBuffer(string: "never flushed"))
        let close = pair.client.close()
        #expect(throws: ChannelError.ioOnClosedChannel) { try write.wait() }
        try pair.pump()
        pair.client.embeddedEventLoop.run()
        try close.wait()
        #expect(try pair.server.readInbound(as: ByteBuffer.self) == nil)
        #expect(!pair.client.isActive)
    }

    @Test func tooMuchBeforeTheHandshakeIsRefused() throws {
        let pair = try Pair(handshakes: false)
        defer { pair.finish() }
        let first = pair.client.write(ByteBuffer(repeating: 1, count: 16 * 1_024 * 1_024))
        let second = pair.client.write(ByteBuffer(string: "x"))
        for write in [first, second] {
            let error = #expect(throws: TLSError.self) { try write.wait() }
            #expect(error?.kind == .bufferFull)
        }
    }

    @Test func theHandshakeHasTenSeconds() throws {
        #expect(TLSServerConfiguration(certificateFile: "", privateKeyFile: "").handshakeTimeout == .seconds(10))
        let pair = try Pair(handshakes: false)
        defer { pair.finish() }
        let early = pair.server.writeAndFlush(ByteBuffer(string: "early"))
        pair.server.embeddedEventLoop.advanceTime(by: .seconds(9))
        try pair.server.throwIfErrorCaught()
        #expect(pair.server.isActive)
        pair.server.embeddedEventLoop.advanceTime(by: .seconds(2))
        let error = #expect(throws: TLSError.self) { try pair.server.throwIfErrorCaught() }
        #expect(error?.kind == .handshakeTimeout)
        #expect(!pair.server.isActive)
        #expect(throws: TLSError.self) { try early.wait() }
    }

    @Test func theDeadlineEndsWithTheHandshake() throws {
        let pair = try Pair()
        defer { pair.finish() }
        pair.server.embeddedEventLoop.advanceTime(by: .hours(1))
        pair.client.embeddedEventLoop.advanceTime(by: .hours(1))
        #expect(pair.server.isActive && pair.client.isActive)
    }

    @Test func aDamagedRecordEndsTheConnection() throws {
        let pair = try Pair()
        defer { pair.finish() }
        pair.client.writeAndFlush(ByteBuffer(string: "hello"), promise: nil)
        var ciphertext = try #require(try pair.client.readOutbound(as: ByteBuffer.self))
        let last = ciphertext.writerIndex - 1
        let byte = try #require(ciphertext.getInteger(at: last, as: UInt8.self))
        ciphertext.setInteger(byte ^ 1, at: last)
        let error = #expect(throws: TLSError.self) { try pair.server.writeInbound(ciphertext) }
        #expect(error?.kind == .connection)
        #expect(try pair.server.readInbound(as: ByteBuffer.self) == nil)
        // The peer is told.
        let alert = try #require(try pair.server.readOutbound(as: ByteBuffer.self))
        let refusal = #expect(throws: TLSError.self) { try pair.client.writeInbound(alert) }
        #expect(refusal?.kind == .refusedByPeer)
    }
}
