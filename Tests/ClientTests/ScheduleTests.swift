import MartletModel
import MartletSession
import MartletStorageMemory
import MartletTesting
import NIOCore
import Testing

@testable import MartletClient

/// Schedules against the real server, over TLS.
@Suite(.timeLimit(.minutes(2))) struct ScheduleTests {
    private let tenant = Sample.tenant

    private func withClient(
        limits: Limits = Limits(), _ body: @escaping @Sendable (MartletClient) async throws -> Void
    ) async throws {
        try await TestServer.with(MemoryEngine(), limits: limits) { server in
            try await server.withClient(body)
        }
    }

    private func key(_ text: String) throws -> ScheduleKey { try #require(ScheduleKey(text)) }

    /// A schedule that is due so many milliseconds after the server's time of now.
    private func schedule(
        _ text: String, in millis: Int64, aggregate: UInt64 = 1, _ client: MartletClient
    ) async throws -> ScheduledEvent {
        let now = try await client.status().serverTime.microseconds
        return ScheduledEvent(
            try key(text), due: Timestamp(microseconds: now + millis * 1_000),
            aggregate: try Sample.aggregate(aggregate), event: try Sample.event())
    }

    private func events(_ client: MartletClient) async throws -> [RecordedEvent] {
        var all: [RecordedEvent] = []
        for try await event in try await client.read(ReadRequest(tenant: tenant)) { all.append(event) }
        return all
    }

    private func awaitEvents(_ count: Int, _ client: MartletClient) async throws -> [RecordedEvent] {
        while true {
            let all = try await events(client)
            if all.count >= count { return all }
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    @Test func anEventIsAppendedWhenItsTimeHasComeAndNotBefore() async throws {
        try await withClient { client in
            let schedule = try await schedule("a", in: 1_500, client)
            #expect(try await client.setSchedule(schedule, tenant: tenant) == .set)
            let listed = try await client.schedules(of: tenant)
            #expect(
                listed == [
                    ListedSchedule(
                        schedule.key, due: schedule.due, aggregate: schedule.aggregate, eventID: schedule.event.id,
                        eventType: schedule.event.type, payloadBytes: 10)
                ])
            let stored = try await awaitEvents(1, client)
            #expect(stored.map(\.event) == [schedule.event] && stored[0].aggregate == schedule.aggregate)
            #expect(stored[0].recordedAt >= schedule.due)
            #expect(try await client.schedules(of: tenant).isEmpty)
            // However late it is repeated.
            #expect(try await client.setSchedule(schedule, tenant: tenant) == .fired)
            #expect(try await client.cancelSchedule(schedule.key, tenant: tenant) == .absent)
            #expect(try await events(client).count == 1)
        }
    }

    @Test func aScheduleIsMovedAndCancelledByItsKey() async throws {
        try await withClient { client in
            let far = try await schedule("a", in: 3_600_000, client)
            let soon = try await schedule("a", in: 50, aggregate: 2, client)
            let never = try await schedule("b", in: 3_600_000, client)
            let outcomes = try await client.changeSchedules([.set(far), .set(never)], tenant: tenant)
            #expect(outcomes == [.set, .set])
            let changes: [NewScheduleChange] = [.set(soon), .cancel(never.key), .cancel(try key("c"))]
            #expect(try await client.changeSchedules(changes, tenant: tenant) == [.moved, .cancelled, .absent])
            let stored = try await awaitEvents(1, client)
            #expect(stored.map(\.event.id) == [soon.event.id] && stored[0].aggregate == soon.aggregate)
            #expect(try await client.schedules(of: tenant).isEmpty)
        }
    }

    @Test func anAppendSetsAndCancelsWithIt() async throws {
        try await withClient { client in
            let name = try Sample.aggregate(3)
            func append(_ expected: ExpectedVersion, _ schedules: [NewScheduleChange]) async throws {
                let part = NewAggregateEvents(aggregate: name, expected: expected, events: [try Sample.event()])
                _ = try await client.append([part], tenant: tenant, schedules: schedules)
            }
            let late = try await schedule("late", in: 3_600_000, client)
            try await append(.none, [.set(late)])
            #expect(try await client.schedules(of: tenant).map(\.key) == [late.key])
            let conflict = await failure { try await append(.none, [.cancel(late.key)]) }
            #expect(conflict?.reason == .versionConflict)
            #expect(try await client.schedules(of: tenant).map(\.key) == [late.key], "nothing of it is stored")
            try await append(.exact(Version(1)), [.cancel(late.key)])
            #expect(try await client.schedules(of: tenant).isEmpty)
        }
    }

    @Test func aTenantHasNoMoreThanItMay() async throws {
        var limits = Limits()
        limits.schedulesPerTenantMax = 2
        try await withClient(limits: limits) { client in
            #expect(try await client.welcome().limits.schedulesPerTenantMax == 2)
            let first = try await schedule("a", in: 3_600_000, client)
            let second = try await schedule("b", in: 3_600_000, client)
            let third = try await schedule("c", in: 3_600_000, client)
            _ = try await client.changeSchedules([.set(first), .set(second)], tenant: tenant)
            let error = await failure { try await client.setSchedule(third, tenant: tenant) }
            #expect(error?.reason == .tooManySchedules && error?.code == .resourceExhausted)
            #expect(try await client.schedules(of: tenant).count == 2)
            _ = try await client.cancelSchedule(first.key, tenant: tenant)
            #expect(try await client.setSchedule(third, tenant: tenant) == .set)
        }
    }

    @Test func aScheduleThatIsTooLateIsParked() async throws {
        try await withClient { client in
            var schedule = try await schedule("a", in: -10_000, client)
            schedule.latenessMax = .seconds(1)
            _ = try await client.setSchedule(schedule, tenant: tenant)
            while try await client.schedules(of: tenant, isParkedOnly: true).isEmpty {
                try await Task.sleep(for: .milliseconds(10))
            }
            let listed = try await client.schedules(of: tenant)
            #expect(listed.map(\.key) == [schedule.key] && listed[0].parked?.isEmpty == false)
            #expect(try await events(client).isEmpty)
            schedule.latenessMax = nil
            #expect(try await client.setSchedule(schedule, tenant: tenant) == .moved)
            #expect(try await awaitEvents(1, client).map(\.event.id) == [schedule.event.id])
        }
    }
}
