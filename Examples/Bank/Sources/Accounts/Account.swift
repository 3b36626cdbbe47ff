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
    }

    package struct Money: Codable, Sendable, Equatable {
        package var cents: Int
        package var currency: String

        package init(cents: Int, currency: String = "EUR") {
            self.cents = cents
            self.currency = currency
        }
    }

    package enum Command: Sendable {
        case open(owner: String)
        case deposit(cents: Int)
        case withdraw(cents: Int)
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
    package private(set) var owner: String?
    package private(set) var cents = 0

    package init(id: UUID) { self.id = id }

    package mutating func apply(_ event: Event) {
        switch event {
        case .opened(let owner): self.owner = owner
        case .deposited(let money): cents += money.cents
        case .withdrawn(let money): cents -= money.cents
        }
    }

    package func decide(_ command: Command) throws -> [Event] {
        switch command {
        case .open(let owner):
            guard self.owner == nil else { throw Refusal.isOpenAlready }
            return [.opened(owner: owner)]
        case .deposit(let amount):
            guard owner != nil else { throw Refusal.isNotOpen }
            return [.deposited(Money(cents: amount))]
        case .withdraw(let amount):
            guard owner != nil else { throw Refusal.isNotOpen }
            guard cents >= amount else { throw Refusal.tooLittle(balance: cents) }
            return [.withdrawn(Money(cents: amount))]
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
