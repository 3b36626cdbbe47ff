import Foundation
import MartletKit

/// Has somebody outside approve a transfer; it has the transfer's id.
package struct Clearing: Aggregate {
    package enum Event: Codable, Sendable {
        case asked(cents: Int)
        case approved
    }

    package enum Command: Sendable {
        case ask(cents: Int)
        case approve
    }

    package static let type = AggregateType(literal: "clearing")

    private var hasBeenAsked = false
    private var isApproved = false

    package init(id: UUID) {}

    package mutating func apply(_ event: Event) {
        switch event {
        case .asked: hasBeenAsked = true
        case .approved: isApproved = true
        }
    }

    package func decide(_ command: Command) -> [Event] {
        switch command {
        case .ask(let cents): hasBeenAsked ? [] : [.asked(cents: cents)]
        case .approve: isApproved ? [] : [.approved]
        }
    }
}
