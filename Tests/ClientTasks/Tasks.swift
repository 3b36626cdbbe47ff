import Foundation
import Martlet
import MartletProjections
import MartletProjectionsSQLite

// The tasks of Docs/CLIENTS.md with Martlet's Swift client. The parts between `task:` and `end` are those that the page
// shows; main.swift carries them out.

// task: connect
/// A client that presents its certificate. It takes the limit of what it receives from the server.
func withClient(
    of server: String, ca: String, certificate: String, key: String,
    _ body: (MartletClient) async throws -> Void
) async throws {
    let tls = ClientTLS.mutual(ca: ca, certificate: certificate, privateKey: key)
    try await Martlet.connect(to: server, tls: tls) { client in
        let info = try await client.serverInfo()
        print("connected as \(info.identity), messages of up to \(info.limits.frameBytesMax) bytes")
        try await body(client)
    }
}

// end

// task: append
struct OrderPlaced: EventPayload {
    static let eventType: EventType = "OrderPlaced"
    var item: String
    var cents: Int
}

struct OrderPaid: EventPayload {
    static let eventType: EventType = "OrderPaid"
    var cents: Int
}

/// Begins an order with two events: both are stored, or neither.
func place(_ order: AggregateReference, in tenant: Tenant) async throws -> AppendReceipt {
    try await tenant.append(
        [OrderPlaced(item: "book", cents: 1200), OrderPaid(cents: 1200)], to: order, expecting: .none)
}

// end

// task: conflict
/// Appends what is decided on the order's history, and decides again if somebody else was faster.
func execute(
    _ order: AggregateReference, in tenant: Tenant,
    _ decide: ([RecordedEvent]) async throws -> [any EventPayload]
) async throws -> AppendReceipt {
    while true {
        let history = try await tenant.load(order)
        let events = try await history.reduce(into: []) { $0.append($1) }
        do {
            return try await tenant.append(decide(events), to: order, expecting: .exact(history.view.version))
        } catch let error as MartletError where error.reason == .versionConflict {
            for conflict in error.conflicts {
                print("conflict: expected version \(history.view.version), found \(conflict.actual)")
            }
        }
    }
}

// end

// task: retry
/// Appends an event once, however often the request has to be sent.
///
/// The client sends it again, with the same event id, while its call timeout of 30 seconds lasts. An error whose reason is
/// `.outcomeUnknown` means that this has passed and the event may be stored: append the same event again, now or later, to
/// find out.
func appendSafely(
    _ event: NewEvent, to order: AggregateReference, after version: Martlet.Version, in tenant: Tenant
) async throws -> AppendReceipt {
    try await tenant.append([event], to: order, expecting: .exact(version))
}

// end

// task: load
/// What the order was at a version, at a position, and at a time.
func printHistory(of order: AggregateReference, _ placed: AppendReceipt, in tenant: Tenant) async throws {
    let moments: [(String, LoadTarget)] = [
        ("as of version 1", .version(1)), ("as of its position", .position(placed.lastPosition)),
        ("as of its time", .time(placed.recordedAt)), ("now", .now),
    ]
    for (name, moment) in moments {
        var count = 0
        for try await _ in try await tenant.load(order, asOf: moment) { count += 1 }
        print("\(name): \(count) events")
    }
}

// end

// task: subscribe
/// Hands over every event after a place, for ever. Lost connections and drains are dealt with inside.
///
/// Keep the last event's place (its position and id) together with what was made of it, and begin there next time.
func follow(
    _ tenant: Tenant, after place: EventMark?, _ handle: (RecordedEvent) async throws -> Void
) async throws {
    for try await event in tenant.events(from: .after(place?.position ?? .start), lastSeen: place) {
        try await handle(event)
    }
}

// end

// task: project
/// Puts each event into a table once: the handler's writes and the progress commit together.
struct OrderLines: Projection {
    func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        let recorded = event.event
        try await transaction.execute(
            "INSERT INTO order_lines (position, order_id, type) VALUES ($1, $2, $3)",
            .integer(Int64(recorded.position.rawValue)), .text("\(recorded.aggregate.id)"),
            .text("\(recorded.event.type)"))
    }
}

/// Keeps the table up to date until the task is cancelled.
func run(
    _ projection: some Projection, of consumer: ConsumerID, in file: String, _ client: MartletClient
) async throws {
    let database = try SQLiteReadModels(path: file)
    _ = try await database.withTransaction { transaction in
        try await transaction.execute(
            "CREATE TABLE IF NOT EXISTS order_lines (position bigint PRIMARY KEY, order_id text, type text)")
    }
    try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition()))
    guard let worker = WorkerName("order-lines-1") else { return }
    try await ProjectionRunner(projection, of: consumer, as: worker, client: client, database: database).run()
}

// end

// task: drain
/// Calls and subscriptions go on when a server is drained, as soon as there is another one, or the same again.
func appendMany(
    _ count: Int, to order: AggregateReference, in tenant: Tenant, _ appended: (AppendReceipt) -> Void
) async throws {
    for version in 0..<count {
        let event = try NewEvent(OrderPaid(cents: 1))
        appended(try await appendSafely(event, to: order, after: Martlet.Version(UInt64(version)), in: tenant))
    }
}

// end
