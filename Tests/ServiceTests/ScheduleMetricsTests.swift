import FoundationEssentials
import MartletModel
import MartletTesting
import MetricsTestKit
import NIOCore
import Testing

@testable import MartletService

/// What the metrics tell of schedules.
@Suite struct ScheduleMetricsTests {
    private func set(
        _ key: String, in time: TimeAmount, _ bench: ConsumerBench, lateAtMost: UInt64? = nil
    ) throws -> ScheduleChange {
        let due = Timestamp(microseconds: bench.now.microseconds + time.nanoseconds / 1_000)
        return .set(
            NewSchedule(
                try #require(ScheduleKey(key)), due: due, aggregate: .new(), event: try .sample(),
                latenessMillisMax: lateAtMost))
    }

    private func cancel(_ key: String) throws -> ScheduleChange { .cancel(try #require(ScheduleKey(key))) }

    private func change(_ changes: [ScheduleChange], _ bench: ConsumerBench) throws {
        _ = try bench.answer(.changeSchedules(ChangeSchedulesRequest(tenant: bench.tenant, changes)))
    }

    @Test func changesAreCountedByWhatBecameOfThem() throws {
        let bench = try ConsumerBench()
        try change([set("a", in: .hours(1), bench), set("b", in: .hours(1), bench)], bench)
        try change([set("a", in: .hours(2), bench), cancel("b"), cancel("never")], bench)
        #expect(bench.total(.schedulesSet) == 3 && bench.total(.schedulesCancelled) == 1)
        var append = AppendRequest.of([try .sample()], tenant: bench.tenant)
        append.schedules = [try set("c", in: .hours(1), bench), try set("d", in: .hours(1), bench), try cancel("a")]
        for _ in 0..<2 { _ = try bench.answer(.append(append)) }
        #expect(bench.total(.schedulesSet) == 5 && bench.total(.schedulesCancelled) == 2, "a replay changes none")
        #expect(bench.total(.schedulesFired) == 0 && bench.total(.schedulesParked) == 0)
    }

    @Test func whatIsFiredLateSaysHowLate() throws {
        let bench = try ConsumerBench()
        try change(
            [
                set("a", in: .seconds(1), bench), set("b", in: .seconds(3), bench),
                set("c", in: .seconds(2), bench, lateAtMost: 1_000),
            ], bench)
        // Nobody looks for schedules meanwhile, as where all servers are down.
        bench.advance(.seconds(6))
        bench.service.startSchedules(on: bench.servers[0].loop)
        bench.run()
        let timer = try bench.metrics.expectTimer(MetricName.scheduleLateness.rawValue)
        #expect(timer.values.indices.map { timer.valueInPreferredUnit(atIndex: $0) } == [5, 3], "in seconds")
        #expect(bench.total(.schedulesFired) == 2 && bench.total(.schedulesParked) == 1)
        // One that is waited for comes on time.
        try change([set("e", in: .seconds(2), bench)], bench)
        bench.advance(.seconds(3))
        #expect(bench.total(.schedulesFired) == 3 && timer.values.count == 3)
        #expect(try #require(timer.lastValue) <= 100_000_000)
    }
}
