import Accounts
import Foundation
import Martlet
import MartletProcesses

/// What one transfer knows: how far it has come.
package struct Transfer: CommandHandling {
    package enum Event: Sendable {
        case requested(TransferRequested)
        case rejected(TransferRejected)
        case withdrawn
        case overdue
        case completed
        case refunded(TransferRefunded)
    }

    package enum Command: Sendable { case request(from: UUID, to: UUID, cents: Int) }

    package enum Phase { case new, requested, rejected, withdrawn, completed, refunded }

    package static let type: AggregateType = "transfer"

    package static let schema = Schema<Transfer>()
        .event(Event.requested)
        .event(Event.rejected)
        .event("withdrawn", .withdrawn)
        .event("overdue", .overdue)
        .event("completed", .completed)
        .event(Event.refunded)

    package private(set) var phase = Phase.new
    package private(set) var from = UUID()
    package private(set) var to = UUID()
    package private(set) var cents = 0

    package init(id: UUID) {}

    package mutating func apply(_ event: Event) {
        switch event {
        case .requested(let asked): (from, to, cents, phase) = (asked.from, asked.to, asked.cents, .requested)
        case .rejected: phase = .rejected
        case .withdrawn: phase = .withdrawn
        case .overdue: break
        case .completed: phase = .completed
        case .refunded: phase = .refunded
        }
    }

    package func decide(_ command: Command) -> [Event] {
        guard phase == .new, case .request(let from, let to, let cents) = command else { return [] }
        return [.requested(.init(from: from, to: to, cents: cents))]
    }
}

/// Somebody has asked for a transfer.
package struct TransferRequested: EventPayload {
    package static let eventType: EventType = "requested"
    package var from: UUID
    package var to: UUID
    package var cents: Int

    package init(from: UUID, to: UUID, cents: Int) { (self.from, self.to, self.cents) = (from, to, cents) }
}

/// The account has refused to give the money.
package struct TransferRejected: EventPayload {
    package static let eventType: EventType = "rejected"
    package var reason: String

    package init(reason: String) { self.reason = reason }
}

/// The money is back.
package struct TransferRefunded: EventPayload {
    package static let eventType: EventType = "refunded"
    package var reason: String

    package init(reason: String) { self.reason = reason }
}

/// Moves money between accounts: takes it from one, has the transfer approved, and brings it to the other, or back.
package struct Transfers: ProcessManager {
    package typealias State = Transfer

    /// How long it waits for an approval.
    package var patience: Duration

    package init(patience: Duration = .seconds(60)) { self.patience = patience }

    package func correlate(_ event: ProcessEvent) -> [UUID] {
        let aggregate = event.recorded.aggregate
        return [Transfer.type, Clearing.type].contains(aggregate.type) ? [aggregate.id] : []
    }

    package func plan(_ event: ProcessEvent, for transfer: Loaded<Transfer>) throws -> Plan {
        let isApproved = try event.events(of: Clearing.self).contains { if case .approved = $0 { true } else { false } }
        switch (transfer.phase, try event.events(of: Transfer.self).first) {
        case (.requested, .requested): return withdraw(transfer)
        case (.withdrawn, .overdue): return refund(transfer, "it was not approved in time")
        case (.withdrawn, nil) where isApproved: return deposit(transfer)
        default: return Plan()
        }
    }

    private func withdraw(_ transfer: Loaded<Transfer>) -> Plan {
        Plan()
            .execute(.withdraw(cents: transfer.cents, transfer: transfer.id), on: Account.self, transfer.from) {
                Plan().record(.rejected(.init(reason: "\($0)")))
            }
            .execute(.ask(cents: transfer.cents), on: Clearing.self, transfer.id)
            .record(.withdrawn)
            .setTimeOut("approval", after: patience, .overdue)
    }

    private func deposit(_ transfer: Loaded<Transfer>) -> Plan {
        Plan()
            .execute(.deposit(cents: transfer.cents, transfer: transfer.id), on: Account.self, transfer.to) {
                refund(transfer, "\($0)")
            }
            .record(.completed)
            .cancelTimeOut("approval")
    }

    private func refund(_ transfer: Loaded<Transfer>, _ reason: String) -> Plan {
        Plan()
            .execute(.deposit(cents: transfer.cents, transfer: transfer.id), on: Account.self, transfer.from)
            .record(.refunded(.init(reason: reason)))
            .cancelTimeOut("approval")
    }
}
