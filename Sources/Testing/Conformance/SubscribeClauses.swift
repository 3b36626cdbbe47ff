import FoundationEssentials
import MartletModel

extension ConformanceSuite {
    static let subscribeClauses: [ConformanceClause] = [
        ConformanceClause("subscribe.beginning", "From the beginning, every event comes once, in position order.") {
            s in
            for _ in 0..<10 { try await s.append(try s.events(50), to: s.aggregate()) }
            let events = try await s.followed()
            try requireEqual(events, try await s.read().events, "the events")
        },
        ConformanceClause("subscribe.after", "After a position; the head itself brings nothing old.") { s in
            try await s.append(try s.events(10), to: s.aggregate())
            for position: UInt64 in [0, 4, 9, 10] {
                let events = try await s.followed(.after(Position(position)))
                try requireEqual(
                    events.map(\.position.rawValue), Array((1...10).filter { $0 > position }), "the positions")
            }
        },
        ConformanceClause("subscribe.beyond-head", "A position beyond the head is refused.") { s in
            try await s.append(try s.events(1), to: s.aggregate())
            do { _ = try await s.followed(.after(Position(2))) } catch let error as MartletError {
                return try requireEqual(error.reason, .positionBeyondHead, "the reason")
            }
            throw ConformanceFailure("it was accepted")
        },
        ConformanceClause("subscribe.time", "From a time: the first event recorded at or after it comes first.") { s in
            var times: [Timestamp] = []
            for _ in 0..<5 {
                times.append(try await s.append(try s.events(2), to: s.aggregate()).recordedAt)
                try await Task.sleep(for: .milliseconds(2))
            }
            let all = try await s.read().events
            for time in times {
                for offset: Int64 in [-1, 0, 1] {
                    let from = Timestamp(microseconds: time.microseconds + offset)
                    try requireEqual(
                        try await s.followed(.time(from)), all.filter { $0.recordedAt >= from },
                        "the events from \(from)")
                }
            }
            let future = Timestamp(microseconds: Timestamp.now().microseconds + 3_600_000_000)
            do { _ = try await s.followed(.time(future)) } catch let error as MartletError {
                return try requireEqual(error.reason, .timeInFuture, "the reason")
            }
            throw ConformanceFailure("a time still to come was accepted")
        },
        ConformanceClause(
            "subscribe.started",
            "The first message says after which position events come; the head comes with every message."
        ) { s in
            try await s.append(try s.events(7), to: s.aggregate())
            let messages = Box<[FollowedItem]>([])
            try await s.subject.subscribe(SubscribeRequest(tenant: s.tenant, start: .after(Position(3)))) { item in
                await messages.update { $0.append(item) }
                if case .signal(.caughtUp, _) = item { return false }
                return true
            }
            let all = await messages.value
            guard case .signal(.started(let after), let head)? = all.first else {
                throw ConformanceFailure("no started, but \(all)")
            }
            try requireEqual(after, Position(3), "the position")
            try requireEqual(head.position, Position(7), "the head")
            guard case .signal(.caughtUp(let position), _)? = all.last else { throw ConformanceFailure("no caught up") }
            try requireEqual(position, Position(7), "the position caught up with")
        },
        ConformanceClause("subscribe.head", "From the head, only what comes afterwards.") { s in
            try await s.append(try s.events(5), to: s.aggregate())
            let scenario = s
            let seen = Box<[UInt64]>([])
            try await s.subject.subscribe(SubscribeRequest(tenant: s.tenant, start: .head)) { item in
                switch item {
                case .signal(.caughtUp, _):
                    try await scenario.append(try scenario.events(3), to: scenario.aggregate())
                    return true
                case .events(let events, _):
                    await seen.update { $0 += events.map(\.position.rawValue) }
                    return await seen.value.count < 3
                default: return true
                }
            }
            try requireEqual(await seen.value, [6, 7, 8], "the positions")
        },
        ConformanceClause(
            "subscribe.empty", "A tenant without events is caught up with at once, and followed into being."
        ) { s in
            let scenario = s
            let seen = Box<Int>(0)
            try await s.subject.subscribe(SubscribeRequest(tenant: s.tenant)) { item in
                switch item {
                case .signal(.caughtUp, _):
                    try await scenario.append(try scenario.events(1), to: scenario.aggregate())
                    return true
                case .events(let events, let head):
                    await seen.update { $0 += events.count }
                    try requireEqual(head.position, Position(1), "the head")
                    return false
                default: return true
                }
            }
            try requireEqual(await seen.value, 1, "the events")
        },
        ConformanceClause(
            "subscribe.live", "From storage to live nothing is lost or repeated, whatever is appended meanwhile."
        ) { s in
            try await s.append(try s.events(300), to: s.aggregate())
            let scenario = s
            try await withThrowingTaskGroup(of: Void.self) { group in
                for writer in 0..<4 {
                    group.addTask {
                        for _ in 0..<50 {
                            try await scenario.append(try scenario.events(1 + writer % 2), to: scenario.aggregate())
                        }
                    }
                }
                for start: UInt64 in [0, 17, 250, 300] {
                    group.addTask {
                        let last = Box<UInt64>(start)
                        try await scenario.subject.subscribe(
                            SubscribeRequest(tenant: scenario.tenant, start: .after(Position(start)))
                        ) { item in
                            guard case .events(let events, let head) = item else { return true }
                            for event in events {
                                try requireEqual(event.position.rawValue, await last.value + 1, "the next position")
                                await last.update { $0 += 1 }
                            }
                            try require(head.position.rawValue >= (await last.value), "the head is not behind")
                            return await last.value < 600
                        }
                    }
                }
                try await group.waitForAll()
            }
        },
        ConformanceClause("subscribe.filter", "With a filter exactly the matching events come, old and new.") { s in
            let (wanted, other) = (s.aggregate("wanted"), s.aggregate("other"))
            for _ in 0..<20 {
                try await s.append(try s.events(1), to: wanted)
                try await s.append(try s.events(2), to: other)
            }
            let scenario = s
            let seen = Box<[UInt64]>([])
            let filter = EventFilter(aggregateTypes: [wanted.type])
            try await s.subject.subscribe(SubscribeRequest(tenant: s.tenant, filter: filter)) { item in
                switch item {
                case .signal(.caughtUp, _):
                    // One append in the loop: with two, Swift 6.3.1 crashes while it compiles this for the fuzzer.
                    for aggregate in Array(repeating: [other, wanted], count: 5).joined() {
                        try await scenario.append(try scenario.events(1), to: aggregate)
                    }
                    return true
                case .events(let events, _):
                    await seen.update { $0 += events.map(\.version.rawValue) }
                    return await seen.value.count < 25
                default: return true
                }
            }
            try requireEqual(await seen.value, Array(1...25), "the versions")
        },
        ConformanceClause("subscribe.checkpoint", "With a filter, checkpoints move on even when nothing matches.") {
            s in
            let scenario = s
            let filter = EventFilter(eventTypes: [s.type("Never")])
            let reached = Box<Position>(.start)
            let isAppended = Box<Bool>(false)
            try await s.subject.subscribe(SubscribeRequest(tenant: s.tenant, filter: filter, heartbeatMillis: 60_000)) {
                item in
                switch item {
                case .signal(.caughtUp, _):
                    if await isAppended.value { return true }
                    await isAppended.update { $0 = true }
                    try await scenario.append(try scenario.events(5), to: scenario.aggregate())
                    return true
                case .signal(.checkpoint(let position), _):
                    await reached.update { $0 = position }
                    return position < Position(5)
                case .events: throw ConformanceFailure("an event that does not match came")
                default: return true
                }
            }
            try requireEqual(await reached.value, Position(5), "the checkpoint")
        },
        ConformanceClause("subscribe.heartbeat", "An idle subscription gets a heartbeat.") { s in
            try await s.append(try s.events(2), to: s.aggregate())
            let beats = Box<[Position]>([])
            let isCaughtUp = Box<Bool>(false)
            try await s.subject.subscribe(SubscribeRequest(tenant: s.tenant, heartbeatMillis: 100)) { item in
                if case .signal(.caughtUp, _) = item { await isCaughtUp.update { $0 = true } }
                guard await isCaughtUp.value, case .signal(.heartbeat(let position, _), _) = item else { return true }
                await beats.update { $0.append(position) }
                return await beats.value.count < 2
            }
            try requireEqual(await beats.value, [Position(2), Position(2)], "the positions")
        },
        ConformanceClause("subscribe.tenants", "A subscription brings events of its tenant only.") { s in
            let scenario = s
            let other = TenantID(UUID())
            let seen = Box<[RecordedEvent]>([])
            try await s.subject.subscribe(SubscribeRequest(tenant: s.tenant)) { item in
                switch item {
                case .signal(.caughtUp, _):
                    try await scenario.append(
                        try scenario.events(3, "Foreign"), to: scenario.aggregate(), tenant: other)
                    try await scenario.append(try scenario.events(1, "Own"), to: scenario.aggregate())
                    return true
                case .events(let events, _):
                    await seen.update { $0 += events }
                    return false
                default: return true
                }
            }
            try requireEqual(await seen.value.map(\.event.type.text), ["Own"], "the types")
        },
    ]
}
