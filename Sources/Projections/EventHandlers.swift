public import MartletModel

/// A projection's handlers by the type of event.
///
///     let handlers = EventHandlers(unknown: .park, [
///         "MoneyDeposited": { event, transaction in … },
///         "MoneyWithdrawn": { event, transaction in … },
///     ])
///
/// A projection's ``Projection/handle(_:in:)`` passes its event on to them.
public struct EventHandlers: Sendable {
    /// Takes an event into a read model.
    public typealias Handler = @Sendable (ProjectedEvent, any ProjectionTransaction) async throws -> Void

    /// What becomes of events of types without a handler.
    public enum UnknownEvents: Hashable, Sendable {
        /// They count as taken in.
        case ignore
        /// They are tried again after the consumer's backoff, up to its `triesMax`, for a program that knows them may come soon;
        /// then their keys are parked.
        case fail
        /// Their keys are parked.
        case park
    }

    /// What becomes of events of other types.
    public var unknown: UnknownEvents
    /// The handlers, by the text of the type.
    public var handlers: [ExactText: Handler]

    /// Handlers of those types.
    public init(unknown: UnknownEvents, _ handlers: [ExactText: Handler]) {
        self.unknown = unknown
        self.handlers = handlers
    }

    /// Has the event's handler take it in.
    /// - Throws: what that throws; a ``ProjectionFailure`` for an event without one, unless it is to be ignored.
    public func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        let type = event.event.event.type.text
        if let handler = handlers[ExactText(type)] { return try await handler(event, transaction) }
        let reason = "no handler for events of type \(type)"
        switch unknown {
        case .ignore: break
        case .fail: throw ProjectionFailure(.retry(after: nil), reason)
        case .park: throw ProjectionFailure(.park, reason)
        }
    }
}
