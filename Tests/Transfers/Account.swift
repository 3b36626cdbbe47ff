import Foundation
import MartletEventSourcing
import MartletModel

/// An account of the bank.
struct Account: Aggregate, Codable {
    /// Money that comes or goes, and the transfer that moves it; nil is cash.
    struct Posting: Codable, Sendable {
        var cents: Int
        var transfer: UUID?
    }

    enum Event: Codable, Sendable {
        case opened
        case deposited(Posting)
        case withdrawn(Posting)
        case closed
    }

    enum Command: Sendable {
        case open
        case deposit(Posting)
        case withdraw(Posting)
        case close
    }

    enum Refusal: Error, Equatable {
        case isNotOpen
        case tooLittle(balance: Int)
    }

    static let type = AggregateType(literal: "account")

    let id: UUID
    private(set) var isOpen = false
    private(set) var cents = 0

    init(id: UUID) { self.id = id }

    mutating func apply(_ event: Event) {
        switch event {
        case .opened: isOpen = true
        case .deposited(let posting): cents += posting.cents
        case .withdrawn(let posting): cents -= posting.cents
        case .closed: isOpen = false
        }
    }

    func decide(_ command: Command) throws -> [Event] {
        if case .open = command { return isOpen ? [] : [.opened] }
        guard isOpen else { throw Refusal.isNotOpen }
        switch command {
        case .open: return []
        case .deposit(let posting): return [.deposited(posting)]
        case .withdraw(let posting):
            guard cents >= posting.cents else { throw Refusal.tooLittle(balance: cents) }
            return [.withdrawn(posting)]
        case .close: return [.closed]
        }
    }
}
