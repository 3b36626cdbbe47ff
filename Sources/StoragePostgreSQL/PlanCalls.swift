import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// The statements that store a plan.
struct PlanCalls {
    /// Where a tenant stands before the plan.
    struct Before {
        var no: Int64
        var aggregateCount: Int64
        /// The aggregates of that name, where it is there already.
        var aggregate: (AggregateName) -> RememberedTenant.Aggregate?
    }

    /// Where a tenant stands after the plan.
    struct After {
        var no: Int64
        var aggregateCount: Int64
        /// Numbers of all aggregates of the plan.
        var numbers: [AggregateName: Int64] = [:]
    }

    /// Of each tenant of the plan, in its order.
    private(set) var after: [After] = []
    /// All that adds rows.
    private(set) var rows: [PostgresCall] = []
    /// What changes tenants' rows, whose locks are held.
    private(set) var movedRows: [PostgresCall]
    private let notices: [String]

    /// - Parameters:
    ///   - server: the server that stores it.
    ///   - before: of each tenant of the plan, in its order.
    init(_ plan: BatchPlan, server: UUID, before: [Before]) {
        var aggregates = NewAggregates()
        var beside: [PostgresCall] = []
        var consumers = ConsumerCalls()
        var schedules = ScheduleCalls(server: server)
        let runs = plan.tenants.compactMap { $0.run }
        let eventCount = runs.reduce(0) { $0 + $1.events.count }
        let bytes = runs.reduce(0) { $0 + $1.entries.readableBytes }
        var events = InsertCalls(
            "put_events", columns: 12, rows: eventCount, rowBytes: bytes / max(1, eventCount) + 128)
        for (tenantPlan, before) in zip(plan.tenants, before) {
            var after = After(no: before.no, aggregateCount: before.aggregateCount)
            var growing: [AggregateName: Growing] = [:]
            for name in tenantPlan.aggregates.keys {
                if let known = before.aggregate(name) {
                    growing[name] = Growing(no: known.no, bytes: known.size.bytes)
                } else {
                    after.aggregateCount += 1
                    growing[name] = Growing(no: after.aggregateCount, bytes: 0)
                    aggregates.add(tenantNo: before.no, no: after.aggregateCount, name)
                }
            }
            if let run = tenantPlan.run { Self.add(run, tenantNo: before.no, &growing, to: &events) }
            after.numbers = growing.mapValues(\.no)
            beside += BesideCalls.calls(tenantPlan, tenantNo: before.no, numbers: after.numbers)
            consumers.add(tenantPlan, tenantNo: before.no)
            schedules.add(tenantPlan, tenantNo: before.no)
            self.after.append(after)
        }
        rows = aggregates.calls + events.calls + beside + consumers.calls + schedules.calls
        let moving = zip(plan.tenants, after).filter { $0.0.run != nil }
        movedRows = []
        if !moving.isEmpty {
            movedRows.append(
                PostgresCall(
                    "move_heads",
                    [
                        PostgresValue(moving.map(\.1.no)), PostgresValue(runs.map { Int64($0.lastPosition.rawValue) }),
                        PostgresValue(runs.map(\.recordedAt.microseconds)),
                        PostgresValue(moving.map(\.1.aggregateCount)),
                        PostgresValue(runs.map(\.lastEventID)),
                    ]))
        }
        notices = CommitNotice.encode(
            plan.tenants.filter { $0.settings != nil }.map { ($0.tenant, .empty) } + runs.map { ($0.tenant, $0.head) })
    }

    /// What tells other servers than that one.
    func notice(from server: UUID) -> PostgresCall? { notices.isEmpty ? nil : .notify(notices, from: server) }

    /// An aggregate while its events are gone through.
    private struct Growing {
        var no: Int64
        var bytes: UInt64
    }

    private static func add(
        _ run: RecordedRun, tenantNo: Int64, _ growing: inout [AggregateName: Growing], to events: inout InsertCalls
    ) {
        for (index, event) in run.events.enumerated() {
            guard var aggregate = growing[event.aggregate] else {
                preconditionFailure("an event's aggregate is planned")
            }
            aggregate.bytes += UInt64(event.end - event.recordStart)
            growing[event.aggregate] = aggregate
            events.addRow { row in
                row.add(tenantNo)
                row.add(Int64(run.firstPosition.rawValue) + Int64(index))
                row.add(aggregate.no)
                row.add(Int64(event.version.rawValue))
                row.add(run.recordedAt.microseconds)
                row.add(event.id)
                row.add(event.type.text)
                row.add(event.contentType)
                row.add(Int32(bitPattern: event.schemaVersion))
                row.add(Int32(event.payloadBytes))
                row.add(event.recordStart..<event.end, of: run.entries)
                row.add(Int64(aggregate.bytes))
            }
        }
    }
}

/// Rows of aggregates that are new.
private struct NewAggregates {
    private var rows: [(tenantNo: Int64, no: Int64, name: AggregateName)] = []

    mutating func add(tenantNo: Int64, no: Int64, _ name: AggregateName) { rows.append((tenantNo, no, name)) }

    var calls: [PostgresCall] {
        var inserts = InsertCalls("put_aggregates", columns: 4, rows: rows.count, rowBytes: 64)
        for (tenantNo, no, name) in rows {
            inserts.addRow { row in
                row.add(tenantNo)
                row.add(no)
                row.add(name.type.text)
                row.add(name.id)
            }
        }
        return inserts.calls
    }
}
