import FoundationEssentials
import MartletClient
import MartletModel
import MartletSession
import MartletStorageMemory
import MartletTesting
import NIOCore
import Testing

/// What one connection sends for one tenant is decided in that order, whatever the server has to look up before.
@Suite struct WriteOrderTests {
    private static func append(
        _ tenant: TenantID, _ name: AggregateName, at version: UInt64, snapshot: NewSnapshot? = nil
    ) throws -> CallRequest {
        let event = try EncodedEvent.sample("\(version)")
        var request = AppendRequest.of([event], to: name, .exact(Version(version)), tenant: tenant)
        request.aggregates[0].snapshot = snapshot
        return .append(request)
    }

    /// Sends all of it at once, and waits for an end of each call.
    private static func run(_ requests: [CallRequest], on peer: RawPeer) async throws -> [CallID: MartletError?] {
        try await peer.send(
            requests.enumerated().map { ClientFrame(CallID(UInt64($0.offset) + 1), .request($0.element)) })
        var ends: [CallID: MartletError?] = [:]
        while ends.count < requests.count {
            guard let frame = try await peer.next() else { throw ProcessFailure("the server closed the connection") }
            switch frame.body {
            case .status(let error): ends[frame.callID] = .some(error)
            case .message: ends[frame.callID] = .some(nil)
            default: break
            }
        }
        return ends
    }

    /// Nothing is known of a fresh tenant's settings: each append expects the version that the one before it leaves. Many
    /// tenants more than settings are remembered of are in use.
    @Test func pipelinedAppendsToAFreshTenantAreStoredInOrder() async throws {
        var limits = Limits()
        limits.settingsTenantsMax = 1_000
        try await TestServer.with(MemoryEngine(), limits: limits) { server in
            for _ in 0..<2 {
                let peer = try await RawPeer.secure(server)
                defer { peer.close() }
                let ends = try await Self.run(
                    (0..<1_000).map { _ in try Self.append(TenantID(UUID()), .new(), at: 0) }, on: peer)
                #expect(ends.values.allSatisfy { $0 == nil })
            }
            for round in 0..<20 {
                let peer = try await RawPeer.secure(server)
                defer { peer.close() }
                let (tenant, name) = (TenantID(UUID()), AggregateName.new())
                let ends = try await Self.run((0..<50).map { try Self.append(tenant, name, at: $0) }, on: peer)
                #expect(
                    ends.values.allSatisfy { $0 == nil },
                    "round \(round): \(ends.values.compactMap { $0 }.first as Any)")
                let payloads = try await server.withClient { client in
                    try await client.load(LoadRequest(tenant: tenant, aggregate: name)).reduce(into: []) {
                        $0.append(String(buffer: $1.event.payload))
                    }
                }
                #expect(payloads == (0..<50).map(String.init), "round \(round)")
            }
        }
    }

    /// A server that has just started knows no policies, and keeps as many snapshots as they say.
    @Test func policiesHoldForTheFirstCallsOfAServer() async throws {
        let engine = MemoryEngine()
        let (tenant, name) = (TenantID(UUID()), AggregateName.new())
        try await TestServer.with(engine) { server in
            try await server.withClient { client in
                let document = ByteBuffer(string: #"{"policies":[{"every_events":2,"keep":1}]}"#)
                try await client.putSettings(
                    PutSettingsRequest(tenant: tenant, kind: .snapshotPolicies, document: document))
            }
        }
        try await TestServer.with(engine) { server in
            let peer = try await RawPeer.secure(server)
            defer { peer.close() }
            let state = NewSnapshot(payload: ByteBuffer(string: "{}"))
            let ends = try await Self.run(
                (0..<3).map { try Self.append(tenant, name, at: $0, snapshot: state) }, on: peer)
            #expect(ends.values.allSatisfy { $0 == nil })
            let kept = try await server.withClient { try await $0.listSnapshots(of: name, tenant: tenant) }
            #expect(kept.map(\.version.rawValue) == [3])
        }
    }

    /// Where the policies cannot be read, what needs none goes on; what does fails, and nothing of it is written.
    @Test func whatNeedsNoPoliciesGoesOnWithoutThem() async throws {
        let engine = FaultyEngine(MemoryEngine())
        try await TestServer.with(engine) { server in
            let peer = try await RawPeer.secure(server)
            defer { peer.close() }
            engine.failReads(true)
            let (tenant, name) = (TenantID(UUID()), AggregateName.new())
            let state = NewSnapshot(payload: ByteBuffer(string: "{}"))
            let ends = try await Self.run(
                [
                    try Self.append(tenant, name, at: 0), try Self.append(tenant, name, at: 1, snapshot: state),
                    try Self.append(tenant, name, at: 1),
                ], on: peer)
            #expect(ends[CallID(1)] == .some(nil) && ends[CallID(3)] == .some(nil))
            #expect(ends[CallID(2)]??.reason == .storageUnavailable)
            engine.failReads(false)
            let kept = try await server.withClient { try await $0.listSnapshots(of: name, tenant: tenant) }
            #expect(kept.isEmpty)
        }
    }
}
