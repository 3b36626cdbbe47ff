import Foundation
import MartletKit

/// A bank account, in the second generation of its schema.
///
/// The first generation stored an `amount` of euro cents in `Deposited` and `Withdrawn`, without a currency, and a
/// `balance` in its snapshots. What it stored is never rewritten: the upcasters below bring it up to date when it is read.
package struct Account: Aggregate, Codable, Equatable {
    package enum Event: Codable, Sendable, Equatable {
        case opened(owner: String)
        case deposited(Money)
        case withdrawn(Money)
        case closed
    }

    /// Money that comes or goes, and the transfer that moves it; nil is cash.
    package struct Money: Codable, Sendable, Equatable {
        package var cents: Int
        package var currency: String
        package var transfer: UUID?

        package init(cents: Int, currency: String = "EUR", transfer: UUID? = nil) {
            self.cents = cents
            self.currency = currency
            self.transfer = transfer
        }
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

    package static let type = AggregateType(literal: "account")

    package static let schema = Schema<Account>()
        .event("Opened", case: "opened")
        .event("Deposited", version: 2, case: "deposited")
        .event("Withdrawn", version: 2, case: "withdrawn")
        .event("Closed", case: "closed")
        .upcast("Deposited", from: 1) { (old: AmountV1) in old.money }
        .upcast("Withdrawn", from: 1) { (old: AmountV1) in old.money }
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
        case .opened(let owner): self.owner = owner
        case .deposited(let money): cents += money.cents
        case .withdrawn(let money): cents -= money.cents
        case .closed: owner = nil
        }
    }

    package func decide(_ command: Command) throws -> [Event] {
        if case .open(let owner) = command {
            guard self.owner == nil else { throw Refusal.isOpenAlready }
            return [.opened(owner: owner)]
        }
        guard owner != nil else { throw Refusal.isNotOpen }
        switch command {
        case .open: return []
        case .deposit(let amount, let transfer): return [.deposited(Money(cents: amount, transfer: transfer))]
        case .withdraw(let amount, let transfer):
            guard cents >= amount else { throw Refusal.tooLittle(balance: cents) }
            return [.withdrawn(Money(cents: amount, transfer: transfer))]
        case .close: return [.closed]
        }
    }
}

/// The payload of `Deposited` and `Withdrawn` in the first generation.
struct AmountV1: Codable, Sendable {
    var amount: Int

    var money: Account.Money { Account.Money(cents: amount) }
}

/// A snapshot in the first generation.
struct AccountV1: Codable, Sendable {
    var id: UUID
    var owner: String
    var balance: Int
}
