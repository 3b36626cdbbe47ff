import Foundation
import Martlet

/// Has somebody outside approve a transfer; it has the transfer's id.
package struct Clearing: CommandHandling {
    package enum Event: Sendable {
        case asked(ApprovalAsked)
        case approved
    }

    package enum Command: Sendable {
        case ask(cents: Int)
        case approve
    }

    package static let type: AggregateType = "clearing"
    package static let schema = Schema<Clearing>().event(Event.asked).event("approved", .approved)

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
        case .ask(let cents): hasBeenAsked ? [] : [.asked(.init(cents: cents))]
        case .approve: isApproved ? [] : [.approved]
        }
    }
}

/// Somebody has asked for an approval.
package struct ApprovalAsked: EventPayload {
    package static let eventType: EventType = "asked"
    package var cents: Int

    package init(cents: Int) { self.cents = cents }
}
