import CMartletOpenSSL
import NIOConcurrencyHelpers
import NIOCore
import Synchronization
import Testing

@testable import MartletTLSOpenSSL

@Suite(.timeLimit(.minutes(1)))
struct HandshakeTests {
    let certificates: TestCertificates

    init() throws {
        certificates = try TestCertificates.shared.get()
    }

    /// Connects, and answers what each side makes of it.
    private func attempt(
        _ server: TLSServerConfiguration, _ client: TLSClientConfiguration
    ) async throws -> (server: TLSError?, client: TLSError?) {
        let listener = try await TestServer(server)
        let client = try await listener.connect(client)
        let server = try await listener.accept()
        async let clientFailure = client.failure()
        async let serverFailure = server.failure()
        let result = await (serverFailure, clientFailure)
        await listener.close()
        return result
    }

    @Test func agreesOnALPNAndKnowsTheServer() async throws {
        let server = try await TestServer(certificates.server)
        let client = try await server.connect(certificates.client)
        let atClient = try await client.handshake()
        #expect(atClient.alpn == "martlet/1")
        #expect(atClient.identity?.subject == "CN=localhost,O=Martlet development")
        #expect(!atClient.resumed)
        let atServer = try await server.accept().handshake()
        #expect(atServer == Peer.Handshake(identity: nil, alpn: "martlet/1", resumed: false))
        await client.close()
        await server.close()
    }

    @Test func choosesTheServersFavouriteALPN() async throws {
        var configuration = certificates.server
        configuration.alpn = ["h2", "martlet/2", "martlet/1"]
        let server = try await TestServer(configuration)
        var offer = certificates.client
        offer.alpn = ["martlet/1", "martlet/2"]
        let client = try await server.connect(offer)
        #expect(try await client.handshake().alpn == "martlet/2")
        await client.close()
        await server.close()
    }

    @Test func refusesAClientOfAnotherProtocol() async throws {
        var client = certificates.client
        client.alpn = ["h3"]
        let (server, atClient) = try await attempt(certificates.server, client)
        #expect(server?.kind == .noApplicationProtocol)
        #expect(atClient?.kind == .noApplicationProtocol)
    }

    @Test func refusesAClientWithoutALPN() async throws {
        var client = certificates.client
        client.alpn = []
        let (server, atClient) = try await attempt(certificates.server, client)
        #expect(server?.kind == .noApplicationProtocol)
        #expect(atClient?.kind == .noApplicationProtocol)
    }

    @Test func clientRefusesAServerWithoutALPN() async throws {
        var configuration = certificates.server
        configuration.alpn = []
        #expect(try await attempt(configuration, certificates.client).client?.kind == .noApplicationProtocol)
    }

    @Test func acceptsTheServersAddressAsItsName() async throws {
        let server = try await TestServer(certificates.server)
        for name in ["127.0.0.1", "::1"] {
            var configuration = certificates.client
            configuration.serverName = name
            let client = try await server.connect(configuration)
            _ = try await client.handshake()
            await client.close()
        }
        await server.close()
    }

    @Test(arguments: ["example.com", "127.0.0.2", "localhost.example.com", "ocalhost"])
    func clientRefusesAnotherName(name: String) async throws {
        var client = certificates.client
        client.serverName = name
        let (server, atClient) = try await attempt(certificates.server, client)
        #expect(atClient?.kind == .certificate)
        #expect(atClient?.message.contains("mismatch") == true)
        #expect(server?.kind == .refusedByPeer)
    }

    @Test func clientRefusesAServerOfAnotherCA() async throws {
        let (server, client) = try await attempt(TestCertificates.foreign.get().server, certificates.client)
        #expect(client?.kind == .certificate)
        #expect(server?.kind == .refusedByPeer)
    }

    @Test func clientRefusesAnExpiredCertificate() async throws {
        let own = try certificates.copy()
        defer { own.remove() }
        try own.sign("expired", key: "server", days: -1, alternativeNames: "DNS:localhost")
        var server = own.server
        server.certificateFile = own.path("expired.pem")
        let (_, client) = try await attempt(server, own.client)
        #expect(client?.kind == .certificate)
        #expect(client?.message.contains("expired") == true)
    }

    @Test func refusesAClientWithoutACertificate() async throws {
        let (server, client) = try await attempt(certificates.verifyingServer, certificates.client)
        #expect(server?.kind == .certificate)
        #expect(client?.kind == .refusedByPeer)
        #expect(client?.message.contains("certificate required") == true)
    }

    @Test func refusesAClientOfAnotherCA() async throws {
        var client = try TestCertificates.foreign.get().client(certificate: "client")
        client.caFile = certificates.path("ca.pem")
        let (server, atClient) = try await attempt(certificates.verifyingServer, client)
        #expect(server?.kind == .certificate)
        #expect(atClient?.kind == .refusedByPeer)
    }

    @Test func refusesAServersCertificateInAClientsPlace() async throws {
        let (server, _) = try await attempt(
            certificates.verifyingServer, certificates.client(certificate: "server"))
        #expect(server?.kind == .certificate)
    }

    @Test func knowsTheTenantsOfAClientAlsoWhenItResumes() async throws {
        let server = try await TestServer(certificates.verifyingServer)
        let context = try TLSClientContext(certificates.client(certificate: "both"))
        let identity = PeerIdentity(
            subject: "CN=both,O=Martlet development",
            uris: TestCertificates.tenants.map { "spiffe://martlet.dev/tenant/\($0)" })
        for round in 0..<4 {
            let client = try await server.connect(context)
            let accepted = try await server.accept()
            let atClient = try await client.handshake()
            #expect(atClient.resumed == (round > 0))
            #expect(atClient.identity?.subject == "CN=localhost,O=Martlet development")
            let atServer = try await accepted.handshake()
            #expect(atServer == Peer.Handshake(identity: identity, alpn: "martlet/1", resumed: round > 0))
            try await accepted.send(ByteBuffer(string: "x"))
            #expect(try await client.bytes(1).readableBytes == 1)
            await client.close()
        }
        await server.close()
    }

    @Test func aTicketDoesNotOutliveItsCertificate() async throws {
        let own = try certificates.copy()
        defer { own.remove() }
        try own.sign("both", key: "both", days: -1, alternativeNames: "URI:spiffe://martlet.dev/tenant/x")
        let server = try await TestServer(own.verifyingServer)
        // A server that looks at no clock lets the expired client in, and gives it a ticket.
        server.context.current.withLockedValue { context in
            _ = unsafe X509_VERIFY_PARAM_set_flags(
                SSL_CTX_get0_param(context.pointer), UInt(X509_V_FLAG_NO_CHECK_TIME))
        }
        let context = try TLSClientContext(own.client(certificate: "both"))
        for _ in 0..<2 {
            let client = try await server.connect(context)
            let accepted = try await server.accept()
            // The ticket is not taken: the certificate has to be shown again, and a server with a clock would refuse it.
            #expect(try await !client.handshake().resumed)
            #expect(try await accepted.handshake().identity != nil)
            try await accepted.send(ByteBuffer(string: "x"))
            #expect(try await client.bytes(1).readableBytes == 1)
            await client.close()
        }
        await server.close()
    }

    @Test func anotherClientCAEndsResumption() async throws {
        let foreign = try TestCertificates.foreign.get()
        let own = try certificates.copy()
        defer { own.remove() }
        let server = try await TestServer(own.verifyingServer)
        let context = try TLSClientContext(own.client(certificate: "both"))
        let first = try await server.connect(context)
        let accepted = try await server.accept()
        try await accepted.send(ByteBuffer(string: "x"))
        _ = try await first.bytes(1)

        // The CA that knows this client goes, another comes.
        var client = own.client
        client.caFile = certificates.path("ca.pem")
        try own.replace("ca.pem", with: "ca.pem", of: foreign)
        try server.context.reload()
        let second = try await server.connect(context)
        #expect(try await server.accept().failure()?.kind == .certificate)

        await first.close()
        await second.close()
        await server.close()
    }

    @Test func speaksTLS12OnlyWhenAllowed() async throws {
        for isAllowed in [false, true] {
            var configuration = certificates.verifyingServer
            configuration.allowTLS12 = isAllowed
            let server = try await TestServer(configuration)
            let output = Result {
                try run(
                    "openssl", "s_client", "-tls1_2", "-alpn", "martlet/1", "-connect", "127.0.0.1:\(server.port)",
                    "-CAfile", certificates.path("ca.pem"), "-verify_return_error", "-cert",
                    certificates.path("both.pem"), "-key", certificates.path("both.key"))
            }
            if isAllowed {
                let text = try output.get()
                #expect(text.contains("ALPN protocol: martlet/1"))
                #expect(text.contains("Compression: NONE"))
                #expect(try await server.accept().handshake().identity?.uris.count == 2)
            } else {
                #expect(throws: CommandFailure.self) { try output.get() }
                #expect(try await server.accept().failure()?.kind == .handshake)
            }
            await server.close()
        }
    }

    @Test func refusesFilesThatCannotBeUsed() throws {
        let own = certificates
        let foreign = try TestCertificates.foreign.get()
        var missing = own.server
        missing.certificateFile = own.path("none.pem")
        var otherKey = own.server
        otherKey.privateKeyFile = foreign.path("server.key")
        var noCA = own.server
        noCA.clientCAFile = own.path("server.key")
        var badALPN = own.server
        badALPN.alpn = [""]
        for (configuration, part) in [
            (missing, "No such file"), (otherKey, "key values mismatch"), (noCA, "no certificate"), (badALPN, "ALPN"),
        ] {
            let error = #expect(throws: TLSError.self) { try TLSServerContext(configuration) }
            #expect(error?.kind == .configuration)
            #expect(error?.message.contains(part) == true, "\(String(describing: error))")
        }
        var noName = own.client
        noName.serverName = ""
        var half = own.client
        half.certificateFile = own.path("client.pem")
        for configuration in [noName, half] {
            let error = #expect(throws: TLSError.self) { try TLSClientContext(configuration) }
            #expect(error?.kind == .configuration)
        }
    }

    @Test func aKeyWithAPassphraseIsAnErrorAndNoQuestion() throws {
        let own = try certificates.copy()
        defer { own.remove() }
        try run(
            "openssl", "pkcs8", "-topk8", "-in", own.path("server.key"), "-passout", "pass:secret", "-out",
            own.path("locked.key"))
        var configuration = own.server
        configuration.privateKeyFile = own.path("locked.key")
        let error = #expect(throws: TLSError.self) { try TLSServerContext(configuration) }
        #expect(error?.kind == .configuration)
    }
}
