import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore
import Testing

@testable import MartletService

/// A worker of many tenants' consumers, on a bench: sees what is delivered, and says what it is told to.
final class BenchTenantsWorker {
    struct Delivered {
        var tenant: TenantID
        var delivery: ConsumeMessage.Delivery
        var event: RecordedEvent

        /// What is between the quotes of the JSON text.
        var payload: String { String(String(buffer: event.event.payload).dropFirst().dropLast()) }
    }

    let connection: BenchConnection
    private let call: CallKey
    /// The tenants that it was told of, in the order in which it was.
    private(set) var joined: [TenantID] = []
    private(set) var joinings = 0
    private(set) var left: [TenantID: [Reason]] = [:]
    private(set) var slots: [TenantID: [Int: ConsumeMessage.Slot]] = [:]
    private(set) var committed: [TenantID: Position] = [:]
    private(set) var paused: [TenantID: Bool] = [:]
    private(set) var waitsForCredit: [TenantID: UInt64] = [:]

    init(_ connection: BenchConnection, _ request: ConsumeTenantsRequest, creditBytes: UInt64 = 1 << 20) {
        self.connection = connection
        call = connection.start(.consumeTenants(request), creditBytes: creditBytes)
    }

    var error: MartletError? { connection.calls[call]?.error }
    var isOver: Bool { connection.calls[call]?.isOver ?? true }

    /// What was delivered since the last time.
    func take() throws -> [Delivered] {
        var delivered: [Delivered] = []
        for message in connection.takeMessages(of: call) {
            switch message {
            case .consume(.joined(let tenants)):
                joinings += 1
                joined += tenants
            case .consumeOf(let tenant, let message):
                #expect(joined.contains(tenant), "a tenant is told of before it is worked on")
                delivered += try take(message, of: tenant)
            default: Issue.record("a worker of many tenants' consumers was sent \(message)")
            }
        }
        return delivered
    }

    private func take(_ message: ConsumeMessage, of tenant: TenantID) throws -> [Delivered] {
        switch message {
        case .assigned(let new): for slot in new { slots[tenant, default: [:]][slot.number] = slot }
        case .revoked(let numbers): for number in numbers { slots[tenant]?[number] = nil }
        case .events(let entries, let deliveries):
            let events = try RecordedEntries.decode(entries)
            try #require(events.count == deliveries.count)
            return zip(deliveries, events).map { Delivered(tenant: tenant, delivery: $0, event: $1) }
        case .committed(_, let checkpoint):
            committed[tenant] = max(committed[tenant] ?? .start, checkpoint.position)
        case .paused(let isPaused): paused[tenant] = isPaused
        case .waits(let bytes): waitsForCredit[tenant] = bytes
        case .left(let error):
            left[tenant, default: []].append(error.reason)
            slots[tenant] = nil
        case .stopped: break
        case .joined: Issue.record("joined names no tenant")
        }
        return []
    }

    func say(_ replies: WorkerReply...) { connection.take(replies, of: call) }
    func acknowledge(_ delivered: [Delivered]) {
        connection.take(delivered.map { .acknowledge($0.delivery.number, upTo: false) }, of: call)
    }
    func addCredit(_ bytes: UInt64) { connection.addCredit(call, bytes: bytes) }
    func cancel() { connection.cancel(call) }
}
