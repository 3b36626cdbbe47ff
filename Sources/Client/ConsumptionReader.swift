import MartletModel
import MartletRecordCodec
import MartletSession
import NIOCore

/// A worker at work, on one consumer or on those of many tenants. Letting go of it ends its stream.
///
/// What it holds is bounded by the tenants of a stream and the slots of a consumer: a server that goes beyond that, or says
/// something about a tenant that it has not named before, ends it.
struct ConsumptionReader: Sendable {
    private struct Stream {
        let handle: StreamHandle
        let number: UInt64
        let openedAt: NIODeadline
        /// Tenants that it follows at most, as the server says.
        let tenantsMax: Int
    }

    private let client: MartletClient
    private let request: CallRequest
    /// Whose consumer it works on; nil for many.
    private let tenant: TenantID?
    private let windowBytes: Int
    private let holdsCredit: Bool
    private let replies: ConsumptionReplies
    private var attempts: Attempts
    private var stream: Stream?
    /// The slots that the worker has, with their epochs, of each tenant whose consumer it works on.
    private var epochs: [TenantID: [Int: UInt64]] = [:]
    /// What is still to be said of slots that went with the last stream.
    private var lost: ArraySlice<(tenant: TenantID, slots: [Int])> = []
    /// What ended the last stream; the wait after it comes when the next item is asked for.
    private var failure: CallFailure?
    private var isDone = false

    /// - Parameter request: to work on one consumer, or on those of many tenants.
    init(
        _ client: MartletClient, _ request: CallRequest, windowBytes: Int, holdsCredit: Bool,
        replies: ConsumptionReplies
    ) {
        self.holdsCredit = holdsCredit
        self.client = client
        self.request = request
        self.windowBytes = windowBytes
        self.replies = replies
        tenant = request.tenant
        attempts = client.attempts(request, timeout: nil)
    }

    mutating func next() async throws(MartletError) -> TenantsConsumptionItem? {
        guard !isDone else { return nil }
        do throws(MartletError) {
            return try await receive()
        } catch {
            isDone = true
            leave()
            throw error
        }
    }

    private mutating func receive() async throws(MartletError) -> TenantsConsumptionItem {
        while true {
            if let (tenant, slots) = lost.popFirst() { return .of(tenant, .revoked(slots)) }
            if let failure = failure.take() { try await client.wait(&attempts, after: failure) }
            do throws(CallFailure) {
                let stream = try await openStream()
                switch await stream.handle.next() {
                case .part(let message, _): if let item = try take(message, of: stream) { return item }
                case .end(let end): throw end ?? Self.endedByServer
                }
            } catch {
                failure = error
                if error.error.isRetryable {
                    lost =
                        epochs.filter { !$0.value.isEmpty }.sorted { $0.key < $1.key }
                        .map { ($0.key, $0.value.keys.sorted()) }[...]
                }
                leave()
            }
        }
    }

    private mutating func leave() {
        // A server that ends each stream soon must not be asked again without a wait.
        let (now, pause) = (client.environment.now(), TimeAmount(clamping: client.configuration.backoff.max))
        if let stream, now - stream.openedAt >= pause { attempts.succeed(now: now) }
        stream = nil
        epochs = [:]
        replies.end()
    }

    private mutating func openStream() async throws(CallFailure) -> Stream {
        if let stream { return stream }
        let deadline = client.configuration.requestTimeout.map { client.environment.now() + TimeAmount(clamping: $0) }
        let connection = try await client.connection(until: deadline)
        let (handle, path) = connection.work(
            request, deadline: deadline,
            window: CreditWindow(
                windowBytes: windowBytes, windowBytesMax: client.configuration.limits.frameBytesMax),
            holdsCredit: holdsCredit)
        let opened = Stream(
            handle: handle, number: replies.begin(path), openedAt: client.environment.now(),
            tenantsMax: connection.welcome.limits.tenantsPerStreamMax)
        stream = opened
        if let tenant { epochs[tenant] = [:] }
        return opened
    }

    private mutating func take(
        _ message: CallMessage, of stream: Stream
    ) throws(CallFailure) -> TenantsConsumptionItem? {
        do throws(MartletError) {
            switch message {
            case .consume(.joined(let tenants)) where tenant == nil: return try join(tenants, of: stream)
            case .consume(let message):
                guard let tenant else { throw .wrongAnswer }
                return try take(message, about: tenant, of: stream)
            case .consumeOf(let tenant, let message) where self.tenant == nil:
                return try take(message, about: tenant, of: stream)
            default: throw .wrongAnswer
            }
        } catch { throw CallFailure(error: error) }
    }

    private mutating func join(
        _ tenants: [TenantID], of stream: Stream
    ) throws(MartletError) -> TenantsConsumptionItem {
        for tenant in tenants {
            guard epochs.count < stream.tenantsMax else {
                throw Self.fault("more tenants than the \(stream.tenantsMax) that one stream follows at most")
            }
            guard epochs.updateValue([:], forKey: tenant) == nil else {
                throw Self.fault("that the worker joins tenant \(tenant), which it has joined before")
            }
        }
        return .joined(tenants)
    }

    private mutating func take(
        _ message: ConsumeMessage, about tenant: TenantID, of stream: Stream
    ) throws(MartletError) -> TenantsConsumptionItem? {
        guard epochs[tenant] != nil else {
            throw Self.fault("something about tenant \(tenant), which the worker has not joined")
        }
        switch message {
        case .assigned(let slots):
            for slot in slots {
                guard (0..<ConsumerDefinition.slotsMax).contains(slot.number) else {
                    throw Self.fault("slot \(slot.number), but a consumer has at most \(ConsumerDefinition.slotsMax)")
                }
                epochs[tenant]?[slot.number] = slot.epoch
            }
            return .of(tenant, .assigned(slots))
        case .revoked(let slots):
            for slot in slots { epochs[tenant]?[slot] = nil }
            return .of(tenant, .revoked(slots))
        case .events(let entries, let deliveries):
            attempts.succeed(now: client.environment.now())
            return .of(tenant, .events(try decode(EventBatch(entries), deliveries, of: tenant, stream)))
        case .committed(let slot, let checkpoint): return .of(tenant, .committed(slot: slot, checkpoint))
        case .stopped(let slot, let reason): return .of(tenant, .stopped(slot: slot, reason: reason))
        case .paused(let isPaused): return .of(tenant, .paused(isPaused))
        case .waits: return nil
        case .left(let error):
            guard self.tenant == nil else { throw .wrongAnswer }
            epochs[tenant] = nil
            return .left(tenant, error)
        case .joined: throw .wrongAnswer
        }
    }

    private func decode(
        _ batch: EventBatch, _ deliveries: [ConsumeMessage.Delivery], of tenant: TenantID, _ stream: Stream
    ) throws(MartletError) -> [ConsumedEvent] {
        guard batch.count == deliveries.count else {
            throw Self.fault("\(batch.count) events with \(deliveries.count) deliveries")
        }
        let epochs = epochs[tenant, default: [:]]
        var decoder = RecordDecoder()
        var consumed: [ConsumedEvent] = []
        consumed.reserveCapacity(batch.count)
        for (record, delivery) in zip(batch, deliveries) {
            guard let epoch = epochs[delivery.slot] else {
                throw Self.fault("an event of slot \(delivery.slot), which it did not assign")
            }
            var event: RecordedEvent
            do throws(RecordFault) { event = try decoder.decode(record.bytes) } catch { throw .noEvent(error) }
            // Those that came together are let go of one by one, and each holds all of them.
            if holdsCredit { event.event.payload = ByteBuffer(buffer: event.event.payload) }
            consumed.append(
                ConsumedEvent(
                    event: event, delivery: ConsumerDelivery(stream: stream.number, number: delivery.number),
                    slot: delivery.slot, epoch: epoch, attempt: delivery.attempt,
                    mayBeRepeated: delivery.mayBeRepeated, key: delivery.key,
                    isKeyBlocked: delivery.isKeyBlocked, creditBytes: record.entryBytes))
        }
        return consumed
    }

    private static func fault(_ complaint: String) -> MartletError {
        MartletError(
            .internal, reason: .badFrame,
            message: "the server sent \(complaint): compare the versions of client and server")
    }

    private static let endedByServer = CallFailure(
        error: MartletError(
            .unavailable, reason: .connectionLost, message: "the server ended the worker's stream without a reason",
            isRetryable: true))
}
