import MartletClient
import MartletModel

/// A client that appends to an aggregate of its own with exact versions, and to a new one after so many events.
struct AppendCaller: Caller {
    /// An aggregate is left for a new one after so many events.
    static let eventsPerAggregate: UInt64 = 1_000

    let client: MartletClient
    let tenant: TenantID
    let batch: Int
    let type: AggregateType
    let acknowledgements: AcknowledgementTimes?
    let filter: EventFilter
    var executor: any TaskExecutor { client.taskExecutor }
    private(set) var maker: EventMaker
    /// Events of appends that were acknowledged, warm-up included.
    private(set) var acknowledged: UInt64 = 0
    /// Events of appends whose outcome is not known.
    private(set) var unknown: UInt64 = 0
    /// Events of appends that were acknowledged and that the filter lets through.
    private(set) var matching: UInt64 = 0
    private var aggregate: AggregateName
    private var version = Version.none

    init(
        client: MartletClient, tenant: TenantID, batch: Int, type: AggregateType = BenchNames.aggregateType,
        maker: EventMaker, acknowledgements: AcknowledgementTimes? = nil, filter: EventFilter = .all
    ) {
        self.filter = filter
        self.client = client
        self.tenant = tenant
        self.batch = batch
        self.type = type
        self.acknowledgements = acknowledgements
        var maker = maker
        aggregate = AggregateName(type: type, id: maker.id())
        self.maker = maker
    }

    mutating func call() async throws(MartletError) -> Int {
        let events = maker.events(batch)
        let request = AppendRequest(
            tenant: tenant,
            aggregates: [AggregateAppend(aggregate: aggregate, expected: .exact(version), events: events)])
        let receipt: AppendReceipt
        do throws(MartletError) {
            receipt = try await client.append(request)
        } catch {
            if error.leavesOutcomeOpen { unknown += UInt64(batch) }
            begin()
            throw error
        }
        acknowledgements?.acknowledged(from: receipt.firstPosition, to: receipt.lastPosition, at: .now())
        acknowledged += UInt64(batch)
        matching += UInt64(
            filter.isEmpty ? batch : events.count { filter.matches(aggregate, $0.type) })
        version = Version(version.rawValue + UInt64(batch))
        guard receipt.aggregates.first?.lastVersion == version else {
            throw .badAnswer("an append to version \(version) was acknowledged with another version")
        }
        if version.rawValue >= Self.eventsPerAggregate { begin() }
        return batch
    }

    /// Begins a new aggregate.
    private mutating func begin() {
        aggregate = AggregateName(type: type, id: maker.id())
        version = .none
    }
}

extension MartletError {
    /// An append that failed so may be stored all the same.
    var leavesOutcomeOpen: Bool {
        reason == .outcomeUnknown || code == .deadlineExceeded || code == .cancelled || reason == .clientClosed
    }
}
