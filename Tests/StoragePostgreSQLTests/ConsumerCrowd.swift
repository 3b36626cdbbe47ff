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
/// the server stores it, by its ``ProgressSaver``, and leases are renewed by its ``ConsumerGroups``. Their time is moved by
/// hand.
final class ConsumerCrowd {
    /// Moments of a second at which some of them acknowledge.
    private static let stepsPerSecond = 100

    /// What workers were told.
    private struct Told: Sendable {
        var slots: [Int: GroupView.Slot] = [:]
        /// How often a worker was told of its group: first that it has joined, then that its lease was renewed.
        var views = 0
    }

    let tenant: TenantID
    private let store: EventStore
    private let saver: ProgressSaver
    private let groups: ConsumerGroups
    private let loop = EmbeddedEventLoop()
    private let count: Int
    private var ids: [ConsumerID] = []
    private var epochs: [UInt64] = []
    private var floors: [Checkpoint] = []
    private let underWay = DispatchGroup()
    private let told = NIOLockedValueBox(Told())
    private let refused = NIOLockedValueBox(0)

    /// Makes consumers and workers that have their slots.
    init(_ count: Int, of tenant: TenantID, _ store: EventStore) throws {
        let limits = Limits()
        (self.count, self.tenant, self.store) = (count, tenant, store)
        saver = ProgressSaver(
            store: store, pool: MemoryPools(limits: limits).calls, limits: limits, counters: ConsumerCounters())
        groups = ConsumerGroups(store: store, limits: limits)
        ids = try (0..<count).map { number in
            ConsumerID(tenant: tenant, name: try #require(ConsumerName("consumer-\(number)")))
        }
        let put = ConsumerChange.Kind.put(
            PutConsumer(
                ConsumerDefinition(slotCount: 1), start: .start, expected: .any, countMax: limits.consumersPerTenantMax)
        )
        for id in ids {
            underWay.enter()
            store.write(.change(.consumer(ConsumerChange(put, of: id)))) { [refused, underWay] result in
                if case .success(.consumer(.put)) = result {} else { refused.withLockedValue { $0 += 1 } }
                underWay.leave()
            }
        }
        underWay.wait()
        let name = try #require(WorkerName("worker"))
        for number in 0..<count {
            let worker = GroupTending.Worker(session: UUID(), name: name, isNew: true)
            groups.join(worker, of: ids[number], now: loop.now) { [told, refused] news in
                guard case .view(_, let worker) = news, let slot = worker.slots.first else {
                    return refused.withLockedValue { $0 += 1 }
                }
                told.withLockedValue {
                    $0.slots[number] = slot
                    $0.views += 1
                }
            }
        }
        var slots: [Int: GroupView.Slot] = [:]
        while slots.count < count, refusedCount() == 0 {
            Thread.sleep(forTimeInterval: 0.01)
            slots = told.withLockedValue { $0.slots }
        }
        for number in 0..<count {
            let slot = try #require(slots[number], "a consumer gives no slot")
            epochs.append(slot.epoch)
            floors.append(slot.floor)
        }
    }

    /// How many changes were refused so far; waits for what is acknowledged.
    func refusedCount() -> Int {
        underWay.wait()
        return refused.withLockedValue { $0 }
    }

    /// How often a lease was renewed.
    var renewedCount: Int { told.withLockedValue { $0.views } - count }

    /// A second, in which each consumer acknowledges up to there once, and looks once whether its lease is to be renewed.
    /// - Parameter inRealTime: it takes a second; otherwise as long as storage takes.
    func second(upTo place: Checkpoint, inRealTime: Bool) {
        let begin = ContinuousClock.now
        for part in 0..<Self.stepsPerSecond {
            for number in stride(from: part, to: count, by: Self.stepsPerSecond) {
                groups.tendIfDue(ids[number], now: loop.now)
                acknowledge(place, number)
            }
            loop.advanceTime(by: .nanoseconds(1_000_000_000 / Int64(Self.stepsPerSecond)))
            if inRealTime {
                let left = begin + .seconds(1) * (part + 1) / Self.stepsPerSecond - .now
                if left > .zero { Thread.sleep(forTimeInterval: left / .seconds(1)) }
            } else if (part + 1) % 10 == 0 {
                underWay.wait()
            }
        }
    }

    private func acknowledge(_ place: Checkpoint, _ number: Int) {
        let change = SlotChange(epoch: epochs[number], from: floors[number], to: place, blocked: [:])
        floors[number] = place
        underWay.enter()
        saver.save(SlotSaving(slot: 0, change: change), of: ids[number], on: loop) { [refused, underWay] result in
            if case .success(.saved) = result {} else { refused.withLockedValue { $0 += 1 } }
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
            _ batch: [WriteCommand], now: Timestamp, handOver: ([Int]) -> Void
        ) throws(StorageError) -> CommitResult {
            let before = base.optimisticCommits
            var slow: [Int] = []
            let result = try base.commit(batch, now: now) { indices in
                slow = indices
                handOver(indices)
            }
            let left = Set(batch.indices).subtracting(slow).map { batch[$0] }
            count(left, isOneTrip: base.optimisticCommits > before)
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
