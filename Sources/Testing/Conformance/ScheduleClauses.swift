import FoundationEssentials
import MartletModel
import NIOCore

// Events that are appended when their time has come.

extension ConformanceSuite {
    static let scheduleClauses: [ConformanceClause] = [
        ConformanceClause("schedule.fires", "An event is appended once when it is due, and never before.") { s in
            let (aggregate, due) = (s.aggregate(), Timestamp.inMillis(1_000))
            let event = try s.event("Reminded")
            try requireEqual(try await s.change(.set(s.schedule("a", due, event, aggregate))), [.set], "what became")
            let listed = ListedSchedule(
                s.key("a"), due: due, aggregate: aggregate, eventID: event.id, eventType: event.type,
                payloadBytes: event.payloadBytes)
            try requireEqual(try await s.schedules(), [listed], "the schedules")
            // Somebody looks for what is due before that.
            let other = try s.event()
            _ = try await s.change(.set(s.schedule("b", .inMillis(0), other, s.aggregate())))
            try await s.head(is: 2)
            let now = Timestamp.now()
            try require(now >= due, "it is there at \(now), before \(due)")
            let found = try await s.load(aggregate).events
            try requireEqual(found.map(\.event.id), [event.id], "what is appended")
            try require(found[0].recordedAt >= due, "it was appended at \(found[0].recordedAt), before \(due)")
            try requireEqual(try await s.schedules(), [], "the schedules after it")
        },
        ConformanceClause("schedule.past", "What is due already is appended at once, the earliest first.") { s in
            let aggregate = s.aggregate()
            let events = try s.events(4)
            let dues: [Int64] = [3, 1, 0, 2]
            let changes = zip(events, dues).map { event, due in
                ScheduleChange.set(s.schedule("k\(due)", Timestamp(microseconds: due * 1_000_000), event, aggregate))
            }
            try requireEqual(try await s.change(changes), [.set, .set, .set, .set], "what became")
            try await s.head(is: 4)
            let expected = [events[2], events[1], events[3], events[0]].map(\.id)
            try requireEqual(try await s.load(aggregate).events.map(\.event.id), expected, "the order")
        },
        ConformanceClause("schedule.moves", "A key that is set again is moved, with its new event.") { s in
            let (aggregate, events) = (s.aggregate(), try s.events(2))
            _ = try await s.change(.set(s.schedule("a", .inMillis(3_600_000), events[0], aggregate)))
            let moved = try await s.change(.set(s.schedule("a", .inMillis(30), events[1], aggregate)))
            try requireEqual(moved, [.moved], "what became")
            try await s.head(is: 1)
            try requireEqual(try await s.load(aggregate).events.map(\.event.id), [events[1].id], "what is appended")
            try requireEqual(try await s.schedules(), [], "the schedules")
        },
        ConformanceClause("schedule.cancels", "A schedule that is cancelled never comes.") { s in
            let aggregate = s.aggregate()
            let events = try s.events(2)
            _ = try await s.change([
                .set(s.schedule("a", .inMillis(1_500), events[0], aggregate)),
                .set(s.schedule("b", .inMillis(1_600), events[1], aggregate)),
            ])
            try requireEqual(
                try await s.change([.cancel(s.key("a")), .cancel(s.key("c"))]), [.cancelled, .absent], "what became")
            try requireEqual(try await s.change(.cancel(s.key("a"))), [.absent], "what became then")
            try await s.head(is: 1)
            try requireEqual(try await s.load(aggregate).events.map(\.event.id), [events[1].id], "what is appended")
        },
        ConformanceClause("schedule.again", "Setting a schedule again whose event is there changes nothing.") { s in
            let (aggregate, event) = (s.aggregate(), try s.event())
            let schedule = s.schedule("a", .inMillis(0), event, aggregate)
            _ = try await s.change(.set(schedule))
            try await s.head(is: 1)
            try requireEqual(try await s.change(.set(schedule)), [.fired], "what became")
            var later = schedule
            later.due = .inMillis(50)
            try requireEqual(try await s.change(.set(later)), [.fired], "what became at another time")
            try requireEqual(try await s.schedules(), [], "the schedules")
            try requireEqual(try await s.head().position, Position(1), "the head")
        },
        ConformanceClause("schedule.reused", "The id of another event is refused, and nothing is set.") { s in
            let (aggregate, id) = (s.aggregate(), UUID.v7())
            try await s.append([try s.event(id: id)], to: aggregate)
            let other = try s.event(id: id, payload: #"{"n": 2}"#)
            try await s.refused(.eventIDReused) { () throws(MartletError) in
                _ = try await s.change([
                    .set(s.schedule("a", .inMillis(0), other, aggregate)), .cancel(s.key("b")),
                ])
            }
            try requireEqual(try await s.schedules(), [], "the schedules")
        },
        ConformanceClause("schedule.append", "An append sets and cancels schedules with its events, or not at all.") {
            s in
            let (aggregate, later) = (s.aggregate(), s.aggregate())
            let event = try s.event("Reminded")
            let set = ScheduleChange.set(s.schedule("a", .inMillis(3_600_000), event, later))
            let part = AggregateAppend(aggregate: aggregate, expected: .exact(Version(7)), events: try s.events(1))
            try await s.refused(.versionConflict) { () throws(MartletError) in
                _ = try await s.subject.append(AppendRequest(tenant: s.tenant, aggregates: [part], schedules: [set]))
            }
            try requireEqual(try await s.schedules(), [], "the schedules of an append that was refused")
            var request = AppendRequest(tenant: s.tenant, aggregates: [part], schedules: [set])
            request.aggregates[0].expected = .none
            _ = try await s.subject.append(request)
            try requireEqual(try await s.schedules().map(\.key), [s.key("a")], "the schedules")
            let next = AggregateAppend(aggregate: aggregate, expected: .any, events: try s.events(1))
            _ = try await s.subject.append(
                AppendRequest(tenant: s.tenant, aggregates: [next], schedules: [.cancel(s.key("a"))]))
            try requireEqual(try await s.schedules(), [], "the schedules after they were cancelled")
            let replayed = try await s.subject.append(request)
            try require(replayed.replayed, "the first append is there")
            try requireEqual(try await s.schedules(), [], "what a replay sets again")
        },
        ConformanceClause("schedule.parks", "An event that cannot be appended is set aside with the reason.") { s in
            let (aggregate, id) = (s.aggregate(), UUID.v7())
            let event = try s.event(id: id)
            _ = try await s.change(.set(s.schedule("a", .inMillis(1_500), event, aggregate)))
            try await s.append([try s.event(id: id, payload: #"{"n": 2}"#)], to: aggregate)
            try await s.until("it is parked") { try await s.schedules(isParkedOnly: true).count == 1 }
            let parked = try await s.schedules()
            try requireEqual(parked.map(\.eventID), [id], "what is parked")
            try require(parked[0].parked?.isEmpty == false, "why it is parked is said")
            let other = try s.event("Reminded")
            let moved = try await s.change(.set(s.schedule("a", .inMillis(0), other, aggregate)))
            try requireEqual(moved, [.moved], "what became of it when it was set again")
            try await s.head(is: 2)
            try requireEqual(try await s.schedules(), [], "the schedules")
        },
        ConformanceClause("schedule.missed", "What says so is set aside where it would be too late.") { s in
            let (aggregate, events) = (s.aggregate(), try s.events(2))
            var late = s.schedule("a", Timestamp(microseconds: 0), events[0], aggregate)
            late.latenessMillisMax = 1_000
            var soon = s.schedule("b", .inMillis(50), events[1], aggregate)
            soon.latenessMillisMax = 600_000
            _ = try await s.change([.set(late), .set(soon)])
            try await s.head(is: 1)
            try await s.until("it is parked") { try await s.schedules(isParkedOnly: true).count == 1 }
            try requireEqual(try await s.schedules().map(\.key), [s.key("a")], "what is left")
            try requireEqual(try await s.load(aggregate).events.map(\.event.id), [events[1].id], "what is appended")
        },
        ConformanceClause("schedule.list", "Schedules are listed in the order of their keys, page by page.") { s in
            let (aggregate, other) = (s.aggregate(), TenantID(UUID()))
            let due = Timestamp.inMillis(3_600_000)
            let names = ["b", "B", "a:1", "a.2", "_", "0"]
            _ = try await s.change(
                try names.map { .set(s.schedule($0, due, try s.event(), aggregate)) })
            let sorted = names.sorted { Array($0.utf8).lexicographicallyPrecedes(Array($1.utf8)) }
            try requireEqual(try await s.schedules().map(\.key.text), sorted, "all of them")
            let page = try await s.subject.schedules(
                ListSchedulesRequest(tenant: s.tenant, after: s.key(sorted[1]), count: 2))
            try requireEqual(page.map(\.key.text), Array(sorted[2...3]), "a page")
            try requireEqual(try await s.schedules(isParkedOnly: true), [], "those that are parked")
            try requireEqual(
                try await s.subject.schedules(ListSchedulesRequest(tenant: other)), [], "those of another tenant")
            try requireEqual(try await s.head().position, .start, "the head of a tenant that has only schedules")
        },
    ]
}

extension Timestamp {
    fileprivate static func inMillis(_ millis: Int64) -> Timestamp {
        Timestamp(microseconds: Timestamp.now().microseconds + millis * 1_000)
    }
}

extension Scenario {
    fileprivate func key(_ text: String) -> ScheduleKey {
        guard let key = ScheduleKey(text) else { preconditionFailure("a valid key") }
        return key
    }

    fileprivate func schedule(
        _ key: String, _ due: Timestamp, _ event: EncodedEvent, _ aggregate: AggregateName
    ) -> NewSchedule {
        NewSchedule(self.key(key), due: due, aggregate: aggregate, event: event)
    }

    fileprivate func change(_ changes: [ScheduleChange]) async throws(MartletError) -> [ScheduleChanged] {
        try await subject.changeSchedules(ChangeSchedulesRequest(tenant: tenant, changes))
    }

    fileprivate func change(_ change: ScheduleChange) async throws(MartletError) -> [ScheduleChanged] {
        try await self.change([change])
    }

    fileprivate func schedules(isParkedOnly: Bool = false) async throws(MartletError) -> [ListedSchedule] {
        try await subject.schedules(ListSchedulesRequest(tenant: tenant, isParkedOnly: isParkedOnly))
    }

    /// Waits until the tenant has so many events, and no more.
    fileprivate func head(is position: UInt64) async throws {
        try await until("the head is \(position)") {
            let found = try await head().position
            try require(found <= Position(position), "the head is \(found), expected at most \(position)")
            return found == Position(position)
        }
    }
}
