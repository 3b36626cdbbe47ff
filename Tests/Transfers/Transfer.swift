import Foundation
import MartletEventSourcing
import MartletModel
import MartletProcesses

struct Transfer: Aggregate {
    enum Event: Codable, Sendable {
        case requested(from: UUID, to: UUID, cents: Int)
        case rejected(reason: String)
        case withdrawn
        case overdue
        case completed
        case refunded(reason: String)
    }
    enum Command: Sendable { case request(from: UUID, to: UUID, cents: Int) }
    enum Phase { case new, requested, rejected, withdrawn, completed, refunded }

    static let type = AggregateType(literal: "transfer")

    private(set) var phase = Phase.new
    private(set) var from = UUID()
    private(set) var to = UUID()
    private(set) var cents = 0

    init(id: UUID) {}

    mutating func apply(_ event: Event) {
        switch event {
        case .requested(let from, let to, let cents):
            (self.from, self.to, self.cents, phase) = (from, to, cents, .requested)
        case .rejected: phase = .rejected
        case .withdrawn: phase = .withdrawn
        case .overdue: break
        case .completed: phase = .completed
        case .refunded: phase = .refunded
        }
    }

    func decide(_ command: Command) -> [Event] {
        guard phase == .new, case .request(let from, let to, let cents) = command else { return [] }
        return [.requested(from: from, to: to, cents: cents)]
    }
}

struct Transfers: ProcessManager {
    typealias State = Transfer

    var patience = Duration.seconds(60)

    func correlate(_ event: ProcessEvent) -> [UUID] {
        let aggregate = event.recorded.aggregate
        return [Transfer.type, Clearing.type].contains(aggregate.type) ? [aggregate.id] : []
    }

    func plan(_ event: ProcessEvent, for transfer: Loaded<Transfer>) throws -> Plan {
        let isApproved = try event.events(of: Clearing.self).contains { if case .approved = $0 { true } else { false } }
        switch (transfer.phase, try event.events(of: Transfer.self).first) {
        case (.requested, .requested): return withdraw(transfer)
        case (.withdrawn, .overdue): return refund(transfer, "it was not approved in time")
        case (.withdrawn, nil) where isApproved: return deposit(transfer)
        default: return Plan()
        }
    }

    private func withdraw(_ transfer: Loaded<Transfer>) -> Plan {
        let posting = Account.Posting(cents: transfer.cents, transfer: transfer.id)
        return Plan()
            .execute(.withdraw(posting), on: Account.self, transfer.from) { refusal in
                Plan().record(.rejected(reason: "\(refusal)"))
            }
            .execute(.ask(cents: transfer.cents), on: Clearing.self, transfer.id)
            .record(.withdrawn)
            .setTimeOut("approval", after: patience, .overdue)
    }

    private func deposit(_ transfer: Loaded<Transfer>) -> Plan {
        let posting = Account.Posting(cents: transfer.cents, transfer: transfer.id)
        return Plan()
            .execute(.deposit(posting), on: Account.self, transfer.to) { refusal in
                refund(transfer, "\(refusal)")
            }
            .record(.completed)
            .cancelTimeOut("approval")
    }

    private func refund(_ transfer: Loaded<Transfer>, _ reason: String) -> Plan {
        let posting = Account.Posting(cents: transfer.cents, transfer: transfer.id)
        return Plan()
            .execute(.deposit(posting), on: Account.self, transfer.from)
            .record(.refunded(reason: reason))
            .cancelTimeOut("approval")
    }
}
