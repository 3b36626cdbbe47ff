import FoundationEssentials
import MartletModel

extension ConformanceSuite {
    static let loadClauses: [ConformanceClause] = [
        ConformanceClause("load.order", "The events of one aggregate come in version order, and no others.") { s in
            let (order, other) = (s.aggregate(), s.aggregate())
            for _ in 0..<5 {
                try await s.append(try s.events(2), to: order)
                try await s.append(try s.events(1), to: other)
            }
            let (view, events) = try await s.load(order)
            try requireEqual(events.map(\.version.rawValue), Array(1...10), "the versions")
            try requireEqual(Set(events.map(\.aggregate)), [order], "the aggregates")
            try requireEqual(view, LoadView(version: Version(10), position: Position(15)), "the view")
        },
        ConformanceClause(
            "load.unknown", "An aggregate without events answers version 0 and no events; that is no error."
        ) { s in
            try await s.append(try s.events(2), to: s.aggregate())
            for target: LoadTarget in [
                .now, .version(Version(3)), .position(Position(1)), .time(Timestamp(microseconds: 0)),
            ] {
                let (view, events) = try await s.load(s.aggregate(), target)
                try require(view.version == .none && events.isEmpty, "with \(target): \(view), \(events.count) events")
            }
        },
        ConformanceClause("load.backward", "Backward, the newest comes first.") { s in
            let order = s.aggregate()
            try await s.append(try s.events(10), to: order)
            try requireEqual(
                try await s.load(order, .now, .backward).events.map(\.version.rawValue), Array((1...10).reversed()),
                "the versions")
            try requireEqual(
                try await s.load(order, after: 7, .now, .backward).events.map(\.version.rawValue), [10, 9, 8],
                "the versions after 7")
            try requireEqual(
                try await s.load(order, .version(Version(5)), .backward, max: 2).events.map(\.version.rawValue),
                [5, 4], "the last two to 5")
        },
        ConformanceClause("load.after", "Only events after a version; none after the last.") { s in
            let order = s.aggregate()
            try await s.append(try s.events(5), to: order)
            try requireEqual(try await s.load(order, after: 3).events.map(\.version.rawValue), [4, 5], "the versions")
            let (view, events) = try await s.load(order, after: 99)
            try require(events.isEmpty && view.version == Version(5), "nothing after 99, and the version is told")
        },
        ConformanceClause("load.max", "At most n events.") { s in
            let order = s.aggregate()
            try await s.append(try s.events(5), to: order)
            try requireEqual(try await s.load(order, max: 2).events.map(\.version.rawValue), [1, 2], "the first two")
            try requireEqual(
                try await s.load(order, .now, .backward, max: 2).events.map(\.version.rawValue), [5, 4], "the last two")
        },
        ConformanceClause("load.to-version", "The state as of a version; beyond the last it is all there is.") { s in
            let order = s.aggregate()
            try await s.append(try s.events(3), to: order)
            try await s.append(try s.events(2), to: s.aggregate())
            try await s.append(try s.events(1), to: order)
            let (view, events) = try await s.load(order, .version(Version(3)))
            try requireEqual(view, LoadView(version: Version(3), position: Position(3)), "the view")
            try requireEqual(events.count, 3, "the events")
            try requireEqual(
                try await s.load(order, .version(Version(9))).view.version, Version(4), "the version beyond")
            try requireEqual(try await s.load(order, .version(.none)).events.count, 0, "the events to version 0")
        },
        ConformanceClause("load.as-of-position", "The state as of every position is what was there then.") { s in
            let names = [s.aggregate(), s.aggregate()]
            for _ in 0..<30 {
                try await s.append(
                    try s.events(Int.random(in: 1...2, using: &s.random)),
                    to: names[Int.random(in: 0...1, using: &s.random)])
            }
            let all = try await s.read().events
            for position in 0...all.count {
                for name in names {
                    let expected = all.prefix(position).filter { $0.aggregate == name }
                    let (view, events) = try await s.load(name, .position(Position(UInt64(position))))
                    try requireEqual(events, expected, "the events as of \(position)")
                    try requireEqual(
                        view, LoadView(version: expected.last?.version ?? .none, position: Position(UInt64(position))),
                        "the view")
                }
            }
        },
        ConformanceClause("load.beyond-head", "A position beyond the head is refused.") { s in
            let order = s.aggregate()
            try await s.append(try s.events(1), to: order)
            let error = try await s.refused(.positionBeyondHead) { () async throws(MartletError) in
                _ = try await s.load(order, .position(Position(2)))
            }
            try requireEqual(error.code, .outOfRange, "the code")
        },
        ConformanceClause("load.as-of-time", "A time resolves to a position, which answers the same forever.") { s in
            let order = s.aggregate()
            var times: [Timestamp] = []
            for _ in 0..<10 {
                times.append(try await s.append(try s.events(1), to: order).recordedAt)
                try await Task.sleep(for: .milliseconds(2))
            }
            for (index, time) in times.enumerated() {
                let (view, events) = try await s.load(order, .time(time))
                // Several commits may have one time.
                let expected = times.lastIndex(of: time).map { $0 + 1 } ?? 0
                try requireEqual(events.count, expected, "the events as of commit \(index)")
                let again = try await s.load(order, .position(view.position))
                try requireEqual(again.events, events, "the events as of position \(view.position)")
            }
            let before = Timestamp(microseconds: times[0].microseconds - 1)
            let (view, events) = try await s.load(order, .time(before))
            try require(
                events.isEmpty && view == LoadView(version: .none, position: .start), "nothing before the first")
        },
        ConformanceClause("load.future", "A time still to come is refused.") { s in
            let order = s.aggregate()
            let future = Timestamp(microseconds: Timestamp.now().microseconds + 3_600_000_000)
            try await s.refused(.timeInFuture) { () async throws(MartletError) in
                _ = try await s.load(order, .time(future))
            }
            try await s.refused(.timeInFuture) { () async throws(MartletError) in _ = try await s.read(.time(future)) }
        },
        ConformanceClause("load.paged", "A history larger than many pages comes whole, in both directions.") { s in
            let order = s.aggregate()
            let payload = "\"" + String(repeating: "x", count: 3_000) + "\""
            for _ in 0..<3 { try await s.append(try s.events(200, payload: payload), to: order) }
            try requireEqual(try await s.load(order).events.map(\.version.rawValue), Array(1...600), "the versions")
            try requireEqual(
                try await s.load(order, .now, .backward).events.map(\.version.rawValue), Array((1...600).reversed()),
                "the versions backward")
            try requireEqual(
                try await s.load(order, after: 100, .version(Version(500))).events.map(\.version.rawValue),
                Array(101...500), "a range")
        },
        ConformanceClause("load.view-is-fixed", "What is appended during a load is not in it.") { s in
            let order = s.aggregate()
            let payload = "\"" + String(repeating: "x", count: 10_000) + "\""
            try await s.append(try s.events(300, payload: payload), to: order)
            let scenario = s
            async let loaded = scenario.load(order)
            for _ in 0..<10 { try await s.append(try s.events(1), to: order) }
            let (view, events) = try await loaded
            try requireEqual(events.count, Int(view.version.rawValue), "the events of the view")
        },
    ]

    static let readClauses: [ConformanceClause] = [
        ConformanceClause("read.all", "A tenant's events come in position order without a gap.") { s in
            for index in 0..<20 { try await s.append(try s.events(1 + index % 3), to: s.aggregate()) }
            let (view, events) = try await s.read()
            try requireEqual(events.map(\.position.rawValue), Array(1...UInt64(events.count)), "the positions")
            try requireEqual(view, ReadView(to: view.head.position, head: try await s.head()), "the view")
            try requireEqual(try await s.read(.head, .backward).events, events.reversed(), "backward")
        },
        ConformanceClause(
            "read.range", "A range of positions is exclusive below and inclusive above, in both directions."
        ) { s in
            try await s.append(try s.events(10), to: s.aggregate())
            try requireEqual(
                try await s.read(after: 3, .position(Position(6))).events.map(\.position.rawValue), [4, 5, 6], "forward"
            )
            try requireEqual(
                try await s.read(after: 3, .position(Position(6)), .backward).events.map(\.position.rawValue),
                [6, 5, 4], "backward")
            try requireEqual(try await s.read(after: 6, .position(Position(6))).events.count, 0, "an empty range")
            try requireEqual(
                try await s.read(after: 8, .position(Position(99))).view.to, Position(10), "the end beyond the head")
            try requireEqual(try await s.read(after: 99).events.count, 0, "after the head")
            try requireEqual(try await s.read(max: 4).events.map(\.position.rawValue), [1, 2, 3, 4], "at most 4")
        },
        ConformanceClause("read.as-of-time", "A read as of a time ends where the tenant was then.") { s in
            try await s.append(try s.events(2), to: s.aggregate())
            let time = try await s.head().recordedAt
            try await Task.sleep(for: .milliseconds(2))
            try await s.append(try s.events(2), to: s.aggregate())
            let (view, events) = try await s.read(.time(time))
            try requireEqual(view.to, Position(2), "the end")
            try requireEqual(events.count, 2, "the events")
            try requireEqual(view.head.position, Position(4), "the head")
        },
        ConformanceClause(
            "read.filter", "Filters combine with AND, their values with OR, in both directions and with every bound."
        ) { s in
            let names = [s.aggregate("a"), s.aggregate("a"), s.aggregate("b"), s.aggregate("c")]
            let kinds = ["X", "Y", "Zäh"]
            for _ in 0..<60 {
                let name = names[Int.random(in: 0..<names.count, using: &s.random)]
                try await s.append([try s.event(kinds[Int.random(in: 0..<3, using: &s.random)])], to: name)
            }
            let all = try await s.read().events
            let filters = [
                EventFilter(aggregateTypes: [names[0].type]), EventFilter(eventTypes: [s.type("X"), s.type("Zäh")]),
                EventFilter(aggregateIDs: [names[1].id, names[3].id]),
                EventFilter(aggregateTypes: [names[0].type, names[2].type], eventTypes: [s.type("Y")]),
                EventFilter(
                    aggregateTypes: [names[0].type], eventTypes: [s.type("X")],
                    aggregateIDs: [names[0].id, names[2].id]),
                EventFilter(eventTypes: [s.type("Nothing")]), EventFilter(aggregateIDs: [UUID()]),
            ]
            for filter in filters {
                let matching = all.filter { filter.matches($0.aggregate, $0.event.type) }
                try requireEqual(try await s.read(filter: filter), matching, "forward with \(filter)")
                try requireEqual(
                    try await s.read(.head, .backward, filter).events, matching.reversed(), "backward with \(filter)")
                let part = matching.filter { (11...40).contains($0.position.rawValue) }
                try requireEqual(
                    try await s.read(after: 10, .position(Position(40)), .forward, filter).events, part,
                    "a range with \(filter)")
                try requireEqual(
                    try await s.read(.head, .forward, filter, max: 3).events, Array(matching.prefix(3)),
                    "three with \(filter)")
            }
        },
        ConformanceClause("read.rare", "A filter that matches rarely finds what there is, however far it lies.") { s in
            let rare = s.aggregate("rare")
            // One is near each end, and more than a page looks at is between them.
            for index in 0..<11 {
                try await s.append(try s.events(1_000), to: s.aggregate("common"))
                if index % 10 == 0 { try await s.append(try s.events(1), to: rare) }
            }
            let filter = EventFilter(aggregateTypes: [rare.type])
            try requireEqual(try await s.read(filter: filter).map(\.version.rawValue), [1, 2], "forward")
            try requireEqual(
                try await s.read(.head, .backward, filter).events.map(\.version.rawValue), [2, 1], "backward")
            try requireEqual(try await s.followed(.after(.start), filter).map(\.version.rawValue), [1, 2], "followed")
        },
        ConformanceClause("head.empty", "A tenant without events has head 0.") { s in
            try requireEqual(try await s.head(), .empty, "the head")
        },
        ConformanceClause("random.oracle", "Random calls are answered as the oracle answers them.") { s in
            try await RandomWorkload.run(&s)
        },
    ]
}

extension Scenario {
    /// The events that match, from the beginning.
    func read(filter: EventFilter) async throws(MartletError) -> [RecordedEvent] {
        try await read(after: 0, .head, .forward, filter).events
    }
}
