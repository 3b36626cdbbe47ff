import Martlet
import MartletProjections
import MartletProjectionsSQLite

// task: connect
/// Runs `body` with a client that presents its certificate, and closes the client afterwards.
func withTenant(
    _ id: TenantID, on server: String, ca: String, certificate: String, key: String, body: (Tenant) async throws -> Void
) async throws {
    let tls = ClientTLS.mutual(ca: ca, certificate: certificate, privateKey: key)
    try await Martlet.connect(to: server, tls: tls, tenant: id) { client in
        let info = try await client.serverInfo()
        print("connected as \(info.identity), messages of up to \(info.limits.frameBytesMax) bytes")
        try await body(client.tenant())
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
    on order: AggregateReference, in tenant: Tenant,
    decide: (_ history: [RecordedEvent]) async throws -> [any EventPayload]
) async throws -> AppendReceipt {
    while true {
        let stream = try await tenant.load(order)
        var history: [RecordedEvent] = []
        for try await event in stream { history.append(event) }
        do {
            return try await tenant.append(decide(history), to: order, expecting: .exact(stream.view.version))
        } catch let error as MartletError where error.reason == .versionConflict {
            for conflict in error.conflicts {
                print("conflict: expected version \(conflict.expected), found \(conflict.actual)")
            }
        }
    }
}
// end

// task: retry
/// Appends an event once, however often the request has to be sent.
///
/// The client sends it again, with the same event id, for up to 30 seconds. `OUTCOME_UNKNOWN`, `DEADLINE_EXCEEDED` and
/// `CANCELLED` leave open whether it is stored: append the same `NewEvent` again, now or later, to find out.
func appendSafely(
    _ event: NewEvent, to order: AggregateReference, at version: Version, in tenant: Tenant
) async throws -> AppendReceipt {
    try await tenant.append([event], to: order, expecting: .exact(version))
}
// end

// task: load
/// Prints how many events the order had at a version, at a position, and at a time.
func printHistory(of order: AggregateReference, placed: AppendReceipt, in tenant: Tenant) async throws {
    let moments: [(name: String, target: LoadTarget)] = [
        ("as of version 1", .version(1)), ("as of its position", .position(placed.lastPosition)),
        ("as of its time", .time(placed.recordedAt)), ("now", .now),
    ]
    for moment in moments {
        var count = 0
        for try await _ in try await tenant.load(order, asOf: moment.target) { count += 1 }
        print("\(moment.name): \(count) events")
    }
}
// end

// task: subscribe
/// Hands over every event after a place, until `handle` returns false; throws `CANCELLED` when the task is cancelled.
/// Lost connections and drains are dealt with inside.
///
/// Keep the last event's `mark` (its position and id) together with what was made of it, and begin there next time; nil is
/// the start.
func follow(
    _ tenant: Tenant, after mark: EventMark?, handle: (RecordedEvent) async throws -> Bool
) async throws {
    for try await event in tenant.events(after: mark) {
        guard try await handle(event) else { return }
    }
}
// end

// task: project
/// A row for each event. The handler's writes and how far the projection is commit together.
struct OrderLines: RebuildableProjection {
    let tables = [ProjectionTable("order_lines", "position bigint PRIMARY KEY, order_id text, type text")]

    func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        let recorded = event.event
        try await transaction.execute(
            "INSERT INTO \(event.table("order_lines")) (position, order_id, type) VALUES ($1, $2, $3)",
            .integer(Int64(recorded.position.rawValue)), .text("\(recorded.aggregate.id)"),
            .text("\(recorded.event.type)"))
    }
}

/// Keeps a read model up to date, until the task is cancelled. `worker` is the same each time that the process comes.
func project(
    _ projection: any Projection, of consumer: ConsumerID, as worker: WorkerName, with client: MartletClient,
    into file: String
) async throws {
    try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition()))
    let database = try SQLiteReadModels(path: file)
    try await ProjectionRunner(projection, of: consumer, as: worker, client: client, database: database).run()
}
// end

// task: drain
struct LineAdded: EventPayload {
    static let eventType: EventType = "LineAdded"
}

/// Appends beside a subscription. Both go on when the server is drained, as soon as there is another one, or the same
/// again. If one of them fails, the other is cancelled.
func append(
    lines count: UInt64, to order: AggregateReference, in tenant: Tenant,
    appended: @escaping @Sendable (AppendReceipt) -> Void, handle: @escaping @Sendable (RecordedEvent) -> Bool
) async throws {
    try await withThrowingTaskGroup { group in
        group.addTask { try await follow(tenant, after: nil, handle: handle) }
        group.addTask {
            for version in 0..<count {
                let event = try NewEvent(LineAdded())
                appended(try await appendSafely(event, to: order, at: Version(version), in: tenant))
            }
        }
        try await group.waitForAll()
    }
}
// end
