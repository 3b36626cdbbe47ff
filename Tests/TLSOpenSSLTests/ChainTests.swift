import CMartletOpenSSL
import Foundation
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import MartletTLSOpenSSL

/// Who is trusted, by which certificates, and for how long.
@Suite(.timeLimit(.minutes(1)))
struct ChainTests {
    let chains: Chains

    init() throws { chains = try Chains.shared.get() }

    /// What each side makes of a handshake; nil where it is well.
    private func attempt(
        _ server: TLSServerConfiguration, _ client: TLSClientConfiguration
    ) async throws -> (server: TLSError?, client: TLSError?) {
        let listener = try await TestServer(server)
        let connecting = try await listener.connect(client)
        let accepted = try await listener.accept()
        func failure(_ peer: Peer) async -> TLSError? {
            do {
                _ = try await peer.handshake()
                return nil
            } catch { return error as? TLSError }
        }
        let atServer = await failure(accepted)
        let atClient = await failure(connecting)
        await connecting.close()
        await listener.close()
        return (atServer, atClient)
    }

    // MARK: Anchors

    @Test func anIssuingCAAloneIsAnAnchorOnBothSides() async throws {
        let result = try await attempt(
            chains.server(trusting: "issuing"), chains.client("client", trusting: "issuing"))
        #expect(result.server == nil && result.client == nil, "\(result)")
    }

    @Test func nothingBesideTheAnchorIsTrusted() async throws {
        let own = try chains.copy()
        defer { own.remove() }
        // The peer sends all of its chain, the root too.
        try own.chain("other", "sister", "root")
        let (server, _) = try await attempt(
            own.server(trusting: "issuing"), own.client("other", trusting: "issuing"))
        #expect(server?.kind == .certificate, "\(String(describing: server))")
        // Nor is it of a server: its chain leads to the issuing CA.
        try own.chain("server", "issuing", "root")
        let (_, client) = try await attempt(
            own.server(trusting: "issuing"), own.client("client", trusting: "sister"))
        #expect(client?.kind == .certificate, "\(String(describing: client))")
    }

    @Test func aRootIsAnAnchorForAllItsCAs() async throws {
        for name in ["client", "other"] {
            let result = try await attempt(chains.server(trusting: "root"), chains.client(name, trusting: "root"))
            #expect(result.server == nil && result.client == nil, "\(result)")
        }
    }

    // MARK: Names

    @Test(arguments: ["", "subjectAltName=email:x@localhost", "subjectAltName=URI:https://localhost"])
    func aCommonNameIsNoName(_ extensions: String) async throws {
        let own = try chains.copy()
        defer { own.remove() }
        try own.sign("server", by: "issuing", days: 9, extensions: extensions, subject: "localhost")
        try own.chain("server", "issuing")
        let (_, client) = try await attempt(
            own.server(trusting: "issuing"), own.client("client", trusting: "root"))
        #expect(client?.kind == .certificate, "\(String(describing: client))")
    }

    // MARK: Ends

    private func days(_ end: Int64?) -> Double {
        (Double(end ?? 0) / 1_000_000 - Date().timeIntervalSince1970) / 86_400
    }

    /// A handler that a server has made, as its connection holds it.
    private func accepted(_ server: TestServer) async throws -> (Peer, Peer.Handshake) {
        let peer = try await server.accept()
        let handshake = try await peer.handshake()
        // So that the client gets its ticket.
        try await peer.send(ByteBuffer(string: "x"))
        return (peer, handshake)
    }

    private func end(_ peer: Peer) async throws -> Int64? {
        try await peer.channel.eventLoop.submit {
            try peer.channel.pipeline.syncOperations.handler(type: TLSHandler.self).peerTrustEndMicros
        }.get()
    }

    private func recheck(_ peer: Peer, under context: TLSServerContext) async throws -> Int64? {
        try await peer.channel.eventLoop.submit {
            try peer.channel.pipeline.syncOperations.handler(type: TLSHandler.self).recheckPeer(under: context)
        }.get()
    }

    /// The chain ends with its first certificate that does, and a resumed session knows it.
    @Test(arguments: [("root", 500.0), ("issuing", 500.0)])
    func theEarliestEndOfTheChainIsKept(anchor: String, expected: Double) async throws {
        let server = try await TestServer(chains.server(trusting: anchor))
        let context = try TLSClientContext(chains.client("client", trusting: "root"))
        for round in 0..<3 {
            let client = try await server.connect(context)
            let (peer, handshake) = try await accepted(server)
            #expect(handshake.resumed == (round > 0))
            #expect(abs(days(try await end(peer)) - expected) < 1)
            _ = try await client.bytes(1)
            await client.close()
        }
        await server.close()
    }

    @Test func aClientWithoutACertificateHasNoEnd() async throws {
        let certificates = try TestCertificates.shared.get()
        let server = try await TestServer(certificates.server)
        let client = try await server.connect(certificates.client)
        #expect(try await end(accepted(server).0) == nil)
        await client.close()
        await server.close()
    }

    /// A ticket whose chain has an intermediate that has expired is not taken, though the client's certificate is valid.
    @Test func aTicketDoesNotOutliveAnIntermediate() async throws {
        let own = try chains.copy()
        defer { own.remove() }
        try own.sign("issuing", by: "root", days: -1, extensions: "basicConstraints=critical,CA:TRUE")
        try own.chain("client", "issuing")
        var configuration = own.server(trusting: "root")
        configuration.certificateFile = own.path("server.pem")
        let server = try await TestServer(configuration)
        // A server that looks at no clock lets the client in, and gives it a ticket.
        server.context.current.withLockedValue { context in
            _ = unsafe X509_VERIFY_PARAM_set_flags(
                SSL_CTX_get0_param(context.pointer), UInt(X509_V_FLAG_NO_CHECK_TIME))
        }
        // The client trusts the server's certificate itself.
        let context = try TLSClientContext(own.client("client", trusting: "server"))
        for round in 0..<2 {
            let client = try await server.connect(context)
            let (_, handshake) = try await accepted(server)
            #expect(handshake.identity != nil)
            #expect(!handshake.resumed, "round \(round)")
            _ = try await client.bytes(1)
            await client.close()
        }
        await server.close()
    }

    // MARK: Rechecks

    @Test func aRecheckGoesByWhatIsTrustedNow() async throws {
        let own = try chains.copy()
        defer { own.remove() }
        try FileManager.default.copyItem(atPath: own.path("root.pem"), toPath: own.path("anchors.pem"))
        let server = try await TestServer(own.server(trusting: "anchors"))
        let context = try TLSClientContext(own.client("client", trusting: "root"))
        let first = try await server.connect(context)
        let (full, _) = try await accepted(server)
        _ = try await first.bytes(1)
        let second = try await server.connect(context)
        let (resumed, handshake) = try await accepted(server)
        #expect(handshake.resumed)

        func trust(_ names: String...) throws {
            let text = try names.map { try String(contentsOfFile: own.path("\($0).pem"), encoding: .utf8) }.joined()
            try Data(text.utf8).write(to: URL(filePath: own.path("anchors.pem")))
            try server.context.reload()
        }
        for peer in [full, resumed] {
            // Its own issuer, another root beside it: still trusted, by the peer's intermediate.
            try trust("sister", "root")
            #expect(abs(days(try await recheck(peer, under: server.context)) - 500) < 1)
            try trust("issuing")
            #expect(abs(days(try await recheck(peer, under: server.context)) - 500) < 1)
            try trust("sister")
            await #expect(throws: TLSError.self) { try await recheck(peer, under: server.context) }
        }
        for peer in [first, second] { await peer.close() }
        await server.close()
    }

    @Test func aReloadIsTold() async throws {
        let context = try TLSServerContext(chains.server(trusting: "root"))
        let (told, continuation) = AsyncStream.makeStream(of: Void.self)
        context.whenReloaded { continuation.yield() }
        try context.reload()
        context.whenReloaded(nil)
        try context.reload()
        continuation.finish()
        #expect(await told.reduce(0) { count, _ in count + 1 } == 1)
    }

    // MARK: Keys

    @Test(arguments: [0o644, 0o604, 0o660, 0o620, 0o602])
    func aKeyThatOthersMayReadOrChangeIsRefused(mode: Int) throws {
        let own = try chains.copy()
        defer { own.remove() }
        for name in ["server.key", "client.key"] {
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: own.path(name))
        }
        let attempts: [() throws -> Void] = [
            { _ = try TLSServerContext(own.server(trusting: "root")) },
            { _ = try TLSClientContext(own.client("client", trusting: "root")) },
            {
                _ = try CertificateReport(
                    certificateFile: own.path("server.pem"), privateKeyFile: own.path("server.key"))
            },
        ]
        for attempt in attempts {
            let error = #expect(throws: TLSError.self) { try attempt() }
            #expect(error?.kind == .configuration)
            #expect(error?.message.contains("run chmod 600 \(own.folder)/") == true, "\(String(describing: error))")
        }
    }

    @Test(arguments: [0o600, 0o400, 0o640])
    func aKeyOfItsOwnerAndGroupIsTaken(mode: Int) throws {
        let own = try chains.copy()
        defer { own.remove() }
        try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: own.path("server.key"))
        _ = try TLSServerContext(own.server(trusting: "root"))
    }
}
