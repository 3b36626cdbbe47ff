import MartletModel
import MartletRecordCodec
import MartletSession
import NIOCore
import Testing

@testable import MartletClient

/// What the client makes of schedules, against a server that does what a test tells it.
@Suite(.timeLimit(.minutes(1))) struct ScheduleCallTests {
    private func key(_ text: String) throws -> ScheduleKey { try #require(ScheduleKey(text)) }

    private func schedule(_ text: String, latenessMax: Duration? = nil) throws -> ScheduledEvent {
        ScheduledEvent(
            try key(text), due: Timestamp(microseconds: 7), aggregate: try Sample.aggregate(),
            event: try Sample.event(), latenessMax: latenessMax)
    }

    /// The answer to a first try is lost: the second has the same ids, and its outcomes count.
    @Test func aChangeSurvivesALostConnection() async throws {
        try await withServer { server, setup in
            let outcome = try await setup.run { client in
                let schedule = try schedule("a")
                async let answer = client.setSchedule(schedule, tenant: Sample.tenant)
                let call = try await server.call()
                guard case .changeSchedules(let request) = call.request else { throw FakeServer.Nothing() }
                #expect(
                    request.changes == [
                        .set(
                            NewSchedule(
                                schedule.key, due: schedule.due, aggregate: schedule.aggregate,
                                event: try EncodedEvent(schedule.event)))
                    ])
                await call.connection.close()
                let again = try await server.call()
                #expect(again.request == call.request)
                again.send(.schedulesChanged([.fired]))
                return try await answer
            }
            #expect(outcome == .fired)
        }
    }

    @Test func whetherAChangeWasStoredMayBeUnknown() async throws {
        try await withServer { server, setup in
            var setup = setup
            setup.configuration.retryBudget = .zero
            try await setup.run { client in
                async let answer = failure { try await client.cancelSchedule(key("a"), tenant: Sample.tenant) }
                try await server.call().connection.close()
                #expect(await answer?.reason == .outcomeUnknown)
            }
        }
    }

    @Test func latenessIsRoundedUp() async throws {
        for (latenessMax, millis) in [
            (nil, nil), (.zero, 1), (.microseconds(1), 1), (.milliseconds(1_500), 1_500), (.microseconds(1_001), 2),
            (.seconds(-3), 1), (.seconds(Int64.max), .max),
        ] as [(Duration?, UInt64?)] {
            let changes = try ScheduleChange.encoded([.set(schedule("a", latenessMax: latenessMax))], name: "changes")
            guard case .set(let schedule) = changes.first else {
                Issue.record("\(changes)")
                continue
            }
            #expect(schedule.latenessMillisMax == millis)
        }
    }

    @Test func anAppendCarriesItsSchedules() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let part = NewAggregateEvents(
                    aggregate: try Sample.aggregate(), expected: .any, events: [try Sample.event()])
                let late = try schedule("b", latenessMax: .seconds(1))
                let changes = [NewScheduleChange.cancel(try key("a")), .set(late)]
                async let answer = client.append([part], tenant: Sample.tenant, schedules: changes)
                let call = try await server.call()
                guard case .append(let request) = call.request else { throw FakeServer.Nothing() }
                #expect(request.schedules == (try ScheduleChange.encoded(changes, name: "schedules")))
                #expect(request.schedules.map(\.key.text) == ["a", "b"])
                call.send(.append(Sample.receipt()))
                #expect(try await answer == Sample.receipt())
            }
        }
    }

    @Test func anEventThatCannotBeEncodedIsNamed() async throws {
        try await withServer { _, setup in
            try await setup.run { client in
                var bad = try schedule("b")
                bad.event.contentType = NewEvent.json
                let changes = [NewScheduleChange.cancel(try key("a")), .set(bad)]
                let error = await failure { try await client.changeSchedules(changes, tenant: Sample.tenant) }
                #expect(error?.reason == .invalidJSON && error?.message.contains("changes[1].set.event") == true)
                let part = NewAggregateEvents(
                    aggregate: try Sample.aggregate(), expected: .any, events: [try Sample.event()])
                let append = await failure {
                    try await client.append([part], tenant: Sample.tenant, schedules: changes)
                }
                #expect(append?.reason == .invalidJSON && append?.message.contains("schedules[1].set.event") == true)
            }
        }
    }

    @Test func schedulesAreListedPageByPage() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                func page(_ numbers: Range<Int>) throws -> [ListedSchedule] {
                    try numbers.map { number in
                        ListedSchedule(
                            try key("k\(1_000 + number)"), due: Timestamp(microseconds: 7),
                            aggregate: try Sample.aggregate(), eventID: .v7(), eventType: try Sample.event().type,
                            payloadBytes: 1)
                    }
                }
                let (first, second) = (try page(0..<500), try page(500..<503))
                async let answer = client.schedules(of: Sample.tenant, isParkedOnly: true)
                for (page, after) in [(first, nil), (second, first.last?.key)] {
                    let call = try await server.call()
                    let request = ListSchedulesRequest(tenant: Sample.tenant, after: after, isParkedOnly: true)
                    #expect(call.request == .listSchedules(request))
                    call.send(.schedules(page))
                }
                #expect(try await answer == first + second)
                async let few = client.schedules(of: Sample.tenant, max: 3)
                let call = try await server.call()
                #expect(call.request == .listSchedules(ListSchedulesRequest(tenant: Sample.tenant, count: 3)))
                call.send(.schedules(second))
                #expect(try await few == second)
                #expect(try await client.schedules(of: Sample.tenant, max: 0).isEmpty)
            }
        }
    }

    @Test func anAnswerForOtherChangesIsADefect() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                async let answer = failure { try await client.cancelSchedule(key("a"), tenant: Sample.tenant) }
                try await server.call().send(.schedulesChanged([.absent, .absent]))
                #expect(await answer?.reason == .internalError)
            }
        }
    }
}
