import FoundationEssentials
import Logging
import MartletClient
import MartletModel
import MartletServer
import MartletStorageMemory
import MartletTLSOpenSSL
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Who takes connections and says nothing, and who wants to be served meanwhile.
@Suite(.serialized) struct FloodTests {
    private static let tenant = TenantID(UUID())

    private static func limits(_ all: Int, perAddress: Int = 5_000, greeting: Int = 1_024) -> Limits {
        var limits = Limits()
        limits.connectionsMax = all
        limits.connectionsPerAddressMax = perAddress
        limits.greetingConnectionsMax = greeting
        return limits
    }

    /// Waits until the server has closed that many of them.
    private func closed(_ peers: SilentPeers, atLeast count: Int) async throws -> Int {
        let deadline = ContinuousClock.now + .seconds(20)
        while peers.closedCount < count, .now < deadline { try await Task.sleep(for: .milliseconds(20)) }
        return peers.closedCount
    }

    /// Silent connections from one address push out each other; connections_max stays for those who say who they are.
    @Test func silentConnectionsLockNobodyOut() async throws {
        try await TestServer.with(MemoryEngine(), limits: Self.limits(3, greeting: 64)) { server in
            let client = try await RawPeer.secure(server)
            defer { client.close() }
            let peers = SilentPeers()
            for round in 0..<5 {
                #expect(peers.connect(150, to: server.port, from: 0x00_00_02) == 150)
                let head = try await server.withClient { try await $0.head(of: Self.tenant) }
                #expect(head == .empty, "round \(round)")
            }
            let closedCount = try await closed(peers, atLeast: 750 - 64)
            #expect((750 - 64...750 - 32).contains(closedCount))
        }
    }

    @Test func anAddressThatHasItsShareIsClosedAtOnce() async throws {
        let lines = LineCount()
        let logger = Logger(label: "test", factory: { _ in CountingLogHandler(lines) })
        try await TestServer.with(
            MemoryEngine(), limits: Self.limits(100, perAddress: 20, greeting: 100), logger: logger
        ) { server in
            let peers = SilentPeers()
            #expect(peers.connect(400, to: server.port, from: 0x00_00_03) == 400)
            #expect(try await closed(peers, atLeast: 380) == 380)
            let head = try await server.withClient { try await $0.head(of: Self.tenant) }
            #expect(head == .empty)
            #expect(lines.count(of: "closing new connections from an address that has too many") == 1)
            // Who leaves makes room.
            peers.closeAll()
            let deadline = ContinuousClock.now + .seconds(20)
            while try await server.withClient({ try await $0.status().connections }) > 1, .now < deadline {
                try await Task.sleep(for: .milliseconds(20))
            }
            let others = SilentPeers()
            others.connect(10, to: server.port, from: 0x00_00_03)
            let head2 = try await server.withClient { try await $0.head(of: Self.tenant) }
            #expect(head2 == .empty && others.closedCount == 0)
        }
    }

    @Test func aServerOpenToAllRefusesToListen() async throws {
        for (host, isOpenToAll) in [("0.0.0.0", false), ("::ffff:0.0.0.0", false), ("0.0.0.0", true)] {
            let certificates = try TestCertificates.shared.get()
            var configuration = ServerConfiguration(
                host: host, port: 0, serverVersion: "test", requiresClientCertificate: false)
            configuration.isOpenToAll = isOpenToAll
            let (listening, continuation) = AsyncStream.makeStream(of: Void.self)
            let server = EventServer(
                configuration: configuration,
                tls: try TLSServerContext(
                    TLSServerConfiguration(
                        certificateFile: certificates.file("server.pem"),
                        privateKeyFile: certificates.file("server.key"))),
                engine: MemoryEngine(), logger: .silent
            ) { _ in continuation.yield() }
            let run = Task<MartletError?, Never> {
                defer { continuation.finish() }
                do {
                    try await server.run()
                    return nil
                } catch { return error as? MartletError }
            }
            var hasListened = false
            for await _ in listening {
                hasListened = true
                run.cancel()
            }
            #expect(hasListened == isOpenToAll, "\(host)")
            let error = await run.value
            #expect(error?.reason == (isOpenToAll ? nil : .openToAll), "\(String(describing: error))")
        }
    }
}

/// How often which line was logged.
private final class LineCount: Sendable {
    private let counts = NIOLockedValueBox<[String: Int]>([:])
    func add(_ line: String) { counts.withLockedValue { $0[line, default: 0] += 1 } }
    func count(of line: String) -> Int { counts.withLockedValue { $0[line] ?? 0 } }
}

private struct CountingLogHandler: LogHandler {
    let lines: LineCount
    var logLevel = Logger.Level.info
    var metadata: Logger.Metadata = [:]

    init(_ lines: LineCount) { self.lines = lines }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) { lines.add(event.message.description) }
}
