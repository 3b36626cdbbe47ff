import Foundation
import MartletEventSourcing
import MartletModel

/// Has somebody outside approve a transfer; it has the transfer's id.
struct Clearing: Aggregate {
    enum Event: Codable, Sendable {
        case asked(cents: Int)
        case approved
    }

    enum Command: Sendable {
        case ask(cents: Int)
        case approve
    }

    static let type = AggregateType(literal: "clearing")

    private var hasBeenAsked = false
    private var isApproved = false

    init(id: UUID) {}

    mutating func apply(_ event: Event) {
        switch event {
        case .asked: hasBeenAsked = true
        case .approved: isApproved = true
        }
    }

    func decide(_ command: Command) -> [Event] {
        switch command {
        case .ask(let cents): hasBeenAsked ? [] : [.asked(cents: cents)]
        case .approve: isApproved ? [] : [.approved]
        }
    }
}
