import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing
@testable import MartletStoragePostgreSQL

/// What 1,000 consumers that acknowledge once a second cost PostgreSQL: syncs of its log, the size of the tables that hold
/// their progress, and trips of the appends beside them.
@Suite(.blocking, .serialized, .enabled(if: OwnCluster.isAvailable, "there is no PostgreSQL to start"))
struct ProgressTableTests {
    private static let consumers = 1_000
    /// Of these, an hour has 3,600.
    private static let seconds =
        ProcessInfo.processInfo.environment["MARTLET_TEST_PROGRESS_SECONDS"].flatMap { Int($0) } ?? 20

    private static func store(_ engine: any StorageEngine) throws -> EventStore {
        let store = EventStore(engine: engine, limits: Limits(), clock: { .now() }, logger: .silent)
        try store.start()
        return store
    }

    /// Appends so many events to a tenant, and says where each of them is.
    private static func append(_ count: Int, to tenant: TenantID, _ store: EventStore) async throws -> [Checkpoint] {
        let aggregate = AggregateName.new()
        var places: [Checkpoint] = []
        while places.count < count {
            let request = try AppendRequest.sample(min(100, count - places.count), to: aggregate, tenant: tenant)
            _ = try await store.write(.append(request))
            for id in request.ids {
                places.append(Checkpoint(position: Position(UInt64(places.count + 1)), eventID: id))
            }
        }
        return places
    }

    private struct TableSize {
        var tableBytes: Int
        var indexBytes: Int
        var live: Int
        var dead: Int
        var updates: Int
        var hotUpdates: Int
        var vacuums: Int

        init(_ table: String, _ bench: Bench) throws {
            let row =
                try bench.rows(
                    """
                    SELECT pg_relation_size(relid), pg_indexes_size(relid), n_live_tup, n_dead_tup, n_tup_upd, n_tup_hot_upd,
                           autovacuum_count
                    FROM pg_stat_user_tables WHERE relid = '\(table)'::regclass
                    """, columns: 7
                ).first?.compactMap { Int($0) } ?? []
            try #require(row.count == 7)
            (tableBytes, indexBytes, live, dead) = (row[0], row[1], row[2], row[3])
            (updates, hotUpdates, vacuums) = (row[4], row[5], row[6])
        }

        var text: String {
            "\(tableBytes / 1_024) KiB and \(indexBytes / 1_024) KiB of indexes, \(live) live and \(dead) dead rows"
        }
    }

    /// Rows that change all the time are changed where they are: their tables do not grow with the changes. Autovacuum looks
    /// once a minute, as it does where nobody has set it.
    @Test func theTablesStayAsSmallAsTheyAre() async throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        let store = try Self.store(bench.engine())
        let places = try await Self.append(Self.seconds, to: bench.tenant, store)
        let crowd = try ConsumerCrowd(Self.consumers, of: bench.tenant, store)
        let tables = ["consumer_slots", "consumer_workers"]
        let before = try tables.map { try TableSize($0, bench) }
        let began = ContinuousClock.now
        for place in places { crowd.second(upTo: place, inRealTime: false) }
        #expect(crowd.refusedCount() == 0)
        let took = (ContinuousClock.now - began) / .seconds(1)
        await store.shutDown()
        #expect(crowd.refusedCount() == 0 && crowd.renewedCount >= Self.consumers * Self.seconds / 5)
        // A session that has ended has told what it counted.
        try bench.endSessions()
        let (writes, stored) = (Self.consumers * Self.seconds, try Self.positions(bench))
        #expect(stored == [[String(Self.consumers), String(Self.seconds), String(Self.seconds)]])
        print("progress: \(writes) writes in \(Int(took)) s, as of \(Self.seconds) s")
        for (table, before) in zip(tables, before) {
            let after = try TableSize(table, bench)
            let hot = Double(after.hotUpdates) / Double(max(1, after.updates))
            print("progress: \(table) before: \(before.text)")
            print(
                "progress: \(table) after \(after.updates) updates: \(after.text), vacuumed \(after.vacuums) times, "
                    + "\((hot * 1_000).rounded() / 10) % of the updates in place")
            #expect(after.updates >= Self.consumers * Self.seconds / 5)
            #expect(hot >= 0.9)
            #expect(after.tableBytes <= 2 * before.tableBytes + (256 << 10))
            #expect(after.indexBytes <= 2 * before.indexBytes + (256 << 10))
        }
    }

    private static func positions(_ bench: Bench) throws -> [[String]] {
        try bench.rows("SELECT count(*), min(position), max(position) FROM consumer_slots", columns: 3)
    }

    /// What they acknowledge shares transactions, and so do the leases of their workers, which last as long as they do where
    /// nobody has set it. Each acknowledgement counts as a write, a renewed lease does not.
    @Test func manyWritesShareASync() async throws {
        let cluster = try OwnCluster(syncs: true)
        let bench = try Bench(url: cluster.url())
        func syncs() throws -> Int {
            // A session that has ended has told what it counted. The next command takes a new one.
            try bench.endSessions()
            return Int(try bench.rows("SELECT wal_sync FROM pg_stat_wal")[0][0]) ?? 0
        }
        let store = try Self.store(bench.engine())
        let places = try await Self.append(8, to: bench.tenant, store)
        let crowd = try ConsumerCrowd(Self.consumers, of: bench.tenant, store)
        let before = try syncs()
        for place in places { crowd.second(upTo: place, inRealTime: true) }
        #expect(crowd.refusedCount() == 0)
        await store.shutDown()
        let counted = try syncs() - before
        let writes = Self.consumers * places.count
        print("progress: \(writes) writes and \(crowd.renewedCount) renewed leases took \(counted) syncs")
        #expect(crowd.refusedCount() == 0 && crowd.renewedCount >= 2 * Self.consumers)
        // Ten times a second all that waits is written.
        #expect(counted > 0)
        #expect(counted <= writes / 50)
    }

    /// Who appends beside consumers: a client of the same server to their tenant or to another one, or one of another server
    /// to their tenant.
    enum Appender: CaseIterable { case sameTenant, otherTenant, otherServer }

    @Test(arguments: Appender.allCases) func appendsTakeOneTripBesideThem(_ appender: Appender) async throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        let engine = TripCountingEngine(base: bench.engine())
        let store = try Self.store(engine)
        // Long enough for each lease to be renewed.
        let places = try await Self.append(5, to: bench.tenant, store)
        let crowd = try ConsumerCrowd(Self.consumers, of: bench.tenant, store)
        let other = TripCountingEngine(base: bench.engine())
        let (appending, trips) = appender == .otherServer ? (try Self.store(other), other.trips) : (store, engine.trips)
        let tenant = appender == .otherTenant ? TenantID(UUID()) : bench.tenant
        func share(_ body: () async throws -> Void) async throws -> TripCountingEngine.Trips {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        let name = AggregateName.new()
                        while !Task.isCancelled {
                            _ = try await appending.write(.append(.sample(to: name, tenant: tenant)))
                            try? await Task.sleep(for: .milliseconds(1))
                        }
                    }
                }
                // Until all that they append to is remembered.
                try await Task.sleep(for: .milliseconds(200))
                let before = trips.withLockedValue { $0[tenant] ?? .init() }
                try await body()
                let after = trips.withLockedValue { $0[tenant] ?? .init() }
                group.cancelAll()
                try await group.waitForAll()
                return .init(
                    appends: after.appends - before.appends, inOneTrip: after.inOneTrip - before.inOneTrip)
            }
        }
        let alone = try await share { try await Task.sleep(for: .seconds(1)) }
        let beside = try await share {
            for place in places { crowd.second(upTo: place, inRealTime: true) }
        }
        #expect(crowd.refusedCount() == 0)
        await store.shutDown()
        #expect(crowd.refusedCount() == 0 && crowd.renewedCount >= Self.consumers)
        if appender == .otherServer { await appending.shutDown() }
        print(
            """
            progress: one-trip appends, \(appender): \(alone.share) of \(alone.appends) alone, \(beside.share) of \
            \(beside.appends) beside \(Self.consumers) consumers
            """)
        #expect(alone.appends > 50 && beside.appends > 50)
        #expect(beside.share >= 0.98 * alone.share)
    }
}
