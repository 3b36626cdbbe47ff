import EventModel
import EventProtocol
import NIOCore

/// How far a subscription has come: what to ask for after a reconnect, and what a message means to its consumer.
struct SubscriptionProgress: Sendable {
    private let original: SubscribeRequest
    private var hasStarted = false
    private(set) var position: Position?

    init(_ request: SubscribeRequest) { original = request }

    /// The request that goes on where the subscription was.
    var request: SubscribeRequest {
        var request = original
        if let position { request.start = .after(position) }
        return request
    }

    /// Takes a message in.
    /// - Returns: what the consumer is to see of it, in order.
    /// - Throws: where the server repeats itself, or sends what is no event.
    mutating func receive(_ message: SubscriptionMessage) throws(MartletError) -> [SubscriptionItem] {
        var items: [SubscriptionItem] = []
        if case .started(let after)? = message.signal {
            items.append(hasStarted ? .reconnected : .started(after: after, head: message.head))
            hasStarted = true
            advance(to: after)
        }
        if message.entries.readableBytes > 0 {
            let events = try RecordedEvent.decode(message.entries)
            for event in events { try advance(past: event.position) }
            if !events.isEmpty { items.append(.events(events, head: message.head)) }
        }
        switch message.signal {
        case .started, nil: break
        case .caughtUp(let position): items.append(.caughtUp(advance(to: position), head: message.head))
        case .fellBehind(let position): items.append(.fellBehind(advance(to: position), head: message.head))
        case .checkpoint(let position): items.append(.checkpoint(advance(to: position), head: message.head))
        case .heartbeat(let position, let bytes):
            items.append(
                .heartbeat(advance(to: position), head: message.head, waitingForCreditBytes: bytes))
        case .upcastersChanged(let position, let revision):
            items.append(.upcastersChanged(advance(to: position), revision: revision, head: message.head))
        }
        return items
    }

    @discardableResult
    private mutating func advance(to position: Position) -> Position {
        self.position = max(position, self.position ?? position)
        return position
    }

    private mutating func advance(past position: Position) throws(MartletError) {
        if let last = self.position, position <= last {
            throw MartletError(
                .internal, reason: .badFrame,
                message: "the server sent position \(position) after \(last): compare the versions of both")
        }
        self.position = position
    }
}
