import FoundationEssentials
import MartletClient
import MartletModel
import MartletSession
import MartletStorageMemory
import MartletTesting
import NIOCore
import Testing

/// A worker's stream over a connection: what it says reaches its call, and what it says wrongly ends that call only.
@Suite struct ConsumerWireTests {
    private static let tenant = TenantID(UUID())

    /// The next message to the worker on call 2.
    private func message(_ peer: RawPeer) async throws -> ConsumeMessage? {
        guard let frame = try await peer.next(), case .message(.consume(let message)) = frame.body else { return nil }
        #expect(frame.callID == CallID(2))
        return message
    }

    @Test func aWorkerIsHeard() async throws {
        let name = try #require(ConsumerName("mails"))
        let worker = try #require(WorkerName("mailer"))
        let consumer = ConsumerID(tenant: Self.tenant, name: name)
        let event = try EncodedEvent.sample("{}")
        try await TestServer.with(MemoryEngine()) { server in
            let peer = try await RawPeer.secure(server)
            try await peer.send(
                ClientFrame(
                    CallID(1), .request(.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition(slotCount: 1))))))
            guard case .message(.consumerPut)? = try await peer.next()?.body else {
                Issue.record("the consumer was not put")
                return
            }
            try await peer.send(
                ClientFrame(
                    CallID(2), .request(.consume(ConsumeRequest(consumer, worker: worker))), creditBytes: 1 << 20))
            guard case .assigned(let slots)? = try await message(peer) else {
                Issue.record("no slots came first")
                return
            }
            #expect(slots.map(\.number) == [0])
            try await peer.send(ClientFrame(CallID(3), .request(.append(.of([event], tenant: Self.tenant)))))
            var (delivery, isAppended) = (ConsumeMessage.Delivery?.none, false)
            while delivery == nil || !isAppended {
                let frame = try #require(try await peer.next())
                switch frame.body {
                case .message(.append): isAppended = true
                case .message(.consume(.events(_, let deliveries))): delivery = deliveries.first
                default: Issue.record("\(frame)")
                }
            }
            let key = try #require(delivery?.key)
            #expect(key.bytes.starts(with: Array("a:".utf8)))
            #expect(delivery == .init(number: 1, slot: 0, attempt: 1, mayBeRepeated: false, key: key))
            try await peer.send(ClientFrame(CallID(2), .replies([.acknowledge(1, upTo: true)])))
            guard case .committed(slot: 0, let checkpoint)? = try await message(peer) else {
                Issue.record("nothing was stored")
                return
            }
            #expect(checkpoint == Checkpoint(position: Position(1), eventID: event.id))
            // A delivery of number 0 is none, which the codec says.
            try await peer.send([
                ClientFrame(CallID(2), .replies([.acknowledge(0, upTo: false)])),
                ClientFrame(CallID(2), .replies([.alive])), ClientFrame(CallID(4), .request(.getHead(Self.tenant))),
            ])
            guard case .status(let error?)? = try await peer.next()?.body else {
                Issue.record("malformed replies were taken")
                return
            }
            #expect(error.reason == .invalidField && error.message.hasPrefix("replies[0].acknowledge.delivery"))
            guard case .message(.head(let head))? = try await peer.next()?.body else {
                Issue.record("the connection did not go on")
                return
            }
            #expect(head.position == Position(1))
            peer.close()
        }
    }
}
