import Foundation
import MartletModel
import MartletStorage
import MartletTenants
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import NIOEmbedded
import Testing
@testable import MartletService
@testable import MartletStoragePostgreSQL

/// Many consumers of one tenant, with a worker each, that acknowledge an event a second. What they acknowledge is stored as
/// the server stores it, by its ``ProgressSaver``, whose time is moved by hand.
final class ConsumerCrowd {
    /// Moments of a second at which some of them acknowledge.
    private static let stepsPerSecond = 100
    /// A worker looks once a second whether a third of its lease is over.
    private static let renewalSeconds = 4

    let tenant: TenantID
    private var store: EventStore
    private var saver: ProgressSaver
    private let loop = EmbeddedEventLoop()
    private let limits = Limits()
    private let server = UUID()
    private let count: Int
    private var sessions: [UUID] = []
    private var epochs: [UInt64] = []
    private var floors: [Checkpoint] = []
    private var step = 0
    private let underWay = DispatchGroup()
    private let refused = NIOLockedValueBox(0)

    /// Makes consumers and workers that have their slots.
    init(_ count: Int, of tenant: TenantID, _ store: EventStore) async throws {
        (self.count, self.tenant, self.store) = (count, tenant, store)
        saver = ProgressSaver(
            store: store, pool: MemoryPools(limits: limits).calls, limits: limits, counters: ConsumerCounters())
        sessions = (0..<count).map { _ in UUID() }
        let put = ConsumerChange.Kind.put(
            PutConsumer(
                ConsumerDefinition(slotCount: 1), start: .start, expected: .any, countMax: limits.consumersPerTenantMax)
        )
        _ = try await outcomes { _ in put }
        for outcome in try await outcomes({ try tending($0, isNew: true) }) {
            guard case .consumer(.tended(let view)) = outcome, let slot = view.workers.first?.slots.first else {
                throw BenchFailure("a consumer gives no slot: \(outcome)")
            }
            epochs.append(slot.epoch)
            floors.append(slot.floor)
        }
    }

    /// What becomes of a change of each consumer, in their order.
    private func outcomes(_ change: (Int) throws -> ConsumerChange.Kind) async throws -> [WriteOutcome] {
        let store = store
        return try await withThrowingTaskGroup(of: (Int, WriteOutcome).self) { group in
            for number in 0..<count {
                let change = ConsumerChange(try change(number), of: try id(number))
                group.addTask { (number, try await store.write(.change(.consumer(change)))) }
            }
            return try await group.reduce(into: []) { $0.append($1) }.sorted { $0.0 < $1.0 }.map(\.1)
        }
    }

    /// Goes on with another store.
    func go(on store: EventStore) {
        self.store = store
        saver = ProgressSaver(
            store: store, pool: MemoryPools(limits: limits).calls, limits: limits, counters: ConsumerCounters())
    }

    private func id(_ number: Int) throws -> ConsumerID {
        ConsumerID(tenant: tenant, name: try #require(ConsumerName("consumer-\(number)")))
    }

    private func tending(_ number: Int, isNew: Bool = false) throws -> ConsumerChange.Kind {
        let name = try #require(WorkerName("worker"))
        return .tend(
            GroupTending(
                server: server, workers: [.init(session: sessions[number], name: name, isNew: isNew)],
                leaseMicros: Int64(limits.consumerLeaseMillis) * 1_000, workersMax: limits.workersPerConsumerMax))
    }

    /// How many changes were refused so far; waits for those under way.
    func refusedCount() -> Int {
        underWay.wait()
        return refused.withLockedValue { $0 }
    }

    /// A second, in which each consumer acknowledges up to there once.
    /// - Parameters:
    ///   - renews: whether workers renew their leases meanwhile.
    ///   - inRealTime: it takes a second; otherwise as long as storage takes.
    func second(upTo place: Checkpoint, renews: Bool, inRealTime: Bool) throws {
        let begin = ContinuousClock.now
        for part in 0..<Self.stepsPerSecond {
            for number in stride(from: part, to: count, by: Self.stepsPerSecond) { try acknowledge(place, number) }
            if renews {
                let period = Self.renewalSeconds * Self.stepsPerSecond
                for number in stride(from: step % period, to: count, by: period) { try renew(number) }
            }
            step += 1
            loop.advanceTime(by: .nanoseconds(1_000_000_000 / Int64(Self.stepsPerSecond)))
            if inRealTime {
                let left = begin + .seconds(1) * (part + 1) / Self.stepsPerSecond - .now
                if left > .zero { Thread.sleep(forTimeInterval: left / .seconds(1)) }
            } else if (part + 1) % 10 == 0 {
                underWay.wait()
            }
        }
    }

    private func acknowledge(_ place: Checkpoint, _ number: Int) throws {
        let change = SlotChange(epoch: epochs[number], from: floors[number], to: place, blocked: [:])
        floors[number] = place
        underWay.enter()
        saver.save(SlotSaving(slot: 0, change: change), of: try id(number), on: loop) { [refused, underWay] result in
            if case .success(.saved) = result {} else { refused.withLockedValue { $0 += 1 } }
            underWay.leave()
        }
    }

    private func renew(_ number: Int) throws {
        underWay.enter()
        store.write(.change(.consumer(ConsumerChange(try tending(number), of: try id(number))))) {
            [refused, underWay] result in
            if case .success(.consumer(.tended)) = result {} else { refused.withLockedValue { $0 += 1 } }
            underWay.leave()
        }
    }
}

/// An engine whose writers count how many appends took one trip to the database.
struct TripCountingEngine: WrappingEngine {
    struct Trips: Sendable {
        var appends = 0
        var inOneTrip = 0

        /// Of all appends, how many took one trip.
        var share: Double { Double(inOneTrip) / Double(max(1, appends)) }
    }

    private final class Writer: StorageWriter {
        let base: PostgreSQLWriter
        let trips: NIOLockedValueBox<[TenantID: Trips]>

        init(_ base: PostgreSQLWriter, _ trips: NIOLockedValueBox<[TenantID: Trips]>) {
            (self.base, self.trips) = (base, trips)
        }

        func commit(
            _ batch: [WriteCommand], now: Timestamp, lockWait: Duration
        ) throws(StorageError) -> CommitResult {
            let before = base.optimisticCommits
            let result = try base.commit(batch, now: now, lockWait: lockWait)
            count(batch, isOneTrip: base.optimisticCommits > before)
            return result
        }

        func commit(
            _ batch: [WriteCommand], now: Timestamp, handOver: (Set<TenantID>) -> Void
        ) throws(StorageError) -> CommitResult {
            let before = base.optimisticCommits
            var slow: Set<TenantID> = []
            let result = try base.commit(batch, now: now) { tenants in
                slow = tenants
                handOver(tenants)
            }
            count(batch.filter { !slow.contains($0.tenant) }, isOneTrip: base.optimisticCommits > before)
            return result
        }

        private func count(_ batch: [WriteCommand], isOneTrip: Bool) {
            trips.withLockedValue { trips in
                for case .append(let request) in batch {
                    trips[request.tenant, default: Trips()].appends += 1
                    if isOneTrip { trips[request.tenant]?.inOneTrip += 1 }
                }
            }
        }
    }

    let base: any StorageEngine
    /// By tenants.
    let trips = NIOLockedValueBox<[TenantID: Trips]>([:])

    func makeWriter() -> any StorageWriter {
        guard let writer = base.makeWriter() as? PostgreSQLWriter else { preconditionFailure("PostgreSQL's writer") }
        return Writer(writer, trips)
    }
}
