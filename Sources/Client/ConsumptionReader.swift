import MartletModel
import MartletRecordCodec
import MartletSession
import NIOCore

/// A worker at work. Letting go of it ends its stream.
struct ConsumptionReader: Sendable {
    private struct Stream {
        let handle: StreamHandle
        let number: UInt64
        let openedAt: NIODeadline
    }

    private let client: MartletClient
    private let request: ConsumeRequest
    private let windowBytes: Int
    private let holdsCredit: Bool
    private let replies: ConsumptionReplies
    private var attempts: Attempts
    private var stream: Stream?
    /// The slots that the worker has, with their epochs.
    private var epochs: [Int: UInt64] = [:]
    /// What ended the last stream; the wait after it comes when the next item is asked for.
    private var failure: CallFailure?
    private var isDone = false

    init(
        _ client: MartletClient, _ request: ConsumeRequest, windowBytes: Int, holdsCredit: Bool,
        replies: ConsumptionReplies
    ) {
        self.holdsCredit = holdsCredit
        self.client = client
        self.request = request
        self.windowBytes = windowBytes
        self.replies = replies
        attempts = client.attempts(.consume(request), timeout: nil)
    }

    mutating func next() async throws(MartletError) -> ConsumptionItem? {
        guard !isDone else { return nil }
        do throws(MartletError) {
            return try await receive()
        } catch {
            isDone = true
            leave()
            throw error
        }
    }

    private mutating func receive() async throws(MartletError) -> ConsumptionItem {
        while true {
            if let failure = failure.take() { try await client.wait(&attempts, after: failure) }
            do throws(CallFailure) {
                let stream = try await openStream()
                switch await stream.handle.next() {
                case .part(.consume(let message), _):
                    if let item = try take(message, of: stream) { return item }
                case .part: throw CallFailure(error: .wrongAnswer)
                case .end(let end): throw end ?? Self.endedByServer
                }
            } catch {
                failure = error
                let lost = epochs.keys.sorted()
                leave()
                if !lost.isEmpty, error.error.isRetryable { return .revoked(lost) }
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
        let opened = Stream(handle: handle, number: replies.begin(path), openedAt: client.environment.now())
        stream = opened
        return opened
    }

    private mutating func take(
        _ message: ConsumeMessage, of stream: Stream
    ) throws(CallFailure) -> ConsumptionItem? {
        switch message {
        case .assigned(let slots):
            for slot in slots { epochs[slot.number] = slot.epoch }
            return .assigned(slots)
        case .revoked(let slots):
            for slot in slots { epochs[slot] = nil }
            return .revoked(slots)
        case .events(let entries, let deliveries):
            attempts.succeed(now: client.environment.now())
            do throws(MartletError) {
                return .events(try decode(EventBatch(entries), deliveries, of: stream))
            } catch { throw CallFailure(error: error) }
        case .committed(let slot, let checkpoint): return .committed(slot: slot, checkpoint)
        case .stopped(let slot, let reason): return .stopped(slot: slot, reason: reason)
        case .paused(let isPaused): return .paused(isPaused)
        case .waits: return nil
        case .joined, .left: throw CallFailure(error: .wrongAnswer)
        }
    }

    private func decode(
        _ batch: EventBatch, _ deliveries: [ConsumeMessage.Delivery], of stream: Stream
    ) throws(MartletError) -> [ConsumedEvent] {
        guard batch.count == deliveries.count else {
            throw Self.fault("\(batch.count) events with \(deliveries.count) deliveries")
        }
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
