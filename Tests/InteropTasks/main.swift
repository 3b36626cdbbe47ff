// The tasks of Docs/CLIENTS.md with the Swift client; Tests/Interop/run_tasks.py starts this once for each of them:
//
//     InteropTasks TARGET CA CERTIFICATE KEY TENANT TASK [COUNT [DATABASE]]
//
// The parts between `task:` and `end` in Tasks.swift are those that the page shows.
import Foundation
import Martlet
import MartletProjections

struct Misuse: Error, CustomStringConvertible {
    var description: String
}

struct OrderShipped: EventPayload {
    static let eventType: EventType = "OrderShipped"
    var after: Int
}

/// The projection of the page, which says what it takes in.
struct ReportedLines: RebuildableProjection {
    let lines = OrderLines()
    var tables: [ProjectionTable] { lines.tables }

    func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        try await lines.handle(event, in: transaction)
        say("projected \(event.event.position)")
    }
}

/// Prints a line at once.
@Sendable func say(_ line: String) {
    print(line)
    fflush(nil)
}

/// Prints an event.
/// - Returns: whether more are to come.
@Sendable func say(_ event: RecordedEvent, of count: UInt64) -> Bool {
    say("event \(event.position)")
    return event.position < Position(count)
}

func conflict(_ order: AggregateReference, _ tenant: Tenant) async throws {
    _ = try await tenant.append([OrderPlaced(item: "book", cents: 1200)], to: order, expecting: .none)
    var tries = 0
    let receipt = try await execute(on: order, in: tenant) { history in
        tries += 1
        if tries == 1 {
            _ = try await tenant.append([OrderPaid(cents: 1200)], to: order, expecting: .exact(1))
        }
        return [OrderShipped(after: history.count)]
    }
    print("appended version \(receipt.aggregates[0].lastVersion)")
}

func retry(_ order: AggregateReference, _ tenant: Tenant) async throws {
    say("ready")
    _ = readLine()
    let event = try NewEvent(OrderPlaced(item: "book", cents: 1200))
    let receipt = try await appendSafely(event, to: order, at: .none, in: tenant)
    print("stored as version \(receipt.aggregates[0].lastVersion), replayed: \(receipt.replayed)")
}

/// Follows to the middle, and goes on from there as a process that comes after it would.
func subscribe(_ count: UInt64, _ tenant: Tenant) async throws {
    var last: EventMark?
    try await follow(tenant, after: nil) { event in
        last = event.mark
        return say(event, of: count / 2)
    }
    try await follow(tenant, after: last) { say($0, of: count) }
}

/// Projects until so many events are in the read model.
func project(_ count: UInt64, _ tenant: Tenant, into file: String) async throws {
    guard let name = ConsumerName("order-lines"), let worker = WorkerName("worker-1") else {
        throw Misuse(description: "the names are not allowed")
    }
    let consumer = ConsumerID(tenant: tenant.id, name: name)
    try await withThrowingTaskGroup { group in
        group.addTask {
            try await project(ReportedLines(), of: consumer, as: worker, with: tenant.client, into: file)
        }
        for try await event in tenant.events() where event.position == Position(count) { break }
        try await tenant.client.awaitConsumer(consumer, position: Position(count))
        group.cancelAll()
        try await group.waitForAll()
    }
}

func run(_ task: String, _ more: [String], _ tenant: Tenant) async throws {
    let order = tenant.aggregate("order", id: UUID())
    let count = more.first.flatMap { UInt64($0) } ?? 0
    switch task {
    case "connect": break
    case "append":
        let receipt = try await place(order, in: tenant)
        let part = receipt.aggregates[0]
        print(
            "appended versions \(part.firstVersion) to \(part.lastVersion)",
            "at positions \(receipt.firstPosition) to \(receipt.lastPosition)")
    case "conflict": try await conflict(order, tenant)
    case "retry": try await retry(order, tenant)
    case "load":
        let placed = try await place(order, in: tenant)
        _ = try await tenant.append([OrderShipped(after: 2)], to: order, expecting: .exact(2))
        try await printHistory(of: order, placed: placed, in: tenant)
    case "subscribe": try await subscribe(count, tenant)
    case "project" where more.count == 2: try await project(count, tenant, into: more[1])
    case "drain":
        try await append(
            lines: count, to: order, in: tenant, appended: { say("appended version \($0.aggregates[0].lastVersion)") },
            handle: { say($0, of: count) })
    default: throw Misuse(description: "there is no task \(task)")
    }
}

do {
    let arguments = CommandLine.arguments
    guard arguments.count >= 7, let tenant = UUID(uuidString: arguments[5]) else {
        throw Misuse(description: "usage: InteropTasks TARGET CA CERTIFICATE KEY TENANT TASK [COUNT [DATABASE]]")
    }
    try await withTenant(
        TenantID(tenant), on: arguments[1], ca: arguments[2], certificate: arguments[3], key: arguments[4]
    ) { tenant in
        try await run(arguments[6], Array(arguments.dropFirst(7)), tenant)
    }
} catch {
    FileHandle.standardError.write(Data("InteropTasks: \(error)\n".utf8))
    exit(1)
}
