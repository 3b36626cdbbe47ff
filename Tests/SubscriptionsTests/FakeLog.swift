import FoundationEssentials
import MartletDelivery
import MartletModel
import MartletRecordCodec
@testable import MartletStorage
import MartletSubscriptions
import MartletTenants
import MartletUpcasting
import NIOConcurrencyHelpers
import NIOCore

/// What a test appends.
struct Draft: Hashable {
    var aggregate: AggregateName
    var type: EventType
    var payloadBytes: Int
    /// The payload, where it is not dots.
    var json: String?
}

/// Storage by the book: all events of some tenants, looked at one by one.
final class FakeLog: PageSource {
    struct Stored {
        var draft: Draft
        var record: ByteBuffer
    }

    private struct State {
        var events: [TenantID: [Stored]] = [:]
        var heads: [TenantID: TenantHead] = [:]
        var failures: [MartletError] = []
        var reads = 0
        var lastTicket: UInt64 = 0
        var cancelled: Set<StoreTicket> = []
    }

    private let state = NIOLockedValueBox(State())
    /// Where completions are called.
    private let execute: @Sendable (@escaping @Sendable () -> Void) -> Void

    init(execute: @escaping @Sendable (@escaping @Sendable () -> Void) -> Void = { $0() }) { self.execute = execute }

    var readCount: Int { state.withLockedValue { $0.reads } }

    func events(of tenant: TenantID) -> [Stored] { state.withLockedValue { $0.events[tenant] ?? [] } }

    func head(of tenant: TenantID) -> TenantHead { state.withLockedValue { $0.heads[tenant] ?? .empty } }

    /// The next pages read fail with these errors.
    func fail(_ errors: [MartletError]) { state.withLockedValue { $0.failures = errors } }

    /// Stores events as one commit; their versions are not looked after.
    func commit(_ drafts: [Draft], to tenant: TenantID) -> RecordedRun {
        let requests = drafts.map { draft in
            let event = NewEvent(
                type: draft.type, contentType: draft.json == nil ? "text/plain" : "application/json",
                payload: draft.json.map { ByteBuffer(string: $0) }
                    ?? ByteBuffer(repeating: 0x2E, count: draft.payloadBytes))
            return AppendRequest(
                tenant: tenant,
                aggregates: [
                    AggregateAppend(
                        aggregate: draft.aggregate, expected: .any,
                        events: [try? EncodedEvent(event)].compactMap { $0 })
                ])
        }
        return state.withLockedValue { state in
            var facts = BatchFacts()
            facts.heads[tenant] = state.heads[tenant]
            let now = Timestamp(microseconds: Int64(state.events[tenant]?.count ?? 0) * 10 + 10)
            let plan = WriteDecision.decide(requests.map { .append($0) }, facts: facts, now: now)
            guard let run = plan.tenants.first?.run else { preconditionFailure("drafts are stored") }
            state.heads[tenant] = run.head
            for (index, draft) in drafts.enumerated() {
                state.events[tenant, default: []].append(Stored(draft: draft, record: run.record(at: index)))
            }
            return run
        }
    }

    func page(
        of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds
    ) -> EventPage {
        let all = events(of: tenant)
        var page = EventPage(scannedTo: range.after, isLast: false)
        var scanned = 0
        while page.scannedTo < range.to, scanned < bounds.scanMax || filter.isEmpty {
            let stored = all[Int(page.scannedTo.rawValue)]
            if filter.matches(stored.draft.aggregate, stored.draft.type) {
                let bytes = RecordedEntries.entryBytes(recordBytes: stored.record.readableBytes)
                guard page.count == 0 || page.entries.readableBytes + bytes <= bounds.bytesMax else { return page }
                RecordedEntries.write(record: stored.record, to: &page.entries)
                page.count += 1
                page.lastPosition = page.scannedTo.next
            }
            page.scannedTo = page.scannedTo.next
            page.endEventID = RecordedEntries.eventID(ofLast: stored.record.readableBytes, in: stored.record)
            scanned += 1
        }
        page.isLast = page.scannedTo == range.to
        return page
    }

    func resolveStart(
        of request: SubscribeRequest, completion: @escaping @Sendable (Result<ResolvedStart, MartletError>) -> Void
    ) -> StoreTicket? {
        begin(request.tenant) { [self] in
            let head = head(of: request.tenant)
            switch request.start {
            case .head: completion(.success(ResolvedStart(after: head.position, head: head)))
            case .after(let position) where position <= head.position:
                completion(.success(ResolvedStart(after: position, head: head)))
            case .after, .time:
                completion(.failure(MartletError(.outOfRange, reason: .positionBeyondHead, message: "beyond")))
            }
        }
    }

    func readPage(
        of tenant: TenantID, positions range: PageRange<Position>, filter: EventFilter, bounds: PageBounds,
        completion: @escaping @Sendable (Result<EventPage, MartletError>) -> Void
    ) -> StoreTicket? {
        let failure = state.withLockedValue { state in
            state.reads += 1
            return state.failures.isEmpty ? nil : state.failures.removeFirst()
        }
        return begin(tenant) { [self] in
            if let failure { return completion(.failure(failure)) }
            completion(.success(page(of: tenant, positions: range, filter: filter, bounds: bounds)))
        }
    }

    func work(for tenant: TenantID, _ body: @escaping @Sendable (MartletError?) -> Void) -> StoreTicket? {
        begin(tenant) { body(nil) }
    }

    func cancel(_ ticket: StoreTicket) { state.withLockedValue { _ = $0.cancelled.insert(ticket) } }

    /// What was cancelled while it waited.
    var cancelledCount: Int { state.withLockedValue { $0.cancelled.count } }

    private func begin(_ tenant: TenantID, _ body: @escaping @Sendable () -> Void) -> StoreTicket {
        let ticket = state.withLockedValue { state in
            state.lastTicket += 1
            return StoreTicket(kind: .read, tenant: tenant, number: state.lastTicket)
        }
        execute { [self] in
            guard !state.withLockedValue({ $0.cancelled.contains(ticket) }) else { return }
            body()
        }
        return ticket
    }
}

/// Work that waits until the test wants it done.
final class Later: Sendable {
    private let jobs = NIOLockedValueBox<[@Sendable () -> Void]>([])

    var execute: @Sendable (@escaping @Sendable () -> Void) -> Void {
        { [self] job in jobs.withLockedValue { $0.append(job) } }
    }

    var count: Int { jobs.withLockedValue { $0.count } }

    /// Does what waits now.
    func run() {
        let due = jobs.withLockedValue { jobs in
            defer { jobs = [] }
            return jobs
        }
        for job in due { job() }
    }
}

/// Names for tests.
enum Sample {
    static let aggregateTypes = ["order", "cart", "user"].compactMap { AggregateType($0) }
    static let eventTypes = ["Made", "Changed", "Closed"].compactMap { EventType($0) }
    static let aggregates = (0..<6).map { index in
        AggregateName(type: aggregateTypes[index % 3], id: UUID(high: 1, low: UInt64(index)))
    }
    static let filters: [EventFilter] = [
        .all, .all,
        EventFilter(aggregateTypes: [aggregateTypes[0]]),
        EventFilter(aggregateTypes: [aggregateTypes[1]], eventTypes: [eventTypes[0], eventTypes[1]]),
        EventFilter(aggregateIDs: [aggregates[4].id]),
        EventFilter(eventTypes: Set(["Never"].compactMap { EventType($0) })),
    ]

    static func tenant(_ number: UInt64) -> TenantID { TenantID(UUID(high: 7, low: number)) }

    static func draft(
        using random: inout some RandomNumberGenerator, bytesMax: Int = 60
    ) -> Draft {
        Draft(
            aggregate: aggregates.randomElement(using: &random) ?? aggregates[0],
            type: eventTypes.randomElement(using: &random) ?? eventTypes[0],
            payloadBytes: Int.random(in: 0...bytesMax, using: &random))
    }

    /// `count` events of the first aggregate and type.
    static func drafts(_ count: Int, payloadBytes: Int = 10) -> [Draft] {
        (0..<count).map { _ in
            Draft(aggregate: aggregates[0], type: eventTypes[0], payloadBytes: payloadBytes)
        }
    }

    static let plainly = EventDelivery(set: .empty, options: .latest, payloadBytesMax: 1 << 20)

    static func delivery(_ set: UpcasterSet, _ options: UpcastingOptions = .latest) -> EventDelivery {
        EventDelivery(set: set, options: options, payloadBytesMax: 1 << 20)
    }

    static func upcasters(_ steps: String) throws -> UpcasterSet {
        try UpcasterSet(definition: ByteBuffer(string: #"{"upcasters":"# + steps + "}"))
    }

    static func settings(_ revision: UInt64, _ set: UpcasterSet) -> TenantSettings {
        TenantSettings(
            revision: revision, upcasters: set, upcastersVersion: upcastersVersion(revision), policies: .none)
    }

    static func upcastersVersion(_ revision: UInt64) -> UpcastersVersion {
        UpcastersVersion(epoch: 0, revision: revision)
    }

    /// The positions of what a message carries.
    static func positions(_ entries: ByteBuffer) throws -> [UInt64] {
        try RecordedEntries.decode(entries).map(\.position.rawValue)
    }
}

/// A generator that a seed replays.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
