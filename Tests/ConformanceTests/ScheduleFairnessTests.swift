import FoundationEssentials
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletStorageSQLite
import MartletTesting
import NIOCore
import NIOPosix
import Testing

/// A tenant with very many schedules that are due at once is not waited for by another one.
@Suite(.timeLimit(.minutes(3))) struct ScheduleFairnessTests {
    private static let count = TestRounds.count(4_000, long: 100_000)

    private func changes(_ count: Int, of name: AggregateName, due: Timestamp, _ label: String) throws
        -> [ScheduleChange]
    {
        try (0..<count).map { number in
            .set(
                NewSchedule(
                    try #require(ScheduleKey("\(label)\(number)")), due: due, aggregate: name, event: try .sample()))
        }
    }

    @Test func manyThatAreDueAtOnceHoldUpNoOtherTenant() async throws {
        let folder = try TemporaryFolder()
        let engine = SQLiteEngine(path: folder.path + "/m.db", logger: .silent)
        let subject = try EngineSubject(
            engine, eventLoop: MultiThreadedEventLoopGroup.singleton.next(), logger: .silent)
        let (many, one) = (TenantID(UUID()), TenantID(UUID()))
        let due = Timestamp(microseconds: Timestamp.now().microseconds + 3_600_000_000)
        let all = try changes(Self.count, of: .new(), due: due, "k")
        for start in stride(from: 0, to: all.count, by: ScheduleChange.countMax) {
            let part = Array(all[start..<min(start + ScheduleChange.countMax, all.count)])
            _ = try await subject.changeSchedules(ChangeSchedulesRequest(tenant: many, part))
        }
        // All of them are due now; what another tenant sets then does not wait for them.
        let now = Timestamp.now()
        let moved = all.map { change -> ScheduleChange in
            guard case .set(var schedule) = change else { return change }
            schedule.due = now
            return .set(schedule)
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for start in stride(from: 0, to: moved.count, by: ScheduleChange.countMax) {
                let part = Array(moved[start..<min(start + ScheduleChange.countMax, moved.count)])
                group.addTask {
                    _ = try await subject.changeSchedules(ChangeSchedulesRequest(tenant: many, part))
                }
            }
            try await group.waitForAll()
        }
        _ = try await subject.changeSchedules(
            ChangeSchedulesRequest(tenant: one, try changes(1, of: .new(), due: .now(), "one")))
        while try await subject.head(of: one).position == .start { try await Task.sleep(for: .milliseconds(1)) }
        let then = try await subject.head(of: many).position.rawValue
        let event = try await subject.read(ReadRequest(tenant: one)).events[0]
        while try await subject.head(of: many).position < Position(UInt64(Self.count)) {
            try await Task.sleep(for: .milliseconds(20))
        }
        let last = try await subject.read(ReadRequest(tenant: many, direction: .backward, eventsMax: 1)).events[0]
        let left = try await subject.schedules(ListSchedulesRequest(tenant: many))
        await subject.shutDown()
        #expect(left.isEmpty)
        print("one tenant's event came after \(then) of another's \(Self.count)")
        #expect(event.recordedAt < last.recordedAt, "after \(then) of \(Self.count)")
    }

    @Test func noMoreThanAllowedAreSet() async throws {
        var limits = Limits()
        limits.schedulesPerTenantMax = 3
        let subject = try EngineSubject(
            MemoryEngine(), limits: limits, eventLoop: MultiThreadedEventLoopGroup.singleton.next(), logger: .silent)
        let (tenant, due) = (TenantID(UUID()), Timestamp.latest)
        let all = try changes(4, of: .new(), due: due, "k")
        func change(_ changes: [ScheduleChange]) async throws(MartletError) -> [ScheduleChanged] {
            try await subject.changeSchedules(ChangeSchedulesRequest(tenant: tenant, changes))
        }
        var errors: [MartletError] = []
        do throws(MartletError) { _ = try await change(all) } catch { errors.append(error) }
        #expect(try await subject.schedules(ListSchedulesRequest(tenant: tenant)).isEmpty)
        #expect(try await change(Array(all.prefix(3))) == [.set, .set, .set])
        // In the place of others, there is room.
        #expect(try await change([all[0]]) == [.moved])
        let append = AppendRequest(
            tenant: tenant, aggregates: [AggregateAppend(aggregate: .new(), expected: .any, events: [try .sample()])],
            schedules: [all[3]])
        do throws(MartletError) { _ = try await subject.append(append) } catch { errors.append(error) }
        #expect(try await subject.head(of: tenant).position == .start)
        var swapped = append
        swapped.schedules.append(.cancel(all[0].key))
        _ = try await subject.append(swapped)
        let keys = try await subject.schedules(ListSchedulesRequest(tenant: tenant)).map(\.key.text)
        #expect(keys == ["k1", "k2", "k3"])
        await subject.shutDown()
        #expect(errors.map(\.reason) == [.tooManySchedules, .tooManySchedules], "\(errors)")
    }
}
