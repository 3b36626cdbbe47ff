import Foundation
import MartletModel
import MartletStorage
import MartletTesting
import NIOConcurrencyHelpers
import Testing
@testable import MartletStoragePostgreSQL

/// A database server that is stopped, started, and asks for passwords.
@Suite(.blocking, .serialized, .enabled(if: OwnCluster.isAvailable, "there is no PostgreSQL to start"))
struct RestartTests {
    @Test func aWrongPasswordIsNoMatterOfTime() throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        let engine = PostgreSQLEngine(
            connectionString: cluster.url(password: "wr0ng"), schema: bench.schema, logger: .silent)
        for call in EngineCall.allCases {
            let error = try call.refusal(by: engine)
            #expect(error?.kind == .misconfigured && error?.description.contains("password") == true)
            #expect(error.map { MartletError($0).isRetryable } == false)
            #expect(error?.description.contains("wr0ng") == false)
        }
        try bench.engine().prepare()
    }

    /// It is read at each connection, so that a password can be changed under a server that runs.
    @Test func aPasswordMayStandInAFile() throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        let folder = try TemporaryFolder()
        let file = folder.path + "/password"
        func write(_ text: String) throws { try text.write(toFile: file, atomically: true, encoding: .utf8) }
        let engine = PostgreSQLEngine(
            connectionString: cluster.url(password: nil), passwordFile: file, schema: bench.schema, logger: .silent)
        for (text, words) in [
            (nil, "cannot be read"), ("", "is empty"), ("\n", "is empty"), ("wr0ng\n", "password"),
            (String(repeating: "x", count: 4_097), "more than 4096 bytes"),
        ] as [(String?, String)] {
            if let text { try write(text) }
            let error = refusal { () throws(StorageError) in try engine.prepare() }
            let text = error?.description ?? "no error"
            #expect(error?.kind == .misconfigured && text.contains(words), "\(text)")
            #expect(error?.description.contains("wr0ng") == false)
        }
        for ending in ["", "\n", "\r\n"] {
            try write(OwnCluster.password + ending)
            try engine.prepare()
        }
        let writer = engine.makeWriter()
        try writer.append(try AppendRequest.sample(3, tenant: bench.tenant))
    }

    @Test(arguments: [false, true])
    func aServerThatStopsIsToldAndUsedAgainWithoutARestart(_ crashes: Bool) throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        let engine = bench.engine()
        let (writer, reader) = (engine.makeWriter(), engine.makeReader())
        let listener = try #require(engine.makeListener())
        var stored: [UUID] = []
        for round in 0..<2 {
            let request = try AppendRequest.sample(3, tenant: bench.tenant)
            try writer.append(request)
            stored += request.ids
            #expect(try reader.head(of: bench.tenant).position.rawValue == UInt64(stored.count))
            _ = try listener.wait(atMost: 1)
            try cluster.stop(crashes: crashes)
            let lost = try AppendRequest.sample(2, tenant: bench.tenant)
            for attempt in 0..<2 {
                var errors = try EngineCall.allCases.map { try $0.refusal(by: engine) }
                errors.append(refusal { () throws(StorageError) in try writer.append(lost) })
                errors.append(refusal { () throws(StorageError) in _ = try reader.head(of: bench.tenant) })
                errors.append(refusal { () throws(StorageError) in _ = try listener.wait(atMost: 1_000) })
                for error in errors {
                    #expect(error?.kind == .unavailable, "round \(round), attempt \(attempt)")
                    #expect(error.map { MartletError($0).isRetryable } == true)
                    #expect(error?.description.contains(OwnCluster.password) == false)
                }
            }
            try cluster.start()
            #expect(try writer.append(lost)?.replayed == false, "round \(round)")
            stored += lost.ids
            #expect(try reader.head(of: bench.tenant).position.rawValue == UInt64(stored.count))
            #expect(try listener.wait(atMost: 1_000) == .reconnected)
        }
        #expect(try bench.holds(stored, reader))
    }

    @Test func whatWasAcknowledgedBeforeACrashIsThere() throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        let acknowledged = NIOLockedValueBox<[UUID]>([])
        let isDone = NIOLockedValueBox(false)
        let writing = Threads.start {
            let writer = bench.engine().makeWriter()
            while !isDone.withLockedValue({ $0 }) {
                let request = try AppendRequest.sample(2, tenant: bench.tenant)
                while true {
                    do throws(StorageError) {
                        _ = try writer.append(request)
                        acknowledged.withLockedValue { $0 += request.ids }
                        break
                    } catch {
                        guard error.kind == .unavailable || error.kind == .outcomeUnknown else { throw error }
                        Thread.sleep(forTimeInterval: 0.02)
                    }
                }
            }
        }
        func waitForMore() {
            let count = acknowledged.withLockedValue { $0.count }
            while acknowledged.withLockedValue({ $0.count }) < count + 40, !writing.isDone {
                Thread.sleep(forTimeInterval: 0.001)
            }
        }
        for _ in 0..<2 {
            waitForMore()
            try cluster.stop(crashes: true)
            try cluster.start()
        }
        waitForMore()
        isDone.withLockedValue { $0 = true }
        try writing.value()
        let ids = acknowledged.withLockedValue { $0 }
        #expect(ids.count > 50, "\(ids.count) events were acknowledged")
        #expect(try bench.holds(ids))
    }

    @Test func aCommitThatWaitsForAReplicaAndIsEndedIsStoredOnce() throws {
        let cluster = try OwnCluster()
        let bench = try Bench(url: cluster.url())
        try bench.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        try bench.run("SELECT pg_reload_conf()")
        let request = try AppendRequest.sample(2, tenant: bench.tenant)
        let writer = NIOLockedValueBox(0)
        let answer = Threads.start {
            let own = bench.engine().makeWriter()
            let error = refusal { () throws(StorageError) in try own.append(request) }
            while writer.withLockedValue({ $0 }) == 0 { Thread.sleep(forTimeInterval: 0.01) }
            return (error, try own.append(request)?.replayed)
        }
        // The commit record is on this disk, and on no other: no answer.
        try bench.waitForSession("wait_event = 'SyncRep'")
        try bench.endSessions("COMMIT")
        try bench.run("ALTER SYSTEM RESET synchronous_standby_names")
        try bench.run("SELECT pg_reload_conf()")
        writer.withLockedValue { $0 = 1 }
        let (error, replayed) = try answer.value()
        #expect(error?.kind == .outcomeUnknown, "\(String(describing: error))")
        #expect(replayed == true)
        #expect(try bench.holds(request.ids))
    }
}
