import FoundationEssentials
import MartletModel
import MartletSession
import NIOCore
import Testing

enum Sample {
    static let tenant = TenantID(UUID(high: 1, low: 1))
    static let head = TenantHead(position: Position(7), recordedAt: Timestamp(microseconds: 9))
    static let error = MartletError(.unavailable, reason: .storageUnavailable, message: "away", isRetryable: true)

    static let receipt = AppendReceipt(
        aggregates: [], firstPosition: Position(1), lastPosition: Position(1), recordedAt: Timestamp(microseconds: 1),
        replayed: false)

    static let append = CallRequest.append(AppendRequest(tenant: tenant, aggregates: []))
    static let read = CallRequest.read(ReadRequest(tenant: tenant))
    static let subscribe = CallRequest.subscribe(SubscribeRequest(tenant: tenant))
    static let getHead = CallRequest.getHead(tenant)

    static var consume: CallRequest {
        get throws {
            let consumer = ConsumerID(tenant: tenant, name: try #require(ConsumerName("mails")))
            return .consume(ConsumeRequest(consumer, worker: try #require(WorkerName("mailer"))))
        }
    }

    static func delivered(_ bytes: Int) -> CallMessage { .consume(.events(entries(bytes), [])) }

    static func millis(_ millis: Int) -> NIODeadline { .uptimeNanoseconds(UInt64(millis) * 1_000_000) }

    static func entries(_ count: Int) -> ByteBuffer { ByteBuffer(repeating: 0x0A, count: count) }

    static func welcome(version: UInt32 = protocolVersion, callsMax: Int = 3) -> Welcome {
        var limits = Limits()
        limits.callsPerConnectionMax = callsMax
        return Welcome(
            protocolVersion: version, serverVersion: "1", scope: .all, identity: "", limits: limits,
            serverTime: Timestamp(microseconds: 5))
    }

    static func started(_ bytes: Int = 0) -> CallMessage {
        .subscribe(SubscriptionMessage(entries: entries(bytes), head: head, signal: .started(after: .start)))
    }

    static func heartbeat(_ bytes: Int = 0) -> CallMessage {
        .subscribe(
            SubscriptionMessage(
                entries: entries(bytes), head: head, signal: .heartbeat(Position(1), waitingForCreditBytes: 0)))
    }

    static func readPart(_ bytes: Int = 0, isFirst: Bool) -> CallMessage {
        .read(entries(bytes), isFirst ? ReadView(to: Position(7), head: head) : nil)
    }
}

/// `#expect` takes no property of a noncopyable value.
func expect(_ actual: Bool, is expected: Bool, sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(actual == expected, sourceLocation: sourceLocation)
}
