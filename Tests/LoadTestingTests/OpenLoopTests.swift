import MartletModel
import MartletTesting
import MartletStorageMemory
import Logging
import Testing

@testable import MartletLoadTesting

@Suite struct OpenLoopTests {
    /// 400 calls are due in 2 s, and commits stand still for half a second: that is 100 calls, whose times lie evenly
    /// between nothing and half a second, whether or not a caller was free when they were due.
    @Test(arguments: [64, 2])
    func aStallShowsInTheTimesOfAllCallsThatWereDueInIt(_ clients: Int) async throws {
        let engine = StallingEngine(MemoryEngine(), afterCalls: 100, seconds: 0.5)
        let report = try await TestServer.with(engine) { server in
            var settings = RunSettings()
            settings.clients = clients
            settings.connections = 2
            settings.warmupSeconds = 0
            settings.seconds = 2
            settings.callsPerSecond = 200
            return try await AppendWorkload(settings).run(BenchTarget(server.clientConfiguration, logger: .silent))
        }
        #expect(report.failures == [])
        #expect(report.calls == 400)
        #expect(report.latency.count == 400)
        // The 40 slowest of 400 took at least three fifths of the stall.
        #expect(report.latency.p90 > 200_000, "\(report.latency)")
        #expect(report.latency.max >= 450_000, "\(report.latency)")
        #expect(report.verified["stored"] == 400)
        if clients == 2 { #expect(report.timeline.contains { $0.p99 > 200_000 }) }
    }

    /// The same stall in a closed loop with one client is one slow call: what the open loop is for.
    @Test func aClosedLoopHidesTheStall() async throws {
        let engine = StallingEngine(MemoryEngine(), afterCalls: 100, seconds: 0.5)
        let report = try await TestServer.with(engine) { server in
            var settings = RunSettings()
            settings.warmupSeconds = 0
            settings.seconds = 1.5
            return try await AppendWorkload(settings).run(BenchTarget(server.clientConfiguration, logger: .silent))
        }
        #expect(report.failures == [])
        #expect(report.latency.max >= 450_000)
        #expect(report.latency.p90 < 200_000)
    }

    @Test func callsAreDueAtEvenTimes() async throws {
        let start = Moment(nanoseconds: 5_000_000_000)
        let schedule = CallSchedule(
            window: RunWindow(from: start, warmup: 0.5, seconds: 1.5), callsPerSecond: 100)
        #expect(schedule.count == 200)
        #expect(schedule.due(0) == start)
        #expect(schedule.due(150).seconds(since: start) == 1.5)
        #expect(schedule.backlog(at: start + 0.255) == 25)
        #expect(schedule.backlog(at: start + 60) == 200)
    }

    /// All callers together take each call once, and those that wait are let go at the end.
    @Test func everyCallIsHandedOutOnce() async throws {
        let schedule = CallSchedule(
            window: RunWindow(from: .now(), warmup: 0, seconds: 0.3), callsPerSecond: 2_000)
        let taken = try await schedule.pacing {
            try await withThrowingTaskGroup(of: [Moment].self) { group in
                for _ in 0..<16 {
                    group.addTask {
                        var mine: [Moment] = []
                        while let due = await schedule.next() {
                            #expect(Moment.now() >= due)
                            mine.append(due)
                        }
                        return mine
                    }
                }
                return try await group.reduce(into: []) { $0 += $1 }
            }
        }
        #expect(taken.sorted() == (0..<600).map { schedule.due($0) })
    }
}
