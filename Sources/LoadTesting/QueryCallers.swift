import MartletClient
import MartletModel
import NIOCore

/// A client that loads one of many aggregates at each call.
struct LoadCaller: Caller {
    let client: MartletClient
    let tenant: TenantID
    let aggregates: [AggregateName]
    /// Events of each aggregate.
    let events: Int
    private(set) var loaded: UInt64 = 0
    var executor: any TaskExecutor { client.taskExecutor }
    private var random = FastRandom()

    init(client: MartletClient, tenant: TenantID, aggregates: [AggregateName], events: Int) {
        self.client = client
        self.tenant = tenant
        self.aggregates = aggregates
        self.events = events
    }

    mutating func call() async throws(MartletError) -> Int {
        let aggregate = aggregates[Int.random(in: 0..<aggregates.count, using: &random)]
        let pages = try await client.load(LoadRequest(tenant: tenant, aggregate: aggregate, upcasting: .raw)).batches
        var version: UInt64 = 0
        for try await batch in pages where !batch.isEmpty {
            guard batch.firstVersion.rawValue == version + 1,
                batch.lastVersion.rawValue == version + UInt64(batch.count)
            else { throw .badAnswer("a load of \(aggregate) returned wrong events after version \(version)") }
            version = batch.lastVersion.rawValue
        }
        guard version == UInt64(events) else {
            throw .badAnswer("a load of \(aggregate) ended at version \(version), but \(events) were written")
        }
        loaded += version
        return events
    }
}

/// A client that reads the whole history of a tenant at each call.
struct ReadCaller: Caller {
    let client: MartletClient
    let tenant: TenantID
    /// The history lies after this position.
    let after: Position
    let events: Int
    private(set) var complete: UInt64 = 0
    var executor: any TaskExecutor { client.taskExecutor }

    init(client: MartletClient, tenant: TenantID, after: Position, events: Int) {
        self.client = client
        self.tenant = tenant
        self.after = after
        self.events = events
    }

    mutating func call() async throws(MartletError) -> Int {
        let pages = try await client.read(
            ReadRequest(
                tenant: tenant, after: after, target: .position(Position(after.rawValue + UInt64(events))),
                upcasting: .raw)
        ).batches
        var position = after.rawValue
        for try await batch in pages where !batch.isEmpty {
            guard batch.firstPosition.rawValue == position + 1,
                batch.lastPosition.rawValue == position + UInt64(batch.count)
            else { throw .badAnswer("a read returned wrong events after position \(position)") }
            position = batch.lastPosition.rawValue
        }
        guard position == after.rawValue + UInt64(events) else {
            throw .badAnswer(
                "a read ended at position \(position), but the history ends at \(after.rawValue + UInt64(events))")
        }
        complete += 1
        return events
    }
}

extension MartletError {
    /// The server answered something that cannot be.
    static func badAnswer(_ message: String) -> MartletError {
        MartletError(.dataLoss, reason: .badAnswer, message: message)
    }
}
