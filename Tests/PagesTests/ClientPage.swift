import Martlet
import Testing

// What the articles in Sources/Martlet/Martlet.docc show beside the aggregates.

struct OrderPlaced: EventPayload {
    static let eventType: EventType = "OrderPlaced"
    var customer: String
    var cents: Int
}

struct OrderPaid: EventPayload {
    static let eventType: EventType = "OrderPaid"
    var method: String
}

@Suite struct ClientPage {
    /// Compiled only: it needs a server elsewhere.
    private func connect(_ id: TenantID) async throws {
        try await Martlet.connect(
            to: "events.example.com:7311",
            tls: .mutual(ca: "ca.pem", certificate: "orders.pem", privateKey: "orders.key"), tenant: id
        ) { client in
            print("the head is", try await client.tenant().head().position)
        }
    }

    @Test func appending() async throws {
        try await withTenant { tenant in
            let order = try tenant.aggregate("order", key: "A-17")
            try await place(order, tenant)
            try await place(order, tenant)
            #expect(try await tenant.head().position == 1)
            try await pay(order, tenant)
            #expect(try await tenant.head().position == 2)
        }
    }

    private func place(_ order: AggregateReference, _ tenant: Tenant) async throws {
        do {
            let receipt = try await tenant.append(
                [OrderPlaced(customer: "Ada", cents: 4_250)], to: order, expecting: .none)
            print("stored at position", receipt.lastPosition)
        } catch let error as MartletError where error.reason == .versionConflict {
            print("the order exists, at version", error.conflicts[0].actual)
        }
    }

    private func pay(_ order: AggregateReference, _ tenant: Tenant) async throws {
        // Made once, and kept until the append has succeeded.
        let payment = try NewEvent(OrderPaid(method: "card"))
        for _ in 1...2 {
            let receipt = try await tenant.append([payment], to: order, expecting: .exact(1))
            print(receipt.replayed ? "was stored before" : "is stored now")
        }
    }

    @Test func reading() async throws {
        try await withTenant { tenant in
            let order = try tenant.aggregate("order", key: "A-17")
            try await place(order, tenant)
            try await pay(order, tenant)
            var paid = 0

            for try await event in try await tenant.load(order, asOf: .version(2)) {
                switch try event.payload(as: OrderPlaced.self, OrderPaid.self) {
                case let placed as OrderPlaced: print(event.version, placed.customer)
                case let payment as OrderPaid: print(event.version, payment.method)
                default: break
                }
            }

            for try await event in tenant.events(after: .start, where: .payloads(OrderPaid.self)) {
                guard let payment = try event.payload(as: OrderPaid.self) else { continue }
                print(event.position, event.aggregateKey ?? "-", payment.method)
                paid += 1
                if paid == 1 { break }
            }

            for try await item in tenant.events().items {
                switch item {
                case .events(let events, let head): print(events.count, "events of", head.position)
                case .caughtUp(let position, _): print("from", position, "on events come live")
                case .reconnected: print("the connection was lost, and is back")
                default: break
                }
                if case .caughtUp = item { break }
            }
            #expect(paid == 1)
        }
    }
}
