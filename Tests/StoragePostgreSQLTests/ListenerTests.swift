import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOConcurrencyHelpers
import Testing
@testable import MartletStoragePostgreSQL

/// What one server hears of the commits of another.
@Suite(.blocking, .needsPostgres) struct ListenerTests {
    /// A listener that is connected.
    private func listener(_ engine: PostgreSQLEngine) throws -> any StorageListener {
        let listener = try #require(engine.makeListener())
        #expect(try listener.wait(atMost: 1) == .reconnected, "what came before is not known")
        #expect(try listener.wait(atMost: 1) == .moved([:]))
        return listener
    }

    @Test func commitsOfOthersAreHeardAtOnceAndOwnOnesNot() throws {
        let bench = try Bench()
        let (own, other) = (bench.engine(), bench.engine())
        let listener = try listener(own)
        let (ownWriter, otherWriter) = (own.makeWriter(), other.makeWriter())
        let second = TenantID(UUID())
        for round in 1...10 {
            try ownWriter.append(.sample(tenant: bench.tenant))
            #expect(try listener.wait(atMost: 20) == .moved([:]), "round \(round)")
            let result = try otherWriter.commit(
                [.sample(2, tenant: bench.tenant), .sample(tenant: second)], now: .now())
            let start = ContinuousClock.now
            let news = try listener.wait(atMost: 5_000)
            #expect(ContinuousClock.now - start < .seconds(2), "round \(round)")
            let heads = Dictionary(uniqueKeysWithValues: result.runs.map { ($0.tenant, $0.head.told) })
            #expect(news == .moved(heads) && heads.count == 2, "round \(round)")
        }
        // What is refused or replayed moves nothing.
        try otherWriter.append(.sample(to: .new(), .exists, tenant: bench.tenant))
        #expect(try listener.wait(atMost: 50) == .moved([:]))
    }

    @Test func nobodyIsToldWhereNoOtherServerListens() throws {
        let bench = try Bench()
        let (own, other) = (bench.engine(listeners: ListenerPresence(silenceMillis: 0)), bench.engine())
        let observer = try bench.connect()
        try observer.run("LISTEN \"\(Schema(name: bench.schema).channel)\"")
        let writer = own.makeWriter()
        func isTold() throws -> Bool {
            try writer.append(.sample(tenant: bench.tenant))
            try observer.run("SELECT 1")
            return try !observer.notifications().isEmpty
        }
        #expect(try !isTold())
        let ownListener = try listener(own)
        #expect(try !isTold())
        let otherListener = try listener(other)
        #expect(try isTold())
        // One that ended without a word is told for a while.
        try bench.run("UPDATE listeners SET until = now()")
        #expect(try !isTold())
        _ = (ownListener, otherListener)
    }

    @Test func whoBeginsToListenIsToldSoon() throws {
        let bench = try Bench()
        let time = HandMovedTime()
        let writer = bench.engine(time: time).makeWriter()
        for _ in 0..<3 { try writer.append(.sample(tenant: bench.tenant)) }
        let listener = try listener(bench.engine())
        time.advance(.milliseconds(ListenerPresence.silenceMillis - 1))
        try writer.append(.sample(tenant: bench.tenant))
        #expect(try listener.wait(atMost: 1) == .moved([:]), "nobody was there a moment ago")
        time.advance(.milliseconds(1))
        for round in 0..<5 {
            let receipt = try #require(try writer.append(.sample(tenant: bench.tenant)))
            let head = TenantHead(position: receipt.lastPosition, recordedAt: receipt.recordedAt)
            #expect(try listener.wait(atMost: 5_000) == .moved([bench.tenant: head]), "round \(round)")
        }
    }

    @Test func commitsThatNotifyDoNotWaitForEachOther() async throws {
        let bench = try Bench()
        let other = try listener(bench.engine())
        let engine = bench.engine()
        let tenants = (0..<2).map { _ in TenantID(UUID()) }
        for tenant in tenants { try engine.makeWriter().append(.sample(tenant: tenant)) }
        try bench.beforeEachCommit("PERFORM pg_sleep(60) WHERE NEW.id = '\(tenants[0])'")
        let request = try AppendRequest.sample(tenant: tenants[0])
        let answer = Threads.start {
            refusal { () throws(StorageError) in try engine.makeWriter().append(request) }
        }
        try bench.waitForSession("wait_event = 'PgSleep'")
        let start = ContinuousClock.now
        try engine.makeWriter().append(.sample(tenant: tenants[1]))
        #expect(ContinuousClock.now - start < .seconds(10))
        try bench.endSessions("COMMIT")
        #expect(try answer.value()?.kind == .outcomeUnknown)
        _ = other
    }

    @Test func manyTenantsAtOnceAreAllNamed() throws {
        let bench = try Bench()
        let listener = try listener(bench.engine())
        let writer = bench.engine().makeWriter()
        let tenants = (0..<1_000).map { _ in TenantID(UUID()) }
        _ = try writer.commit(tenants.map { try .sample(tenant: $0) }, now: .now())
        var named: Set<TenantID> = []
        while named.count < tenants.count, case .moved(let heads) = try listener.wait(atMost: 5_000), !heads.isEmpty {
            named.formUnion(heads.keys)
        }
        #expect(named == Set(tenants))
        try writer.append(.sample(tenant: bench.tenant))
        #expect(try listener.wait(atMost: 5_000) != .unknown)
    }

    @Test func aLostConnectionIsToldAndMadeAgain() throws {
        let bench = try Bench()
        let listener = try listener(bench.engine())
        for round in 0..<5 {
            #expect(try bench.endSessions("LISTEN") == 1, "round \(round)")
            let writer = bench.engine().makeWriter()
            try writer.append(.sample(tenant: bench.tenant))
            // What was committed in between is not lost: first it says that it failed, then that all may have moved.
            #expect(throws: StorageError.self) { try listener.wait(atMost: 5_000) }
            #expect(try listener.wait(atMost: 5_000) == .reconnected, "round \(round)")
            let head = try writer.append(.sample(tenant: bench.tenant))
            #expect(
                try listener.wait(atMost: 5_000)
                    == .moved([
                        bench.tenant: TenantHead(
                            position: Position(UInt64(round) * 2 + 2), recordedAt: try #require(head).recordedAt)
                    ]), "round \(round)")
        }
    }

    @Test func aCommitOfUnknownOutcomeIsNotPassedOver() throws {
        // Its own notification may come before the writer knows that no answer does.
        let bench = try Bench()
        let engine = bench.engine()
        let listener = try listener(engine)
        for round in 0..<8 {
            try bench.beforeEachCommit("PERFORM pg_sleep(30)")
            let request = try AppendRequest.sample(tenant: bench.tenant)
            let answer = Threads.start {
                refusal { () throws(StorageError) in try engine.makeWriter().append(request) }
            }
            try bench.waitForSession("wait_event = 'PgSleep'")
            try bench.endSessions("COMMIT")
            #expect(try answer.value()?.kind == .outcomeUnknown, "round \(round)")
            #expect(try listener.wait(atMost: 1_000) == .unknown, "round \(round)")
            #expect(try listener.wait(atMost: 1) == .moved([:]), "round \(round)")
        }
    }

    @Test func itIsWokenFromAnyThread() throws {
        let bench = try Bench()
        let listener = try listener(bench.engine())
        let start = ContinuousClock.now
        // Before it waits, while it begins to, and while it does.
        for round in 0..<200 {
            let news = Threads.start { try listener.wait(atMost: 30_000) }
            for _ in 0..<round * 100 { sched_yield() }
            listener.interrupt()
            #expect(try news.value() == .moved([:]), "round \(round)")
        }
        #expect(ContinuousClock.now - start < .seconds(25))
    }

    @Test func noticesAreReadAsTheyWereWritten() {
        let heads = (0..<500).map { index in
            (
                TenantID(UUID()),
                TenantHead(position: Position(UInt64(index)), recordedAt: Timestamp(microseconds: Int64(-index)))
            )
        }
        var decoded: [TenantID: TenantHead] = [:]
        for text in CommitNotice.encode(heads) {
            #expect(text.utf8.count < 8_000, "PostgreSQL takes no longer ones")
            decoded.merge(CommitNotice.decode(text) ?? [:]) { first, _ in first }
        }
        #expect(decoded == Dictionary(uniqueKeysWithValues: heads))
        for text in ["*", "x", "a:1:2", "\(UUID()):1", "\(UUID()):-1:2", "\(UUID()):1:2,\(UUID()):1:2:3"] {
            #expect(CommitNotice.decode(text) == nil, "\(text)")
        }
    }
}

extension TenantHead {
    /// What of it a notification says.
    fileprivate var told: TenantHead { TenantHead(position: position, recordedAt: recordedAt) }
}
