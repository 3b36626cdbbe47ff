import FoundationEssentials
import MartletClient
import MartletModel
import MartletSession
import MartletStorageMemory
import MartletTesting
import NIOCore
import Testing

/// What a connection hears where limits on consumers and workers are reached.
@Suite struct ConsumerLimitTests {
    private static let tenant = TenantID(UUID())

    private static func id(_ name: String) throws -> ConsumerID {
        ConsumerID(tenant: tenant, name: try #require(ConsumerName(name)))
    }

    /// How the call ends, whatever comes before of it.
    private func end(of call: CallID, _ peer: RawPeer) async throws -> MartletError? {
        while let frame = try await peer.next() {
            guard frame.callID == call, case .status(let error) = frame.body else { continue }
            return error
        }
        return nil
    }

    private func put(
        _ name: String, of tenant: TenantID = tenant, _ call: CallID, _ peer: RawPeer
    ) async throws {
        let request = PutConsumerRequest(
            ConsumerID(tenant: tenant, name: try #require(ConsumerName(name))), ConsumerDefinition(slotCount: 1))
        try await peer.send(ClientFrame(call, .request(.putConsumer(request))))
    }

    @Test func aTenantHasNoMoreConsumersThanItMay() async throws {
        var limits = Limits()
        limits.consumersPerTenantMax = 2
        try await TestServer.with(MemoryEngine(), limits: limits) { server in
            try await server.withClient { client in
                for name in ["a", "b"] {
                    try await client.putConsumer(PutConsumerRequest(try Self.id(name), ConsumerDefinition()))
                }
            }
            let peer = try await RawPeer.secure(server)
            try await put("c", CallID(1), peer)
            let error = try await end(of: CallID(1), peer)
            #expect(
                error?.reason == .tooManyConsumers && error?.code == .resourceExhausted, "\(String(describing: error))")
            #expect(error?.message.contains("2") == true && error?.isRetryable == false)
            // Another tenant has room, and so has this one when one is gone.
            try await put("c", of: TenantID(UUID()), CallID(2), peer)
            guard case .message(.consumerPut(let receipt))? = try await peer.next()?.body else {
                Issue.record("another tenant's consumer was not put")
                return
            }
            #expect(receipt.isNew)
            try await server.withClient { client in try await client.deleteConsumer(try Self.id("a")) }
            try await put("c", CallID(3), peer)
            guard case .message(.consumerPut)? = try await peer.next()?.body else {
                Issue.record("the consumer was not put")
                return
            }
            peer.close()
        }
    }

    @Test func aWorkerThatSaysNothingForItsLeaseIsSilent() async throws {
        var limits = Limits()
        limits.consumerLeaseMillis = 300
        try await TestServer.with(MemoryEngine(), limits: limits) { server in
            let id = try Self.id("silent")
            try await server.withClient { client in
                _ = try await client.putConsumer(PutConsumerRequest(id, ConsumerDefinition(slotCount: 1)))
            }
            let worker = try #require(WorkerName("w"))
            let peer = try await RawPeer.secure(server)
            let start = ContinuousClock.now
            try await peer.send(
                ClientFrame(
                    CallID(2), .request(.consume(ConsumeRequest(id, worker: worker))), creditBytes: 1 << 20))
            let error = try await end(of: CallID(2), peer)
            #expect(error?.reason == .workerSilent && error?.code == .deadlineExceeded, "\(String(describing: error))")
            #expect(error?.message.contains("300") == true && ContinuousClock.now - start >= .milliseconds(300))
            // The connection goes on, and the slot is the next one's.
            try await peer.send(
                ClientFrame(
                    CallID(3), .request(.consume(ConsumeRequest(id, worker: worker))), creditBytes: 1 << 20))
            guard case .message(.consume(.assigned(let slots)))? = try await peer.next()?.body else {
                Issue.record("no slots came")
                return
            }
            #expect(slots.map(\.number) == [0])
            peer.close()
        }
    }

    @Test func aNewerStreamOfTheNameReplacesTheOlder() async throws {
        try await TestServer.with(MemoryEngine()) { server in
            let id = try Self.id("replaced")
            try await server.withClient { client in
                _ = try await client.putConsumer(PutConsumerRequest(id, ConsumerDefinition(slotCount: 1)))
            }
            let worker = try #require(WorkerName("w"))
            let (older, newer) = (try await RawPeer.secure(server), try await RawPeer.secure(server))
            for peer in [older, newer] {
                try await peer.send(
                    ClientFrame(
                        CallID(2), .request(.consume(ConsumeRequest(id, worker: worker))), creditBytes: 1 << 20))
                guard case .message(.consume(.assigned(let slots)))? = try await peer.next()?.body else {
                    Issue.record("no slots came")
                    return
                }
                #expect(slots.map(\.number) == [0])
            }
            let error = try await end(of: CallID(2), older)
            #expect(error?.reason == .workerReplaced && error?.code == .aborted, "\(String(describing: error))")
            older.close()
            newer.close()
        }
    }
}
