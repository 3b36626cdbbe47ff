public import MartletModel

/// A read model: what becomes of it with each event.
///
///     struct Balances: Projection {
///         func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
///             switch event.event.event.type.text {
///             case "MoneyDeposited": …
///                 try await transaction.execute(
///                     "UPDATE balances SET amount = amount + $1 WHERE account = $2", .integer(amount), .text(account))
///             default: break
///             }
///         }
///     }
///
/// Events of one key are handled one after the other, in their order; those of different keys at the same time, where they
/// are in different slots. What a handler writes through its transaction takes effect exactly once for each event, whatever
/// crashes, is stopped, or is started twice. What it does otherwise (a mail, a call) may be done again: tell by
/// ``ProjectedEvent/mayBeRepeated``.
public protocol Projection: Sendable {
    /// Takes an event into the read model.
    ///
    /// Several events may share a transaction. If a handler throws, all of it is rolled back, and the events are handled once
    /// more, each in a transaction of its own.
    /// - Throws: ``ProjectionFailure`` to say what is to become of the event; any other error has it tried again, after the
    ///   consumer's backoff, up to its `triesMax`, while later events of its key wait and other keys go on.
    func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws
}

/// An event that a projection is to take in.
public struct ProjectedEvent: Hashable, Sendable {
    /// The tenant whose event it is. Positions, versions and aggregates of one tenant have nothing to do with another's: a read
    /// model over many tenants keeps it in its rows.
    public var tenant: TenantID
    /// The event.
    public var event: RecordedEvent
    /// The event's key.
    public var key: ConsumerKey
    /// How often it was tried with this, from 1.
    public var attempt: UInt32
    /// It may have been handled before, but for what was written through the transaction.
    public var mayBeRepeated: Bool
    /// A rebuild takes it in again: side effects are to be left out. See ``ProjectionRebuilder``.
    public var isReplay = false
    /// The generation of tables that takes it in.
    public var generation = ProjectionGeneration(nil)

    /// The name of the table to write to, for a ``RebuildableProjection``: that of the event's generation. Another projection's
    /// tables are called what they are called.
    public func table(_ name: String) -> String { generation.table(name) }
}

/// What is to become of an event that a projection cannot take in.
public struct ProjectionFailure: Error, Hashable, CustomStringConvertible {
    /// What is to become of it.
    public enum Kind: Hashable, Sendable {
        /// It is tried again after that time; nil is the consumer's backoff.
        case retry(after: Duration?)
        /// Its key waits until somebody retries or skips it.
        case park
        /// Its slot stops.
        case stop
    }

    /// What is to become of it.
    public var kind: Kind
    /// Why, for a person.
    public var reason: String

    /// A failure of that kind.
    public init(_ kind: Kind, _ reason: String) {
        self.kind = kind
        self.reason = reason
    }

    /// The reason.
    public var description: String { reason }
}
