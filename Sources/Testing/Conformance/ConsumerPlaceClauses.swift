import FoundationEssentials
import MartletModel

// Where consumers are: where they begin, how far they have come, and that they begin again.

extension ConformanceSuite {
    static let consumerPlaceClauses: [ConformanceClause] = [
        ConformanceClause(
            "consumer.start", "A new consumer begins with the first event, after a position, at a time, or at the head."
        ) { s in
            var times: [Timestamp] = []
            for _ in 0..<4 { times.append(try await s.append(try s.events(1), to: s.aggregate()).recordedAt) }
            let all = try await s.read().events
            let later = all.filter { $0.recordedAt >= times[2] }.map(\.position.rawValue)
            let starts: [(SubscriptionStart, [UInt64])] = [
                (.after(.start), [1, 2, 3, 4]), (.after(Position(3)), [4]), (.after(Position(4)), []),
                (.time(times[2]), later), (.head, []),
            ]
            for (number, (start, _)) in starts.enumerated() {
                try await s.define(s.eager(), start: start, named: "c\(number)")
            }
            try await s.fill([s.aggregate()])
            for (number, (start, expected)) in starts.enumerated() {
                let worker = s.worker(of: "c\(number)")
                let events = try await worker.take(expected.count + 1)
                try requireEqual(events.positions, expected + [5], "what comes from \(start)")
                let after = Position((expected + [5])[0] - 1)
                let checkpoint = await worker.slots[0]?.checkpoint
                try requireEqual(checkpoint?.position, after, "where it begins from \(start)")
                let id = after == .start ? nil : all[Int(after.rawValue) - 1].event.id
                try requireEqual(checkpoint?.eventID, id, "the event there")
            }
        },
        ConformanceClause("consumer.start.beyond", "A beginning that is still to come is refused, and nothing is made.")
        {
            s in
            try await s.fill([s.aggregate()])
            try await s.refused(.positionBeyondHead) { () async throws(MartletError) in
                try await s.define(s.eager(), start: .after(Position(2)))
            }
            let future = Timestamp(microseconds: Timestamp.now().microseconds + 3_600_000_000)
            try await s.refused(.timeInFuture) { () async throws(MartletError) in
                try await s.define(s.eager(), start: .time(future))
            }
            try requireEqual(try await s.subject.consumers(of: s.tenant), [], "the consumers")
        },
        ConformanceClause("consumer.filter", "A consumer gets the events of its filter, and passes over the others.") {
            s in
            let (wanted, other) = (s.aggregate("wanted"), s.aggregate("other"))
            var definition = s.eager()
            definition.filter = EventFilter(aggregateTypes: [wanted.type], eventTypes: [s.type("Happened")])
            try await s.define(definition)
            for _ in 0..<3 {
                try await s.fill([other, wanted])
                try await s.append(try s.events(1, "Other"), to: wanted)
            }
            let worker = s.worker()
            let old = try await worker.take(3)
            try requireEqual(old.positions, [2, 5, 8], "what comes")
            try await s.fill([other, wanted, other])
            let live = try await worker.take(1)
            try requireEqual(live.positions, [11], "what comes live")
            worker.acknowledge(old + live)
            try requireEqual(try await s.reached(12), Position(12), "how far it has come")
            let description = try await s.description()
            try require(description.oldest == nil && description.positionsBehind == 0, "it is \(description)")
        },
        ConformanceClause(
            "consumer.get", "What is answered of a consumer: where it is, what it waits for, who works on it."
        ) { s in
            try await s.define(s.eager())
            let empty = try await s.description()
            try requireEqual(empty.checkpoint, .start, "the checkpoint of a new one")
            try requireEqual(empty.head, .empty, "the head of an empty tenant")
            try require(empty.slots.isEmpty && empty.workers.isEmpty && empty.oldest == nil, "it is \(empty)")
            let (one, other) = (s.aggregate(), s.aggregate())
            try await s.fill([one, other, one, other, one])
            let all = try await s.read().events
            let worker = s.worker()
            let events = try await worker.take(5)
            worker.acknowledge([events[0], events[2]])
            try await worker.committed(to: 1)
            let held = try await s.description()
            let place = Checkpoint(position: Position(1), eventID: all[0].event.id)
            try requireEqual(held.checkpoint, place, "the checkpoint")
            try requireEqual(held.settledTo, Position(1), "what is settled")
            let oldest = ConsumerDescription.OldestEvent(position: Position(2), recordedAt: all[1].recordedAt)
            try requireEqual(held.oldest, oldest, "the oldest event")
            try requireEqual(held.head, try await s.head(), "the head")
            try requireEqual(held.positionsBehind, 4, "how many positions it is behind")
            try requireEqual(held.workers.map(\.text), ["a"], "the workers")
            let epoch = await worker.slots[0]?.epoch ?? 0
            let slot = ConsumerDescription.Slot(
                number: 0, epoch: epoch, checkpoint: place, worker: held.workers.first)
            try requireEqual(held.slots, [slot], "the slots")
            // From here on the key counts as settled, and is counted as blocked.
            worker.reject(events[1], .park)
            try await worker.committed(to: 4)
            let parked = try await s.description()
            try requireEqual(parked.blockedKeyCount, 1, "how many keys are blocked")
            try requireEqual(parked.settledTo, Position(4), "what is settled")
            try requireEqual(parked.oldest?.position, Position(5), "the oldest event")
            worker.acknowledge([events[4]])
            try await worker.committed(to: 5)
            await worker.leave()
            try await s.until("nobody works on it") { try await s.description().workers.isEmpty }
            let left = try await s.description()
            try requireEqual(left.slots.map(\.worker), [nil], "who has the slots")
            try require(left.oldest == nil && left.positionsBehind == 0, "it is \(left)")
        },
        ConformanceClause("consumer.reset", "A consumer begins again after a position, at a time, or at the head.") {
            s in
            try await s.define(s.eager())
            var times: [Timestamp] = []
            for _ in 0..<4 { times.append(try await s.append(try s.events(1), to: s.aggregate()).recordedAt) }
            let worker = s.worker()
            worker.acknowledge(try await worker.take(4))
            try await worker.committed(to: 4)
            var epoch = await worker.slots[0]?.epoch ?? 0
            let later = try await s.read().events.filter { $0.recordedAt >= times[1] }.map(\.position.rawValue)
            for (start, again) in [
                (SubscriptionStart.after(.start), [1, 2, 3, 4] as [UInt64]), (.after(Position(2)), [3, 4]),
                (.time(times[1]), later),
            ] {
                let receipt = try await s.reset(to: start)
                let expected = ResetConsumerReceipt(after: Position(again[0] - 1), before: Position(4))
                try requireEqual(receipt, expected, "the receipt")
                try requireEqual(try await worker.assigned().map(\.checkpoint.position), [expected.after], "the slot")
                let events = try await worker.take(again.count)
                try requireEqual(events.positions, again, "what comes again from \(start)")
                try require(events.allSatisfy(\.delivery.mayBeRepeated), "what comes again is marked")
                let now = await worker.slots[0]?.epoch ?? 0
                try require(now > epoch, "the epoch has grown from \(epoch) to \(now)")
                epoch = now
                worker.acknowledge(events)
                try await s.checkpoint(is: 4)
            }
            try await s.reset(to: .after(.start))
            _ = try await worker.assigned()
            try requireEqual(try await s.reset(to: .head).after, Position(4), "where it begins at the head")
            try requireEqual(try await worker.assigned().map(\.checkpoint.position), [Position(4)], "the slot")
            try await s.fill([s.aggregate()])
            try await worker.until { worker in worker.hasEvents }
            try requireEqual(try await worker.take(1).positions.last, 5, "what comes from the head")
        },
        ConformanceClause("consumer.reset.preview", "A preview answers what a reset would, and changes nothing.") { s in
            try await s.define(s.eager())
            try await s.fill([s.aggregate(), s.aggregate(), s.aggregate()])
            let worker = s.worker()
            let events = try await worker.take(3)
            worker.acknowledge(Array(events.prefix(2)))
            try await worker.committed(to: 2)
            let before = try await s.description()
            let preview = try await s.reset(to: .after(Position(1)), isPreview: true)
            try requireEqual(preview, ResetConsumerReceipt(after: Position(1), before: Position(2)), "the preview")
            try requireEqual(try await s.description(), before, "the consumer")
            worker.acknowledge([events[2]])
            try await worker.committed(to: 3)
            let receipt = try await s.reset(to: .after(Position(1)))
            try requireEqual(receipt, ResetConsumerReceipt(after: Position(1), before: Position(3)), "the receipt")
        },
        ConformanceClause("consumer.reset.beyond", "A reset to what is still to come is refused, and changes nothing.")
        {
            s in
            try await s.define(s.eager())
            try await s.fill([s.aggregate()])
            let before = try await s.description()
            for isPreview in [true, false] {
                try await s.refused(.positionBeyondHead) { () async throws(MartletError) in
                    try await s.reset(to: .after(Position(2)), isPreview: isPreview)
                }
                let future = Timestamp(microseconds: Timestamp.now().microseconds + 3_600_000_000)
                try await s.refused(.timeInFuture) { () async throws(MartletError) in
                    try await s.reset(to: .time(future), isPreview: isPreview)
                }
            }
            try requireEqual(try await s.description(), before, "the consumer")
        },
        ConformanceClause(
            "consumer.reset.late", "What was acknowledged before a reset does not move the consumer after it."
        ) { s in
            try await s.define(s.eager())
            try await s.append(try s.events(6), to: s.aggregate())
            let worker = s.worker()
            for _ in 0..<3 {
                let events = try await worker.take(6)
                worker.acknowledge([events[0]])
                try await worker.committed(to: 1)
                worker.acknowledge(upTo: events[4])
                try await s.reset(to: .after(Position(2)))
                try await worker.until { $0.slots[0]?.checkpoint.position == Position(2) }
                let again = try await worker.take(4)
                try requireEqual(again.positions, [3, 4, 5, 6], "what comes again")
                worker.acknowledge([again[0]])
                try await s.checkpoint(is: 3)
                try await s.reset(to: .after(.start))
                try await worker.until { $0.slots[0]?.checkpoint.position == .start }
                await worker.forgetCommits()
            }
        },
        ConformanceClause("consumer.await", "A wait for a consumer ends when it has come to the position.") { s in
            try await s.define(s.eager())
            try requireEqual(try await s.reached(0), .start, "how far a new one has come")
            let aggregate = s.aggregate()
            try await s.fill([aggregate])
            let scenario = s
            // Also beyond the head.
            async let reached = scenario.reached(3)
            let worker = s.worker()
            worker.acknowledge(try await worker.take(1))
            try await s.fill([aggregate, aggregate])
            worker.acknowledge(try await worker.take(2))
            try requireEqual(try await reached, Position(3), "how far it has come")
            try require(try await s.reached(2) >= Position(2), "a position that is passed")
        },
        ConformanceClause("consumer.await.deadline", "A wait for a consumer that does not come ends at its deadline.") {
            s in
            try await s.define(s.eager())
            try await s.fill([s.aggregate(), s.aggregate()])
            let worker = s.worker()
            worker.acknowledge([try await worker.take(2)[1]])
            let error = try await s.refused(.deadlineExceeded) { () async throws(MartletError) in
                try await s.reached(2, within: .milliseconds(200))
            }
            try requireEqual(error.code, .deadlineExceeded, "the code")
        },
        ConformanceClause("consumer.await.deleted", "A wait for a consumer ends when it is deleted.") { s in
            try await s.define(s.eager())
            try await s.fill([s.aggregate()])
            let scenario = s
            async let reason = { () async -> Reason? in
                do throws(MartletError) {
                    try await scenario.reached(1)
                    return nil
                } catch { return error.reason }
            }()
            try await s.subject.deleteConsumer(s.consumer())
            try requireEqual(await reason, .consumerNotFound, "how it ends")
        },
    ]
}
