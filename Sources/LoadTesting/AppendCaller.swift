import MartletClient
import MartletModel

/// A client that appends.
struct AppendCaller: Caller {
    /// Where it writes to.
    enum Aggregates: Sendable {
        /// Its own, with exact versions; a new one after this many events.
        case own(type: AggregateType, eventsMax: UInt64)
        /// Any of these, whatever their versions.
        case shared([AggregateName])
    }

    let client: MartletClient
    let tenant: TenantID
    let batch: Int
    let aggregates: Aggregates
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
        client: MartletClient, tenant: TenantID, batch: Int, aggregates: Aggregates, maker: EventMaker,
        acknowledgements: AcknowledgementTimes? = nil, filter: EventFilter = .all
    ) {
        self.filter = filter
        self.client = client
        self.tenant = tenant
        self.batch = batch
        self.aggregates = aggregates
        self.acknowledgements = acknowledgements
        var maker = maker
        aggregate = AggregateName(type: BenchNames.aggregateType, id: maker.id())
        self.maker = maker
        choose()
    }

    mutating func call() async throws(MartletError) -> Int {
        let expected: ExpectedVersion
        switch aggregates {
        case .own: expected = .exact(version)
        case .shared:
            choose()
            expected = .any
        }
        let events = maker.events(batch)
        let request = AppendRequest(
            tenant: tenant,
            aggregates: [AggregateAppend(aggregate: aggregate, expected: expected, events: events)])
        let receipt: AppendReceipt
        do throws(MartletError) {
            receipt = try await client.append(request)
        } catch {
            if error.leavesOutcomeOpen { unknown += UInt64(batch) }
            choose()
            throw error
        }
        acknowledgements?.acknowledged(from: receipt.firstPosition, to: receipt.lastPosition, at: .now())
        acknowledged += UInt64(batch)
        matching += UInt64(
            filter.isEmpty ? batch : events.count { filter.matches(aggregate, $0.type) })
        guard case .own(_, let eventsMax) = aggregates else { return batch }
        version = Version(version.rawValue + UInt64(batch))
        guard receipt.aggregates.first?.lastVersion == version else {
            throw .badAnswer("an append to version \(version) was acknowledged with another version")
        }
        if version.rawValue >= eventsMax { choose() }
        return batch
    }

    /// Chooses where the next append goes.
    private mutating func choose() {
        switch aggregates {
        case .own(let type, _):
            aggregate = AggregateName(type: type, id: maker.id())
            version = .none
        case .shared(let names): aggregate = names[maker.index(below: names.count)]
        }
    }
}

extension MartletError {
    /// An append that failed so may be stored all the same.
    var leavesOutcomeOpen: Bool {
        reason == .outcomeUnknown || code == .deadlineExceeded || code == .cancelled || reason == .clientClosed
    }
}
