import Martlet

struct OrderShipped: EventPayload {
    static let eventType: EventType = "OrderShipped"
    var parcel: String
}

try await Martlet.connect { client in
    let tenant = try client.tenant()
    let order = try tenant.aggregate("order", key: "A-17")
    let receipt = try await tenant.append([OrderShipped(parcel: "X2")], to: order, expecting: .none)
    print("stored at position", receipt.lastPosition)

    for try await event in tenant.events() {
        guard let shipped = try event.payload(as: OrderShipped.self) else { continue }
        print(event.position, event.aggregateKey ?? "-", shipped.parcel)
    }
}
