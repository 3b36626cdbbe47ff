import Foundation
import MartletClient
import MartletFrameCodec
import MartletModel
import MartletSession
import MartletStorageMemory
import MartletTesting
import NIOCore
import Testing

/// Reads of what was stored under larger limits than the server has now. Where no frame holds the answer, the call is
/// refused with an error that names the limit, and the connection goes on.
@Suite(.serialized, .timeLimit(.minutes(1))) struct LargerLimitsTests {
    private static let limits: Limits = {
        var limits = Limits()
        limits.payloadBytesMax = 32 << 10
        limits.metadataBytesMax = 4 << 10
        limits.snapshotBytesMax = 32 << 10
        limits.settingsBytesMax = 32 << 10
        limits.pageBytesMax = 32 << 10
        limits.frameBytesMax = 160 << 10
        return limits
    }()
    /// What a frame holds beside its envelope.
    private static let room = limits.frameBytesMax - Limits.frameEnvelopeBytes

    enum Call: CaseIterable {
        case loadSnapshot, loadWithSnapshot, loadEvent, getSettings
    }

    private let tenant = TenantID(UUID())
    private let order: AggregateName
    private let placed: EventType

    init() throws {
        order = AggregateName(type: AggregateType("order"), id: UUID())
        placed = EventType("Placed")
    }

    /// Stores what the call reads, as large as that.
    private func store(_ bytes: Int, for call: Call, _ client: MartletClient) async throws {
        let eventBytes = if case .loadEvent = call { bytes } else { 10 }
        let event = NewEvent(
            type: placed, contentType: "application/octet-stream", payload: ByteBuffer(repeating: 7, count: eventBytes))
        _ = try await client.append([event], to: order, expecting: .none, tenant: tenant)
        switch call {
        case .loadEvent: break
        case .loadSnapshot, .loadWithSnapshot:
            _ = try await client.saveSnapshot(
                SaveSnapshotRequest(
                    tenant: tenant, aggregate: order, version: Version(1),
                    snapshot: NewSnapshot(
                        contentType: "application/octet-stream", payload: ByteBuffer(repeating: 7, count: bytes))))
        case .getSettings:
            var document = ByteBuffer(string: #"{"policies":[{"every_events":2}]}"#)
            document.writeRepeatingByte(UInt8(ascii: " "), count: bytes - document.readableBytes)
            try await client.putSettings(
                PutSettingsRequest(tenant: tenant, kind: .snapshotPolicies, document: document))
        }
    }

    private func request(_ call: Call) -> CallRequest {
        switch call {
        case .loadSnapshot: .loadSnapshot(LoadSnapshotRequest(tenant: tenant, aggregate: order))
        case .loadWithSnapshot: .load(LoadRequest(tenant: tenant, aggregate: order, snapshot: SnapshotUse()))
        case .loadEvent: .load(LoadRequest(tenant: tenant, aggregate: order))
        case .getSettings: .getSettings(tenant, .snapshotPolicies)
        }
    }

    @Test(arguments: Call.allCases) func whatNoFrameHoldsIsRefused(_ call: Call) async throws {
        let engine = MemoryEngine()
        let bytes = Self.room + 1
        try await TestServer.with(engine) { server in
            try await server.withClient { client in try await store(bytes, for: call, client) }
        }
        try await TestServer.with(engine, limits: Self.limits) { server in
            let peer = try await RawPeer.secure(server)
            try await peer.send(ClientFrame(CallID(1), .request(request(call)), creditBytes: 1 << 30))
            let answer = try #require(try await peer.next())
            guard answer.callID == CallID(1), case .status(let status) = answer.body, let error = status else {
                Issue.record("call \(answer.callID) got something else than an error")
                return
            }
            #expect(error.code == .resourceExhausted && error.reason == .limitExceeded && !error.isRetryable)
            #expect(error.limit?.name == "frame_bytes_max")
            #expect(error.limit?.limit == UInt64(Self.limits.frameBytesMax))
            // An event's record takes some bytes beside its payload.
            let actual = error.limit?.actual ?? 0
            #expect((UInt64(bytes)..<UInt64(bytes + 512)).contains(actual))
            #expect(error.message.contains("frame_bytes_max is \(Self.limits.frameBytesMax)"))
            try await peer.send(ClientFrame(CallID(2), .request(.getHead(tenant))))
            guard case .message(.head)? = try await peer.next()?.body else {
                Issue.record("the connection does not go on")
                return
            }
            peer.close()
        }
    }

    /// The limits of what may be stored now are far below: they are not what counts.
    @Test(arguments: [Call.loadSnapshot, .loadWithSnapshot, .getSettings])
    func whatAFrameHoldsIsAnswered(_ call: Call) async throws {
        let engine = MemoryEngine()
        try await TestServer.with(engine) { server in
            try await server.withClient { client in try await store(Self.room, for: call, client) }
        }
        try await TestServer.with(engine, limits: Self.limits) { server in
            let peer = try await RawPeer.secure(server)
            try await peer.send(ClientFrame(CallID(1), .request(request(call)), creditBytes: 1 << 30))
            let answered: Int? =
                switch try await peer.next()?.body {
                case .message(.snapshot(let loaded)): loaded.snapshot?.payload.readableBytes
                case .message(.load(_, let view)): view?.snapshot?.payload.readableBytes
                case .message(.settings(let settings)): settings.document.readableBytes
                default: nil
                }
            #expect(answered == Self.room)
            peer.close()
        }
    }
}
