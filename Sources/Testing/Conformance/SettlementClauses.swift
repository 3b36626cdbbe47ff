import FoundationEssentials
import MartletModel
import NIOCore

// What workers say of events that they have handled.

extension ConformanceSuite {
    static let settlementClauses: [ConformanceClause] = [
        ConformanceClause("consumer.ack", "Acknowledged one by one, events move the checkpoint, never over a gap.") {
            s in
            try await s.define(s.eager())
            try await s.fill((0..<6).map { _ in s.aggregate() })
            let worker = s.worker()
            let events = try await worker.take(6)
            let steps: [(acknowledged: [Int], checkpoint: UInt64)] = [([2, 4, 0], 1), ([1], 3), ([5, 3], 6)]
            for (acknowledged, checkpoint) in steps {
                worker.acknowledge(acknowledged.map { events[$0] })
                try await worker.committed(to: checkpoint)
                let description = try await s.description()
                let place = Checkpoint(
                    position: Position(checkpoint), eventID: events[Int(checkpoint) - 1].event.event.id)
                try requireEqual(description.checkpoint, place, "the checkpoint")
                try requireEqual(await worker.commits[0]?.last, place, "what the worker was told")
                let oldest = checkpoint == 6 ? nil : Position(checkpoint + 1)
                try requireEqual(description.oldest?.position, oldest, "the oldest event that is not settled")
            }
        },
        ConformanceClause(
            "consumer.ack.gap", "Events behind one that is not acknowledged come again with it: none is passed over."
        ) { s in
            try await s.define(s.eager())
            try await s.fill((0..<5).map { _ in s.aggregate() })
            let worker = s.worker("a")
            let events = try await worker.take(5)
            worker.acknowledge([events[4], events[2], events[0]])
            try await worker.committed(to: 1)
            try await s.checkpoint(is: 1)
            await worker.leave()
            let next = s.worker("b")
            try requireEqual(try await next.take(4).positions, [2, 3, 4, 5], "what comes again")
            try requireEqual(try await s.description().checkpoint.position, Position(1), "the checkpoint")
        },
        ConformanceClause("consumer.ack.slots", "Each slot has a checkpoint of its own; the lowest is the consumer's.")
        {
            s in
            let aggregates = s.aggregates(slots: 2)
            try await s.define(s.eager(slots: 2))
            try await s.fill(aggregates + aggregates + aggregates)
            let worker = s.worker()
            let events = try await worker.take(6)
            // All of the slot whose event came last, and the first one of the other: something of that is open, and came
            // earlier. Slots take turns as they like.
            let whole = events[5].delivery.slot
            let part = 1 - whole
            guard let first = events.first(where: { $0.delivery.slot == part }) else {
                throw ConformanceFailure("all events came of one slot")
            }
            worker.acknowledge(events.filter { $0.delivery.slot == whole } + [first])
            let settled = first.event.position
            let last = events[5].event.position
            try await worker.until { $0.commits[whole]?.last?.position ?? .start >= last }
            try await worker.until { $0.commits[part]?.last?.position ?? .start >= settled }
            let description = try await s.description()
            try requireEqual(description.checkpoint.position, settled, "the checkpoint")
            let oldest = Position(settled.rawValue + 2)
            try requireEqual(description.settledTo, Position(oldest.rawValue - 1), "what is settled")
            try requireEqual(description.oldest?.position, oldest, "the oldest event")
            try requireEqual(description.slots.map(\.number), [0, 1], "the slots")
            try requireEqual(description.slots[part].checkpoint.position, settled, "the checkpoint of that slot")
        },
        ConformanceClause(
            "consumer.ack.up-to", "A cumulative acknowledgement settles what is open up to it, and nothing that failed."
        ) { s in
            let (one, other) = (s.aggregate(), s.aggregate())
            try await s.define(s.eager())
            try await s.fill([one, one, other, one, one, one])
            let worker = s.worker()
            let events = try await worker.take(6)
            worker.acknowledge(upTo: events[1])
            try await worker.committed(to: 2)
            worker.reject(events[2], .park)
            worker.acknowledge(upTo: events[4])
            try await worker.committed(to: 5)
            try requireEqual(try await s.blockedKeys().map(\.place.key), [other.key], "the blocked keys")
            // Once more changes nothing.
            worker.acknowledge(upTo: events[1])
            worker.acknowledge([events[0], events[4]])
            worker.reject(events[3], .stop)
            worker.acknowledge(upTo: events[5])
            try await worker.committed(to: 6)
            try requireEqual(await worker.stopped, [:], "the slots that have stopped")
        },
        ConformanceClause("consumer.ack.late", "What is said of a slot that the worker has lost has no effect.") { s in
            try await s.define(s.eager())
            try await s.fill([s.aggregate(), s.aggregate(), s.aggregate()])
            let worker = s.worker()
            let events = try await worker.take(3)
            try await s.reset(to: .after(.start))
            try await worker.until { $0.slots.isEmpty }
            worker.acknowledge(upTo: events[2])
            let again = try await worker.take(3)
            try requireEqual(again.positions, [1, 2, 3], "what comes again")
            worker.acknowledge([events[1]])
            worker.acknowledge([again[0]])
            try await worker.committed(to: 1)
            try requireEqual(try await s.description().oldest?.position, Position(2), "the oldest event")
        },
        ConformanceClause(
            "consumer.never-delivered", "A reply to a delivery that was never made ends the call; its slots go on."
        ) { s in
            try await s.define(s.eager())
            try await s.fill([s.aggregate()])
            let replies: [WorkerReply] = [
                .acknowledge(2, upTo: false), .acknowledge(9, upTo: true), .reject(2, .park, reason: "as told"),
            ]
            for reply in replies {
                let worker = s.worker()
                _ = try await worker.take(1)
                worker.say(reply)
                try requireEqual(try await worker.end().reason, .neverDelivered, "how \(reply) ends the call")
            }
            let worker = s.worker()
            worker.acknowledge(try await worker.take(1))
            try await worker.committed(to: 1)
            try requireEqual(try await s.blockedKeys(), [], "the blocked keys")
        },
        ConformanceClause(
            "consumer.ack.timeout", "An event that is not settled in time counts as failed, and comes again."
        ) { s in
            try await s.define(s.eager { $0.acknowledgementTimeout = .milliseconds(100) })
            let (slow, other) = (s.aggregate(), s.aggregate())
            try await s.fill([slow, other])
            let worker = s.worker()
            var first = try await worker.take(1)[0]
            try requireEqual(first.event.position, Position(1), "what comes first")
            repeat {
                let event = try await worker.take(1)[0]
                // On a slow machine this one can come again, too.
                if event.event.aggregate == other { worker.acknowledge([event]) } else { first = event }
            } while first.delivery.attempt == 1
            try require(first.delivery.mayBeRepeated, "what comes again is marked")
        },
        ConformanceClause(
            "consumer.random", "However workers come, leave and fail, each key is handled whole and in order."
        ) { s in
            let aggregates = (0..<6).map { _ in s.aggregate() }
            try await s.define(
                s.eager(slots: HandledEvents.slotCount) {
                    $0.inFlightMax = 8
                    $0.triesMax = 1_000
                })
            let work = HandledEvents()
            let scenario = s
            let seeds = (0..<3).map { _ in s.random.next() }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (number, seed) in seeds.enumerated() {
                    group.addTask {
                        var random = SeededGenerator(seed: seed)
                        while !Task.isCancelled {
                            let worker = scenario.worker("w\(number)")
                            do {
                                let count = Int.random(in: 5...40, using: &random)
                                try await work.handle(count, worker, SeededGenerator(seed: random.next()))
                            } catch is CancellationError {}
                            await worker.leave()
                        }
                    }
                }
                for _ in 0..<12 { try await scenario.fill(aggregates + aggregates.shuffled()) }
                let count = 12 * 2 * 6 as UInt64
                var isSettled = false
                while !isSettled {
                    // As long as something is handled, it goes on.
                    let handled = await work.count
                    try await scenario.until("something more is handled, or everything is settled") {
                        if let fault = await work.faults.first { throw ConformanceFailure(fault) }
                        let description = try await scenario.description()
                        isSettled = description.settledTo == Position(count) && description.blockedKeyCount == 0
                        let now = await work.count
                        return isSettled || now > handled
                    }
                }
                group.cancelAll()
                // Who is cancelled in a call says so.
                while let result = await group.nextResult() {
                    if case .failure(let error) = result, !(error is MartletError) { throw error }
                }
            }
            let handled = await work.versions
            try requireEqual(handled, Dictionary(uniqueKeysWithValues: aggregates.map { ($0, 24) }), "what was handled")
        },
    ]
}

/// What workers have handled, in a database of their own.
private actor HandledEvents {
    static let slotCount = 4
    /// Of each slot, the highest epoch that was heard of.
    private var epochs: [Int: UInt64] = [:]
    /// Of each aggregate, the version of its last event that was handled.
    private(set) var versions: [AggregateName: UInt64] = [:]
    private(set) var faults: [String] = []
    /// How often something was handled.
    private(set) var count = 0

    /// Before a worker handles anything of slots, it says under which epochs it has them.
    private func claim(_ slots: [ConsumeMessage.Slot]) {
        for slot in slots { epochs[slot.number] = max(epochs[slot.number] ?? 0, slot.epoch) }
    }

    /// - Returns: false where the worker is fenced off.
    private func handle(_ delivered: WorkerEvent, epoch: UInt64) -> Bool {
        guard epoch >= epochs[delivered.delivery.slot] ?? 0 else { return false }
        let (aggregate, version) = (delivered.event.aggregate, delivered.event.version.rawValue)
        let last = versions[aggregate] ?? 0
        if version > last + 1 { faults.append("version \(version) of \(aggregate) came after \(last)") }
        if version <= last, !delivered.delivery.mayBeRepeated {
            faults.append("version \(version) of \(aggregate) came again, unmarked")
        }
        versions[aggregate] = max(last, version)
        count += 1
        return true
    }

    /// Has a worker handle so many events, some of which fail.
    func handle(_ count: Int, _ worker: ClauseWorker, _ numbers: SeededGenerator) async throws {
        var random = numbers
        /// Keys that wait for an event that the worker has rejected.
        var waiting: [AggregateName: Version] = [:]
        for _ in 0..<count {
            while await !worker.hasEvents {
                switch try await worker.next() {
                case .assigned(let slots): claim(slots)
                case .revoked(let lost):
                    // Where the slot comes back, another worker may have handled what is waited for.
                    waiting = waiting.filter { !lost.contains($0.key.key.slot(of: Self.slotCount)) }
                default: break
                }
            }
            guard let event = try await worker.take(1).first, let slot = await worker.slots[event.delivery.slot] else {
                continue
            }
            let aggregate = event.event.aggregate
            if let version = waiting[aggregate], version < event.event.version { continue }
            waiting[aggregate] = nil
            if Int.random(in: 0..<8, using: &random) == 0 {
                worker.reject(event, .retry(afterMillis: Bool.random(using: &random) ? 0 : nil))
                waiting[aggregate] = event.event.version
            } else if handle(event, epoch: slot.epoch) {
                worker.acknowledge([event])
            }
        }
    }
}
