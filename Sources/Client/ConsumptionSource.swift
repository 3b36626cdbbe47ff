import MartletModel
import NIOConcurrencyHelpers
import NIOCore
import Synchronization

/// Where the items of a worker come from, and its replies go to: what a ``Consumption`` and a ``TenantsConsumption`` share.
struct ConsumptionSource: Sendable {
    private let client: MartletClient
    private let request: CallRequest
    private let windowBytes: Int
    private let holdsCredit: Bool
    private let replies = ConsumptionReplies()
    private let hasReader = NIOLockedValueBox(false)

    /// - Parameters:
    ///   - request: to work on one consumer, or on those of many tenants.
    ///   - windowBytes: bytes of events that it takes in ahead of the worker; nil means
    ///     ``ClientConfiguration/subscriptionWindowBytes``.
    ///   - holdsCredit: credit goes back by ``giveBack(_:)`` alone.
    init(_ client: MartletClient, _ request: CallRequest, windowBytes: Int? = nil, holdsCredit: Bool = false) {
        self.client = client
        self.request = request
        self.windowBytes = windowBytes ?? client.configuration.subscriptionWindowBytes
        self.holdsCredit = holdsCredit
    }

    /// What whoever asks for a second reader is told.
    static let iteratedTwice = MartletError(
        .failedPrecondition, reason: .cancelled, message: "a consumption can be iterated only once: consume again")

    /// The one that reads; nil the second time.
    func makeReader() -> ConsumptionReader? {
        let isFirst = hasReader.withLockedValue { hasReader in
            defer { hasReader = true }
            return !hasReader
        }
        guard isFirst else { return nil }
        return ConsumptionReader(
            client, request, windowBytes: windowBytes, holdsCredit: holdsCredit, replies: replies)
    }

    func giveBack(_ events: [ConsumedEvent]) {
        var start = events.startIndex
        while start < events.endIndex {
            let stream = events[start].delivery.stream
            let end = events[start...].firstIndex { $0.delivery.stream != stream } ?? events.endIndex
            replies.giveBack(events[start..<end].reduce(0) { $0 + $1.creditBytes }, on: stream)
            start = end
        }
    }

    func acknowledge(_ delivery: ConsumerDelivery) {
        replies.say(.acknowledge(delivery.number, upTo: false), on: delivery.stream)
    }

    func acknowledge(upTo delivery: ConsumerDelivery) {
        replies.say(.acknowledge(delivery.number, upTo: true), on: delivery.stream)
    }

    func reject(_ delivery: ConsumerDelivery, _ rejection: ConsumerRejection, reason: String) {
        replies.say(.reject(delivery.number, rejection.failure, reason: Self.cut(reason)), on: delivery.stream)
    }

    /// Cuts a text at a character.
    private static func cut(_ reason: String) -> String {
        guard reason.utf8.count > BlockedKey.reasonBytesMax else { return reason }
        var end = reason.utf8.index(reason.utf8.startIndex, offsetBy: BlockedKey.reasonBytesMax)
        while end.samePosition(in: reason.unicodeScalars) == nil { end = reason.utf8.index(before: end) }
        return String(reason[..<end])
    }
}

extension ConsumerRejection {
    fileprivate var failure: WorkerReply.Failure {
        switch self {
        case .retry(let time):
            .retry(afterMillis: time.map { UInt32(clamping: TimeAmount(clamping: $0).nanoseconds / 1_000_000) })
        case .park: .park
        case .stop: .stop
        }
    }
}

/// The way of replies to the stream that there is.
final class ConsumptionReplies: Sendable {
    private static let lastStream = Atomic<UInt64>(0)

    private let current = NIOLockedValueBox<(stream: UInt64, path: ReplyPath)?>(nil)

    /// A new stream takes replies.
    /// - Returns: its number.
    func begin(_ path: ReplyPath) -> UInt64 {
        let stream = Self.lastStream.add(1, ordering: .relaxed).newValue
        current.withLockedValue { $0 = (stream, path) }
        return stream
    }

    /// There is no stream.
    func end() { current.withLockedValue { $0 = nil } }

    func say(_ reply: WorkerReply, on stream: UInt64) {
        path(of: stream)?.say(reply)
    }

    func giveBack(_ bytes: Int, on stream: UInt64) { path(of: stream)?.giveBack(bytes) }

    private func path(of stream: UInt64) -> ReplyPath? {
        current.withLockedValue { $0?.stream == stream ? $0?.path : nil }
    }
}
