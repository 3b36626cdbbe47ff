import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOConcurrencyHelpers
import Testing
@testable import MartletStoragePostgreSQL

/// Connections that end, and transactions that fail, at every point of a commit.
@Suite(.blocking, .needsPostgres) struct LostConnectionTests {
    @Test func aConnectionThatEndedWhileIdleIsNotNoticed() throws {
        let bench = try Bench()
        let engine = bench.engine()
        let (writer, reader) = (engine.makeWriter(), engine.makeReader())
        var stored: [UUID] = []
        for round in 0..<15 {
            let request = try AppendRequest.sample(2, tenant: bench.tenant)
            #expect(try writer.append(request)?.replayed == false, "round \(round)")
            stored += request.ids
            #expect(try reader.head(of: bench.tenant).position.rawValue == UInt64(stored.count), "round \(round)")
            #expect(try bench.endSessions() == 2, "round \(round)")
        }
        #expect(try bench.holds(stored, reader))
    }

    @Test func aConnectionThatEndsBeforeTheCommitIsReplacedOnce() throws {
        let bench = try Bench()
        try bench.engine().makeWriter().append(.sample(tenant: bench.tenant))
        for endings in 1...2 {
            let other = try bench.connect()
            try other.run("BEGIN; SELECT 1 FROM \(bench.schema).tenants FOR UPDATE")
            let request = try AppendRequest.sample(tenant: bench.tenant)
            let answer = Threads.start {
                let writer = bench.engine().makeWriter()
                let error = refusal { () throws(StorageError) in try writer.append(request) }
                return (error, error == nil ? nil : try writer.append(request)?.replayed)
            }
            for _ in 0..<endings {
                try bench.waitForSession("wait_event_type = 'Lock'")
                #expect(try bench.endSessions() == 1)
            }
            if endings == 1 { try bench.waitForSession("wait_event_type = 'Lock'") }
            try other.run("ROLLBACK")
            let (error, replayed) = try answer.value()
            #expect(error?.kind == (endings == 1 ? nil : .unavailable), "\(String(describing: error))")
            #expect(replayed == (endings == 1 ? nil : false))
        }
        #expect(try bench.engine().makeReader().head(of: bench.tenant).position == Position(3))
    }

    @Test func aConnectionThatEndsInTheCommitLeavesTheOutcomeOpen() throws {
        let bench = try Bench()
        try bench.beforeEachCommit("PERFORM pg_sleep(60)")
        let request = try AppendRequest.sample(2, tenant: bench.tenant)
        let answer = Threads.start {
            let writer = bench.engine().makeWriter()
            let error = refusal { () throws(StorageError) in try writer.append(request) }
            return (error, try writer.append(request))
        }
        try bench.waitForSession("wait_event = 'PgSleep'")
        try bench.beforeEachCommit("NULL")
        #expect(try bench.endSessions("COMMIT") == 1)
        let (error, receipt) = try answer.value()
        #expect(error?.kind == .outcomeUnknown && error.map { MartletError($0).isRetryable } == true)
        #expect(receipt?.firstPosition == Position(1))
        #expect(try bench.holds(request.ids))
    }

    /// The socket of the connection that the writer uses next.
    private func socket(of writer: PostgreSQLWriter) throws -> Int32 {
        let connections = writer.shared.connections
        let connection = try #require(connections.take(generation: writer.memory.generation))
        connections.giveBack(connection)
        return connection.connection.socket
    }

    @Test func aSessionThatIsEndedBeforeItsCommitIsReplacedAlthoughCommitWasSentAlong() throws {
        let bench = try Bench()
        let writer = try bench.writer()
        try writer.append(.sample(tenant: bench.tenant))
        let other = try bench.connect()
        for round in 1...3 {
            try writer.append(.sample(to: .new(), .none, tenant: bench.tenant))
            try other.run("BEGIN; SELECT 1 FROM \(bench.schema).tenants FOR UPDATE")
            let request = try AppendRequest.sample(2, to: .new(), .none, tenant: bench.tenant)
            let answer = Threads.start { [writer = Unchecked(writer)] in try writer.value.append(request) }
            try bench.waitForSession("wait_event_type = 'Lock' AND query LIKE 'WITH moved%'")
            #expect(try bench.endSessions("WITH moved") == 1)
            // On its new connection it looks everything up.
            try bench.waitForSession("wait_event_type = 'Lock' AND query LIKE 'SELECT id, no, position%'")
            try other.run("ROLLBACK")
            #expect(try answer.value()?.replayed == false, "round \(round)")
        }
        #expect(writer.optimisticCommits == 1)
        #expect(try bench.engine().makeReader().head(of: bench.tenant).position == Position(10))
    }

    @Test func aConnectionThatBreaksAfterCommitWasSentAlongLeavesTheOutcomeOpen() throws {
        let bench = try Bench()
        let writer = try bench.writer()
        try writer.append(.sample(tenant: bench.tenant))
        let other = try bench.connect()
        for round in 1...3 {
            try writer.append(.sample(to: .new(), .none, tenant: bench.tenant))
            try other.run("BEGIN; SELECT 1 FROM \(bench.schema).tenants FOR UPDATE")
            let request = try AppendRequest.sample(2, to: .new(), .none, tenant: bench.tenant)
            let socket = try socket(of: writer)
            let answer = Threads.start { [writer = Unchecked(writer)] in
                refusal { () throws(StorageError) in try writer.value.append(request) }
            }
            try bench.waitForSession("wait_event_type = 'Lock' AND query LIKE 'WITH moved%'")
            // The session knows nothing of that: it has everything, and goes on.
            shutdown(socket, Int32(SHUT_RD))
            #expect(try answer.value()?.kind == .outcomeUnknown, "round \(round)")
            try other.run("ROLLBACK")
            #expect(try writer.append(request)?.replayed == true, "round \(round)")
        }
        #expect(writer.optimisticCommits == 1)
        #expect(try bench.engine().makeReader().head(of: bench.tenant).position == Position(10))
    }

    @Test func aConnectionThatBreaksWhileIdleIsReplaced() throws {
        let bench = try Bench()
        let writer = try bench.writer()
        var stored: [UUID] = []
        for round in 0..<5 {
            for _ in 0..<3 {
                let request = try AppendRequest.sample(to: .new(), .none, tenant: bench.tenant)
                #expect(try writer.append(request)?.replayed == false, "round \(round)")
                stored += request.ids
            }
            shutdown(try socket(of: writer), Int32(SHUT_RDWR))
        }
        #expect(writer.optimisticCommits > 5)
        #expect(try bench.holds(stored))
    }

    @Test func nothingIsRememberedAcrossALostConnection() throws {
        let bench = try Bench()
        let engine = bench.engine()
        let writers = try (0..<2).map { _ in try #require(engine.makeWriter() as? PostgreSQLWriter) }
        let name = AggregateName.new()
        for writer in writers { try writer.append(.sample(to: name, .any, tenant: bench.tenant)) }
        #expect(try bench.endSessions() == 1)
        // As if another server took over, which has not got all, and came to the same position by another event.
        try bench.run("DELETE FROM events WHERE position = 2")
        try bench.run("UPDATE tenants SET position = 1")
        try writers[0].append(.sample(to: .new(), .none, tenant: bench.tenant))
        let receipt = try writers[1].append(.sample(to: name, .any, tenant: bench.tenant))
        #expect(receipt?.firstPosition == Position(3) && receipt?.aggregates[0].lastVersion == Version(2))
    }

    @Test func whatOthersCannotBeToldIsCommittedAllTheSame() throws {
        let bench = try Bench()
        let writer = try bench.writer()
        try bench.run(
            """
            DROP TABLE listeners;
            CREATE TABLE ones (one integer);
            CREATE VIEW \(bench.schema).listeners AS
            SELECT gen_random_uuid() AS server, now() + 1 / (one - 1) * interval '1 day' AS until
            FROM \(bench.schema).ones;
            """)
        var stored: [UUID] = []
        for isTold in [true, false, false, false, true] {
            try bench.run(isTold ? "DELETE FROM ones" : "INSERT INTO ones VALUES (1)")
            let request = try AppendRequest.sample(2, tenant: bench.tenant)
            #expect(try writer.append(request)?.replayed == false)
            stored += request.ids
        }
        #expect(try bench.holds(stored))
    }

    @Test func aFailedCommitIsForgotten() throws {
        let bench = try Bench()
        let writer = try bench.writer()
        let name = AggregateName.new()
        let first = try AppendRequest.sample(to: name, .none, tenant: bench.tenant)
        try writer.append(first)
        for state in ["53100", "57014", "P0001"] {
            try bench.beforeEachCommit("RAISE EXCEPTION USING ERRCODE = '\(state)', MESSAGE = 'no'")
            for _ in 0..<2 {
                let refused = try AppendRequest.sample(2, to: name, .exact(Version(1)), tenant: bench.tenant)
                #expect(refusal { () throws(StorageError) in try writer.append(refused) } != nil)
            }
            try bench.beforeEachCommit("NULL")
            let conflicting = try AppendRequest.sample(to: name, .exact(Version(3)), tenant: bench.tenant)
            #expect(try writer.append(conflicting) == nil, "what \(state) ended counts")
        }
        #expect(try writer.append(.sample(to: name, .exact(Version(1)), tenant: bench.tenant)) != nil)
    }

    @Test func whateverIsEndedWhenTheAnswerIsTrueAndARetryStoresOneCopy() async throws {
        let bench = try Bench()
        let random = SeededGenerator.fromEnvironment()
        let isDone = NIOLockedValueBox(false)
        let outcomes = try await Threads.race(2) { index -> ([StorageError.Kind?: Int], [UUID]) in
            var numbers = SeededGenerator(seed: random.seed &+ UInt64(index))
            guard index == 0 else {
                while !isDone.withLockedValue({ $0 }) {
                    try bench.endSessions()
                    Thread.sleep(forTimeInterval: Double.random(in: 0.03...0.25, using: &numbers))
                }
                return ([:], [])
            }
            defer { isDone.withLockedValue { $0 = true } }
            let writer = bench.engine().makeWriter()
            var outcomes: [StorageError.Kind?: Int] = [:]
            var stored: [UUID] = []
            for round in 0..<50 {
                let request = try AppendRequest.sample(Int.random(in: 1...40, using: &numbers), tenant: bench.tenant)
                var wasUnknown = false
                while true {
                    do throws(StorageError) {
                        let receipt = try writer.append(request)
                        // What surely was not written cannot be there already.
                        #expect(receipt?.replayed == false || wasUnknown, "seed \(random.seed), round \(round)")
                        #expect(
                            receipt?.firstPosition.rawValue == UInt64(stored.count) + 1,
                            "seed \(random.seed), round \(round)")
                        outcomes[nil, default: 0] += 1
                        break
                    } catch {
                        outcomes[error.kind, default: 0] += 1
                        guard error.kind == .outcomeUnknown || error.kind == .unavailable else { throw error }
                        wasUnknown = wasUnknown || error.kind == .outcomeUnknown
                    }
                }
                stored += request.ids
            }
            return (outcomes, stored)
        }
        #expect(outcomes[0].0[nil] == 50, "seed \(random.seed): \(outcomes[0].0)")
        #expect(try bench.holds(outcomes[0].1), "seed \(random.seed)")
    }

    @Test(arguments: [
        ("53100", StorageError.Kind.full), ("XX001", .corrupted), ("57014", .unavailable), ("55P03", .locked),
        ("40001", .unavailable), ("40P01", .unavailable), ("42501", .misconfigured), ("P0001", .unavailable),
    ])
    func whatTheDatabaseRefusesIsToldAndTheNextCallGoesThrough(_ state: String, _ kind: StorageError.Kind) throws {
        let bench = try Bench()
        let writer = bench.engine().makeWriter()
        let first = try AppendRequest.sample(tenant: bench.tenant)
        try writer.append(first)
        try bench.beforeEachCommit("RAISE EXCEPTION USING ERRCODE = '\(state)', MESSAGE = 'no'")
        let second = try AppendRequest.sample(2, tenant: bench.tenant)
        for _ in 0..<2 {
            let error = refusal { () throws(StorageError) in try writer.append(second) }
            #expect(error?.kind == kind && error?.description.contains(state) == true)
        }
        #expect(try bench.holds(first.ids))
        try bench.beforeEachCommit("NULL")
        #expect(try writer.append(second)?.replayed == false)
        #expect(try bench.holds(first.ids + second.ids))
    }

    @Test(arguments: ["40001", "40P01"])
    func whatMayWellSucceedIsTriedAgain(_ state: String) throws {
        let bench = try Bench()
        try bench.run("CREATE SEQUENCE attempts")
        try bench.beforeEachCommit(
            """
            IF nextval('\(bench.schema).attempts') % 3 <> 0 THEN
                RAISE EXCEPTION USING ERRCODE = '\(state)', MESSAGE = 'again';
            END IF
            """)
        let writer = bench.engine().makeWriter()
        let requests = try (0..<5).map { _ in try AppendRequest.sample(tenant: bench.tenant) }
        for request in requests { #expect(try writer.append(request)?.replayed == false) }
        #expect(try bench.rows("SELECT last_value FROM attempts") == [["15"]])
        #expect(try bench.holds(requests.flatMap(\.ids)))
    }
}

/// A writer in the hands of another thread.
///
/// `@unchecked Sendable`: the test touches it again only when that thread has answered.
private struct Unchecked<Value>: @unchecked Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
}
