import NIOCore
import Testing

@testable import MartletTLSOpenSSL

@Suite(.timeLimit(.minutes(1)))
struct CloseTests {
    let certificates: TestCertificates

    init() throws {
        certificates = try TestCertificates.shared.get()
    }

    private func connect(_ server: TestServer, halfClosure: Bool = false) async throws -> (client: Peer, server: Peer) {
        let client = try await server.connect(TLSClientContext(certificates.client), halfClosure: halfClosure)
        let accepted = try await server.accept()
        _ = try await client.handshake()
        _ = try await accepted.handshake()
        return (client, accepted)
    }

    @Test func aCloseIsCleanOnBothSides() async throws {
        let server = try await TestServer(certificates.server)
        for closesClient in [true, false] {
            let (client, accepted) = try await connect(server)
            try await (closesClient ? client : accepted).channel.close()
            #expect(await client.rest().errors.isEmpty)
            #expect(await accepted.rest().errors.isEmpty)
        }
        await server.close()
    }

    @Test func flushedWritesArriveBeforeTheClose() async throws {
        let server = try await TestServer(certificates.server)
        let (client, accepted) = try await connect(server)
        let sent = ByteBuffer(repeating: 7, count: 5_000_000)
        accepted.channel.writeAndFlush(sent, promise: nil)
        try await accepted.channel.close()
        let (bytes, errors) = await client.rest()
        #expect(bytes == sent)
        #expect(errors.isEmpty)
        await server.close()
    }

    @Test func bothCloseAtOnce() async throws {
        let server = try await TestServer(certificates.server)
        for _ in 0..<20 {
            let (client, accepted) = try await connect(server)
            async let first: Void = client.close()
            async let second: Void = accepted.close()
            _ = await (first, second)
            #expect(await client.rest().errors.isEmpty)
            #expect(await accepted.rest().errors.isEmpty)
        }
        await server.close()
    }

    @Test func aPeerThatDoesNotAnswerAGoodbyeIsClosedAllTheSame() async throws {
        var configuration = certificates.server
        configuration.closeTimeout = .milliseconds(100)
        let server = try await TestServer(configuration)
        let (client, accepted) = try await connect(server)
        // It does not read any more.
        try await client.channel.setOption(.autoRead, value: false).get()
        try await client.channel.eventLoop.submit {}.get()
        try await accepted.channel.close()
        #expect(await accepted.rest().errors.isEmpty)
        client.channel.close(promise: nil)
        await server.close()
    }

    /// Hears nothing of the peer any more but the end of the transport.
    private final class DeafHandler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        func channelRead(context: ChannelHandlerContext, data: NIOAny) {}
    }

    @Test func aPeerThatClosesAtTheEndOfTheTransportIsNotWaitedFor() async throws {
        var configuration = certificates.server
        configuration.closeTimeout = .hours(1)
        let server = try await TestServer(configuration)
        let (client, accepted) = try await connect(server)
        let channel = client.channel
        try await channel.eventLoop.submit {
            try channel.pipeline.syncOperations.addHandler(DeafHandler(), position: .first)
        }.get()
        try await accepted.channel.close()
        #expect(await accepted.rest().errors.isEmpty)
        #expect(await client.rest().errors.count == 1)
        await server.close()
    }

    @Test func ofAPeerThatGoesOnSendingAfterAGoodbyeNoMoreIsRead() async throws {
        var configuration = certificates.server
        configuration.closeTimeout = .milliseconds(500)
        let server = try await TestServer(configuration)
        // It does not answer a goodbye by itself.
        let (client, accepted) = try await connect(server, halfClosure: true)
        let handler = try await accepted.channel.pipeline.handler(type: TLSHandler.self)
            .map { NIOLoopBound($0, eventLoop: accepted.channel.eventLoop) }.get()
        let closed: EventLoopFuture<Void> = accepted.channel.close()
        for await event in client.seen { if case .inputClosed = event { break } }
        for _ in 0..<400 { client.channel.writeAndFlush(ByteBuffer(repeating: 7, count: 100_000), promise: nil) }
        try await closed.get()
        let bytes = try await accepted.channel.eventLoop.submit { handler.value.closingBytes }.get()
        // The last read may have brought some more.
        #expect(bytes > TLSHandler.closingBytesMax && bytes < 2 * TLSHandler.closingBytesMax, "\(bytes)")
        client.channel.close(promise: nil)
        await server.close()
    }

    @Test func aHalfClosedConnectionGoesOnTheOtherWay() async throws {
        let server = try await TestServer(certificates.server, halfClosure: true)
        let (client, accepted) = try await connect(server)
        client.channel.writeAndFlush(ByteBuffer(string: "question"), promise: nil)
        try await client.channel.close(mode: .output)
        await #expect(throws: ChannelError.self) { try await client.send(ByteBuffer(string: "more")) }

        #expect(try await accepted.bytes(8) == ByteBuffer(string: "question"))
        for await event in accepted.seen {
            guard case .inputClosed = event else {
                Issue.record("\(event)")
                continue
            }
            break
        }
        try await accepted.send(ByteBuffer(string: "answer"))
        #expect(try await client.bytes(6) == ByteBuffer(string: "answer"))
        try await accepted.channel.close()
        #expect(await client.rest().errors.isEmpty)
        #expect(await accepted.rest().errors.isEmpty)
        await server.close()
    }

    @Test func outputClosedBeforeTheHandshakeClosesAfterIt() async throws {
        let server = try await TestServer(certificates.server)
        let client = try await server.connect(certificates.client)
        client.channel.writeAndFlush(ByteBuffer(string: "bye"), promise: nil)
        try await client.channel.close(mode: .output)
        let (bytes, errors) = try await server.accept().rest()
        #expect(bytes == ByteBuffer(string: "bye"))
        #expect(errors.isEmpty)
        #expect(await client.rest().errors.isEmpty)
        await server.close()
    }
}
