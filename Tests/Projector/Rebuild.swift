import Foundation
import Logging
import MartletClient
import MartletModel
import MartletProjections

/// A row for each aggregate. Its digest depends on which events were taken in, how often, and in which order.
struct Totals: RebuildableProjection {
    let tables = [
        ProjectionTable("totals", "key text PRIMARY KEY, events bigint NOT NULL, digest bigint NOT NULL")
    ]

    func handle(_ event: ProjectedEvent, in transaction: any ProjectionTransaction) async throws {
        let totals = event.table("totals")
        try await transaction.execute(
            """
            INSERT INTO \(totals) (key, events, digest) VALUES ($1, 1, $2)
            ON CONFLICT (key) DO UPDATE
            SET events = \(totals).events + 1, digest = (\(totals).digest * 31 + excluded.digest) % 1000000007
            """, .text("\(event.event.aggregate.id)"), .integer(Int64(event.event.position.rawValue % 1_000_000_007)))
    }
}

/// Builds the read model to the tenant's end: from nothing by a runner, or anew beside what is there.
func build<Database: ProjectionDatabase>(
    _ work: String, of consumer: ConsumerID, _ client: MartletClient, _ database: Database
) async throws {
    let began = ContinuousClock.now
    let silent = Logger(label: "projector", factory: { _ in SwiftLogNoOpLogHandler() })
    try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition(slotCount: 8), expected: .any))
    switch work {
    case "fresh":
        guard let worker = WorkerName(try setting("WORKER")) else { throw Missing(name: "WORKER") }
        let runner = ProjectionRunner(
            Totals(), of: consumer, as: worker, client: client, database: database, logger: silent)
        let head = try await client.head(of: consumer.tenant).position
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await runner.run() }
            group.addTask {
                while try await client.consumer(consumer).settledTo < head {
                    try await Task.sleep(for: .milliseconds(20))
                }
            }
            try await group.next()
            group.cancelAll()
        }
    case "rebuild":
        var rebuilder = ProjectionRebuilder(
            Totals(), of: consumer, client: client, database: database, logger: silent)
        if let share = Double(try setting("TIME_SHARE")) { rebuilder.timeShare = share }
        if let rate = Double(try setting("RATE")), rate > 0 { rebuilder.eventsPerSecondMax = rate }
        try await rebuilder.rebuild()
    default: throw Missing(name: "fresh or rebuild as BUILD")
    }
    print("\(work): \((ContinuousClock.now - began) / .seconds(1)) s")
}
