import Foundation
import NIOCore
import Testing

@testable import MartletTLSOpenSSL

@Suite(.timeLimit(.minutes(1)))
struct ReloadTests {
    let certificates: TestCertificates

    init() throws {
        certificates = try TestCertificates.shared.get()
    }

    private func echo(_ text: String, over client: Peer) async throws {
        try await client.send(ByteBuffer(string: text))
        #expect(try await client.bytes(text.utf8.count) == ByteBuffer(string: text))
    }

    @Test func newConnectionsSeeTheNewCertificateAndOldOnesGoOn() async throws {
        let own = try certificates.copy()
        defer { own.remove() }
        try own.sign("newer", key: "server", days: 9, alternativeNames: "DNS:localhost")
        let server = try await TestServer(own.verifyingServer, echo: true)
        let context = try TLSClientContext(own.client(certificate: "both"))
        let old = try await server.connect(context)
        #expect(try await old.handshake().identity?.subject == "CN=localhost,O=Martlet development")
        try await echo("before", over: old)

        try own.replace("server.pem", with: "newer.pem", of: own)
        try server.context.reload()
        try await echo("after", over: old)

        // A session from before goes on ...
        let resuming = try await server.connect(context)
        #expect(try await resuming.handshake().resumed)
        try await echo("resumed", over: resuming)
        // ... and who has none gets the new certificate.
        let new = try await server.connect(own.client(certificate: "client"))
        #expect(try await new.handshake().identity?.subject == "CN=newer")
        try await echo("new", over: new)

        for peer in [old, resuming, new] { await peer.close() }
        await server.close()
    }

    @Test func aFailedReloadChangesNothing() async throws {
        let own = try certificates.copy()
        defer { own.remove() }
        let server = try await TestServer(own.server, echo: true)
        try Data("no certificate".utf8).write(to: URL(filePath: own.path("server.pem")))
        let error = #expect(throws: TLSError.self) { try server.context.reload() }
        #expect(error?.kind == .configuration)
        let client = try await server.connect(own.client)
        #expect(try await client.handshake().identity?.subject == "CN=localhost,O=Martlet development")
        try await echo("still here", over: client)
        await client.close()
        await server.close()
    }

    @Test func manyReloadsBesideManyHandshakes() async throws {
        let server = try await TestServer(certificates.verifyingServer, echo: true)
        let context = try TLSClientContext(certificates.client(certificate: "both"))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for _ in 0..<30 {
                    try server.context.reload()
                    await Task.yield()
                }
            }
            for _ in 0..<4 {
                group.addTask {
                    for _ in 0..<15 {
                        let client = try await server.connect(context)
                        try await echo("hello", over: client)
                        await client.close()
                    }
                }
            }
            try await group.waitForAll()
        }
        await server.close()
    }
}
