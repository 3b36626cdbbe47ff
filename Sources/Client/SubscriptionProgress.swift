import MartletModel
import MartletSession
import NIOCore

/// How far a subscription has come: what to ask for after a reconnect, and what a message means to its consumer.
struct SubscriptionProgress: Sendable {
    private let original: SubscribeRequest
    private var hasStarted = false
    private(set) var position: Position?
    /// The last event that came.
    private var lastSeen: EventMark?

    init(_ request: SubscribeRequest) { original = request }

    /// The request that goes on where the subscription was.
    var request: SubscribeRequest {
        var request = original
        if let position {
            request.start = .after(position)
            request.lastSeen = lastSeen ?? original.lastSeen
        }
        return request
    }

    /// Takes a message in.
    /// - Returns: what the consumer is to see of it, in order.
    /// - Throws: if the server repeats itself, or sends something that is not an event.
    mutating func receive(_ message: SubscriptionMessage) throws(MartletError) -> [SubscriptionBatch] {
        var items: [SubscriptionBatch] = []
        if case .started(let after)? = message.signal {
            items.append(.signal(hasStarted ? .reconnected : .started(after: after, head: message.head)))
            hasStarted = true
            advance(to: after)
        }
        if message.entries.readableBytes > 0 {
            let events = try EventBatch(message.entries)
            try advance(past: events)
            items.append(.events(events, head: message.head))
        }
        switch message.signal {
        case .started, nil: break
        case .caughtUp(let position): items.append(.signal(.caughtUp(advance(to: position), head: message.head)))
        case .fellBehind(let position): items.append(.signal(.fellBehind(advance(to: position), head: message.head)))
        case .checkpoint(let position): items.append(.signal(.checkpoint(advance(to: position), head: message.head)))
        case .heartbeat(let position, let bytes):
            items.append(
                .signal(.heartbeat(advance(to: position), head: message.head, waitingForCreditBytes: bytes)))
        case .upcastersChanged(let position, let revision):
            items.append(
                .signal(.upcastersChanged(advance(to: position), revision: revision, head: message.head)))
        }
        return items
    }

    @discardableResult
    private mutating func advance(to position: Position) -> Position {
        self.position = max(position, self.position ?? position)
        return position
    }

    private mutating func advance(past events: EventBatch) throws(MartletError) {
        var disorder = events.disorder
        if let last = position, events.firstPosition <= last { disorder = (events.firstPosition, last) }
        if let disorder {
            throw MartletError(
                .internal, reason: .badFrame,
                message: "the server sent position \(disorder.position) after \(disorder.after): "
                    + "compare the versions of client and server")
        }
        position = events.lastPosition
        if let id = events.lastEventID { lastSeen = EventMark(position: events.lastPosition, eventID: id) }
    }
}
