import Foundation
import Martlet
import MartletProjections

// Tests/Interop/run_tasks.py starts this once for each task:
//
//     ClientTasks TARGET CA CERTIFICATE KEY TENANT TASK [COUNT [DATABASE]]

struct OrderShipped: EventPayload {
    static let eventType: EventType = "OrderShipped"
    var after: Int
}

/// Prints a line at once.
func say(_ line: String) {
    print(line)
    fflush(nil)
}

func conflictTask(_ order: AggregateReference, _ tenant: Tenant) async throws {
    _ = try await appendSafely(try NewEvent(OrderPlaced(item: "book", cents: 1200)), to: order, after: 0, in: tenant)
    var tries = 0
    let receipt = try await execute(order, in: tenant) { events in
        tries += 1
        if tries == 1 {
            _ = try await appendSafely(try NewEvent(OrderPaid(cents: 1200)), to: order, after: 1, in: tenant)
        }
        return [OrderShipped(after: events.count)]
    }
    print("appended version \(receipt.aggregates[0].lastVersion)")
}

func retryTask(_ order: AggregateReference, _ tenant: Tenant) async throws {
    say("ready")
    _ = readLine()
    let event = try NewEvent(OrderPlaced(item: "book", cents: 1200))
    let receipt = try await appendSafely(event, to: order, after: 0, in: tenant)
    print("stored as version \(receipt.aggregates[0].lastVersion), replayed: \(receipt.replayed)")
}

func loadTask(_ order: AggregateReference, _ tenant: Tenant) async throws {
    let placed = try await place(order, in: tenant)
    _ = try await appendSafely(try NewEvent(OrderShipped(after: 2)), to: order, after: 2, in: tenant)
    try await printHistory(of: order, placed, in: tenant)
}

struct Enough: Error {}

func printEvents(_ tenant: Tenant, _ count: Int) async throws {
    do {
        try await follow(tenant, after: nil) { event in
            say("event \(event.position)")
            if event.position.rawValue == UInt64(count) { throw Enough() }
        }
    } catch is Enough {}
}

/// Says what is taken in.
struct Announced: Projection {
    func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        try await OrderLines().handle(event, in: transaction)
        say("projected \(event.event.position)")
    }
}

func projectTask(_ tenant: Tenant, _ count: Int, _ file: String) async throws {
    guard let name = ConsumerName("order-lines") else { return }
    let consumer = ConsumerID(tenant: tenant.id, name: name)
    try await withThrowingTaskGroup(of: Void.self) { group in
        group.addTask { try await run(Announced(), of: consumer, in: file, tenant.client) }
        // Made by the runner's task, perhaps not yet.
        while (try? await tenant.client.consumer(consumer)) == nil { try await Task.sleep(for: .milliseconds(20)) }
        try await tenant.client.awaitConsumer(
            consumer, position: Position(UInt64(count)), timeout: .seconds(100))
        group.cancelAll()
        try await group.waitForAll()
    }
}

func drainTask(_ order: AggregateReference, _ tenant: Tenant, _ count: Int) async throws {
    async let events: Void = printEvents(tenant, count)
    try await appendMany(count, to: order, in: tenant) { say("appended version \($0.aggregates[0].lastVersion)") }
    try await events
}

let arguments = CommandLine.arguments.dropFirst()
guard arguments.count >= 6, let uuid = UUID(uuidString: arguments[5]) else { fatalError("\(arguments)") }
let (task, count) = (arguments[6], arguments.count > 6 ? Int(arguments[7]) ?? 0 : 0)
try await withClient(of: arguments[1], ca: arguments[2], certificate: arguments[3], key: arguments[4]) { client in
    let tenant = client.tenant(TenantID(uuid))
    let order = tenant.aggregate("order", id: UUID())
    switch task {
    case "connect":
        let scope = try await client.serverInfo().scope
        precondition(scope == .only([tenant.id]), "\(scope)")
    case "append":
        let receipt = try await place(order, in: tenant)
        let first = receipt.aggregates[0]
        print(
            "appended versions \(first.firstVersion) to \(first.lastVersion) "
                + "at positions \(receipt.firstPosition) to \(receipt.lastPosition)")
    case "conflict": try await conflictTask(order, tenant)
    case "retry": try await retryTask(order, tenant)
    case "load": try await loadTask(order, tenant)
    case "subscribe": try await printEvents(tenant, count)
    case "project": try await projectTask(tenant, count, arguments[8])
    case "drain": try await drainTask(order, tenant, count)
    default: fatalError("there is no task \(task)")
    }
}
