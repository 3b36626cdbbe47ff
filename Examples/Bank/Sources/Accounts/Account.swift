import Foundation
import Martlet

/// A bank account, in the second generation of its schema.
///
/// The first generation stored an `amount` of euro cents in `Deposited` and `Withdrawn`, without a currency, and a
/// `balance` in its snapshots. What it stored is never rewritten: the upcasters below bring it up to date when it is read.
package struct Account: CommandHandling, Codable, Equatable {
    package enum Event: Sendable, Equatable {
        case opened(Opened)
        case deposited(Deposited)
        case withdrawn(Withdrawn)
        case closed
    }

    package enum Command: Sendable {
        case open(owner: String)
        case deposit(cents: Int, transfer: UUID? = nil)
        case withdraw(cents: Int, transfer: UUID? = nil)
        case close
    }

    package enum Refusal: Error, Equatable {
        case isOpenAlready
        case isNotOpen
        case tooLittle(balance: Int)
    }

    package static let type: AggregateType = "account"

    package static let schema = Schema<Account>()
        .event(Event.opened)
        .event(Event.deposited)
        .event(Event.withdrawn)
        .event("Closed", .closed)
        .upcast("Deposited", from: 1) { (old: AmountV1) in Deposited(cents: old.amount) }
        .upcast("Withdrawn", from: 1) { (old: AmountV1) in Withdrawn(cents: old.amount) }
        .snapshot(version: 2)
        .upcastSnapshot(from: 1) { (old: AccountV1) in
            var account = Account(id: old.id)
            account.owner = old.owner
            account.cents = old.balance
            return account
        }

    package let id: UUID
    /// Nil unless it is open.
    package private(set) var owner: String?
    package private(set) var cents = 0

    package init(id: UUID) { self.id = id }

    package mutating func apply(_ event: Event) {
        switch event {
        case .opened(let opened): owner = opened.owner
        case .deposited(let deposited): cents += deposited.cents
        case .withdrawn(let withdrawn): cents -= withdrawn.cents
        case .closed: owner = nil
        }
    }

    package func decide(_ command: Command) throws -> [Event] {
        if case .open(let owner) = command {
            guard self.owner == nil else { throw Refusal.isOpenAlready }
            return [.opened(Opened(owner: owner))]
        }
        guard owner != nil else { throw Refusal.isNotOpen }
        switch command {
        case .open: return []
        case .deposit(let amount, let transfer): return [.deposited(Deposited(cents: amount, transfer: transfer))]
        case .withdraw(let amount, let transfer):
            guard cents >= amount else { throw Refusal.tooLittle(balance: cents) }
            return [.withdrawn(Withdrawn(cents: amount, transfer: transfer))]
        case .close: return [.closed]
        }
    }
}

/// Somebody has opened the account.
package struct Opened: EventPayload, Equatable {
    package static let eventType: EventType = "Opened"
    package var owner: String

    package init(owner: String) { self.owner = owner }
}

/// Money has come: cash, or by a transfer.
package struct Deposited: EventPayload, Equatable {
    package static let eventType: EventType = "Deposited"
    package static let schemaVersion: UInt32 = 2
    package var cents: Int
    package var currency: String
    package var transfer: UUID?

    package init(cents: Int, currency: String = "EUR", transfer: UUID? = nil) {
        self.cents = cents
        self.currency = currency
        self.transfer = transfer
    }
}

/// Money has gone: cash, or by a transfer.
package struct Withdrawn: EventPayload, Equatable {
    package static let eventType: EventType = "Withdrawn"
    package static let schemaVersion: UInt32 = 2
    package var cents: Int
    package var currency: String
    package var transfer: UUID?

    package init(cents: Int, currency: String = "EUR", transfer: UUID? = nil) {
        self.cents = cents
        self.currency = currency
        self.transfer = transfer
    }
}

/// The payload of `Deposited` and `Withdrawn` in the first generation.
struct AmountV1: Codable, Sendable { var amount: Int }

/// A snapshot in the first generation.
struct AccountV1: Codable, Sendable {
    var id: UUID
    var owner: String
    var balance: Int
}
