import Testing

@testable import MartletTLSOpenSSL

@Suite struct BufferTests {
    @Test func onlySoManyConnectionsKeepTheirBuffers() throws {
        let context = try SSLContext.client(
            TLSClientConfiguration(serverName: "localhost"), sessions: ClientSessions())
        let kept = (0..<SSLContext.bufferedConnectionsMax).map { _ in context.connectionOpened() }
        #expect(kept.allSatisfy { $0 })
        #expect(!context.connectionOpened())
        context.connectionClosed()
        #expect(!context.connectionOpened())
        context.connectionClosed()
        context.connectionClosed()
        #expect(context.connectionOpened())
    }
}
