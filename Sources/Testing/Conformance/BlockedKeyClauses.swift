import FoundationEssentials
import MartletModel

// What becomes of events that fail, and of their keys.

extension ConformanceSuite {
    static let blockedKeyClauses: [ConformanceClause] = [
        ConformanceClause(
            "consumer.retry", "A rejected event comes again before what follows it of its key; other keys go on."
        ) { s in
            let (one, other) = (s.aggregate(), s.aggregate())
            try await s.define(s.eager())
            try await s.fill([one, other, one, other])
            let worker = s.worker()
            let events = try await worker.take(4)
            worker.reject(events[0], .retry(afterMillis: 86_400_000), reason: "busy")
            // It was taken back with the first one of its key.
            worker.acknowledge([events[2]])
            worker.acknowledge([events[1], events[3]])
            try await s.fill([one, other])
            let live = try await worker.take(1)
            try requireEqual(live.positions, [6], "what comes while the key waits")
            worker.acknowledge(live)
            try await worker.committed(to: 6)
            let keys = try await s.blockedKeys()
            guard let key = keys.first, keys.count == 1, case .retry(let time) = key.blocked.until else {
                throw ConformanceFailure("the blocked keys are \(keys)")
            }
            try require(time.microseconds > Timestamp.now().microseconds + 43_200_000_000, "it waits until \(time)")
            try requireEqual(try await s.unblock(key.place), 1, "how many are tried again")
            let again = try await worker.take(3)
            try requireEqual(again.positions, [1, 3, 5], "what comes then")
            try requireEqual(again.attempts, [2, 1, 1], "how often it was tried")
            worker.acknowledge(again)
            try await s.until("no key is blocked") { try await s.blockedKeys().isEmpty }
            try requireEqual(try await s.reached(6), Position(6), "how far it has come")
        },
        ConformanceClause("consumer.retry.time", "A rejected event comes again by itself, when its time has come.") {
            s in
            try await s.define(s.eager { $0.triesMax = 100 })
            let aggregate = s.aggregate()
            try await s.fill([aggregate, aggregate])
            let worker = s.worker()
            var first = try await worker.take(2)[0]
            for (attempt, millis) in [nil, 0, 30, nil].enumerated() as EnumeratedSequence<[UInt32?]> {
                let before = ContinuousClock.now
                worker.reject(first, .retry(afterMillis: millis))
                first = try await worker.take(1)[0]
                while first.event.position != Position(1) { first = try await worker.take(1)[0] }
                try requireEqual(first.delivery.attempt, UInt32(attempt) + 2, "how often it was tried")
                try require(first.delivery.mayBeRepeated, "what comes again is marked")
                let waited = ContinuousClock.now - before
                try require(waited >= .milliseconds(millis ?? 1), "it came after \(waited)")
            }
        },
        ConformanceClause(
            "consumer.park", "After so many tries a key is parked, with the reason of the last one and their number."
        ) { s in
            let aggregate = s.aggregate()
            try await s.define(s.eager(slots: 7) { $0.triesMax = 3 })
            try await s.fill([aggregate])
            let worker = s.worker()
            let start = Timestamp.now()
            for attempt in 1...3 as ClosedRange<UInt32> {
                let event = try await worker.take(1)[0]
                try requireEqual(event.delivery.attempt, attempt, "how often it was tried")
                worker.reject(event, .retry(afterMillis: nil), reason: "try \(attempt)")
            }
            try await s.until("it is parked") { try await s.blockedKeys().first?.blocked.until == .asked }
            let keys = try await s.blockedKeys()
            let key = aggregate.key
            try requireEqual(keys.map(\.place), [KeyPlace(slot: key.slot(of: 7), key: key)], "the blocked keys")
            let blocked = keys[0].blocked
            let id = try await s.read().events[0].event.id
            try requireEqual(blocked.first, Checkpoint(position: Position(1), eventID: id), "the first event")
            try requireEqual(blocked.reason, "try 3", "the reason")
            try requireEqual(blocked.tries, 3, "the tries")
            try require(!blocked.isFirstHandled, "the first event is not handled")
            let times = start.microseconds...Timestamp.now().microseconds
            try require(times.contains(blocked.since.microseconds), "the first try failed at \(blocked.since)")
        },
        ConformanceClause("consumer.park.reason", "A reason is kept as it is, up to its bound, and cut at a character.")
        {
            s in
            try await s.define(s.eager())
            let long = String(repeating: "ä", count: 3_000)
            let reasons = ["", "no such account: \u{1F4A5}", long]
            for (number, reason) in reasons.enumerated() {
                try await s.fill([s.aggregate()])
                let worker = s.worker("w\(number)")
                worker.reject(try await worker.take(1)[0], .park, reason: reason)
                try await worker.until { $0.commits[0]?.last?.position == Position(UInt64(number) + 1) }
                await worker.leave()
            }
            let found = try await s.blockedKeys().sorted { $0.blocked.first.position < $1.blocked.first.position }
            try requireEqual(
                found.map(\.blocked.reason), [reasons[0], reasons[1], String(repeating: "ä", count: 512)],
                "the reasons")
        },
        ConformanceClause(
            "consumer.park.order", "What follows a parked event of its key comes for no worker; other keys go on."
        ) { s in
            let (one, other) = (s.aggregate(), s.aggregate())
            try await s.define(s.eager())
            try await s.fill([one, other, one, other])
            let first = s.worker("a")
            let events = try await first.take(4)
            first.reject(events[0], .park)
            first.acknowledge([events[1], events[3]])
            for position: UInt64 in [6, 8] {
                try await s.fill([one, other])
                let live = try await first.take(1)
                try requireEqual(live.positions, [position], "what comes")
                first.acknowledge(live)
                try await first.committed(to: position, quietly: true)
            }
            await first.leave()
            try await s.fill([one, other])
            let second = s.worker("b")
            try requireEqual(try await second.take(1).positions, [10], "what comes for the next worker")
            let keys = try await s.blockedKeys()
            try requireEqual(keys.map(\.blocked.until), [.asked], "how keys are blocked")
            try requireEqual(keys.map(\.blocked.first.position), [Position(1)], "where keys are blocked")
        },
        ConformanceClause("consumer.park.list", "Blocked keys are listed by slot and key, from any of them on.") { s in
            try await s.define(s.eager(slots: 3))
            let aggregates = (0..<9).map { _ in s.aggregate() }
            try await s.fill(aggregates)
            let worker = s.worker()
            for event in try await worker.take(9) { worker.reject(event, .park) }
            try await s.until("all are parked") { try await s.blockedKeys().count == 9 }
            let keys = try await s.blockedKeys()
            let expected = aggregates.map { KeyPlace(slot: $0.key.slot(of: 3), key: $0.key) }.sorted {
                $0.slot == $1.slot ? $0.key.bytes.lexicographicallyPrecedes($1.key.bytes) : $0.slot < $1.slot
            }
            try requireEqual(keys.map(\.place), expected, "the keys")
            for (index, key) in keys.enumerated() {
                let rest = try await s.blockedKeys(after: key.place)
                try requireEqual(rest, Array(keys[(index + 1)...]), "the keys after the one at \(index)")
            }
            let description = try await s.description()
            try requireEqual(description.blockedKeyCount, 9, "how many are blocked")
            // One count for all: a reset has none blocked.
            try await s.reset(to: .after(.start))
            try requireEqual(try await s.blockedKeys(), [], "the keys after a reset")
            try requireEqual(try await s.description().blockedKeyCount, 0, "how many are blocked after a reset")
        },
        ConformanceClause(
            "consumer.failure", "The last failure is that of the blocked key which failed last, until it is free."
        ) { s in
            try await s.define(s.eager(slots: 3))
            let aggregates = (0..<4).map { _ in s.aggregate() }
            try await s.fill(aggregates)
            let worker = s.worker()
            let events = try await worker.take(4).sorted { $0.isListedBefore($1) }
            try require(try await s.description().lastFailure == nil, "something has failed")
            // Neither the first nor the last one of the list is always the one.
            for index in [1, 0, 3, 2] {
                worker.reject(events[index], .park, reason: "failure \(index)")
                let key = events[index].delivery.key
                try await s.until("it is parked") { try await s.blockedKeys().contains { $0.place.key == key } }
                let listed = try await s.blockedKeys().first { $0.place.key == key }
                try requireEqual(try await s.description().lastFailure, listed, "the last failure")
                try requireEqual(listed?.blocked.reason, "failure \(index)", "its reason")
            }
            for index in [2, 3, 0, 1] {
                let place = KeyPlace(slot: events[index].delivery.slot, key: events[index].delivery.key)
                let position = events[index].event.position.rawValue
                try requireEqual(try await s.unblock(place, skipping: position), 1, "how many are skipped")
                try await s.until("it is free") { try await !s.blockedKeys().contains { $0.place == place } }
                let reason = [2: "failure 3", 3: "failure 0", 0: "failure 1"][index]
                try requireEqual(try await s.description().lastFailure?.blocked.reason, reason, "the one before it")
            }
        },
        ConformanceClause(
            "consumer.park.settled", "A parked key holds back neither the checkpoint nor who waits for it."
        ) {
            s in
            try await s.define(s.eager())
            let aggregate = s.aggregate()
            try await s.fill([aggregate, s.aggregate(), aggregate])
            let worker = s.worker()
            let events = try await worker.take(3)
            worker.reject(events[0], .park)
            worker.acknowledge([events[1]])
            try requireEqual(try await s.reached(3), Position(3), "how far it has come")
            try await s.checkpoint(is: 3)
            let description = try await s.description()
            try require(description.oldest == nil, "it is \(description)")
            try requireEqual(description.blockedKeyCount, 1, "how many are blocked")
        },
        ConformanceClause(
            "consumer.unblock", "A parked key that is tried again comes whole and in order; then it is free."
        ) { s in
            let (one, other) = (s.aggregate(), s.aggregate())
            try await s.define(s.eager())
            try await s.fill([one, other, one])
            let worker = s.worker()
            let events = try await worker.take(3)
            worker.reject(events[0], .park)
            worker.acknowledge([events[1]])
            try await worker.committed(to: 3)
            try await s.fill([one])
            let place = KeyPlace(slot: 0, key: one.key)
            try requireEqual(try await s.unblock(KeyPlace(slot: 0, key: other.key)), 0, "how many of a free key")
            try requireEqual(try await s.unblock(place), 1, "how many are tried again")
            let again = try await worker.take(3)
            try requireEqual(again.positions, [1, 3, 4], "what comes")
            try requireEqual(again.attempts, [2, 1, 1], "how often it was tried")
            // Another failure parks it where it is now.
            worker.acknowledge([again[0]])
            worker.reject(again[1], .park, reason: "later")
            try await s.until("it is parked further on") {
                try await s.blockedKeys().map(\.blocked.first.position) == [Position(3)]
            }
            let blocked = try await s.blockedKeys()[0].blocked
            try require(blocked.reason == "later" && blocked.tries == 1, "it is \(blocked)")
            try requireEqual(try await s.unblock(place), 1, "how many are tried again")
            let rest = try await worker.take(2)
            try requireEqual(rest.positions, [3, 4], "what comes then")
            worker.acknowledge(rest)
            try await s.until("the key is free") { try await s.blockedKeys().isEmpty }
            try await s.fill([one])
            let live = try await worker.take(1)
            try requireEqual(live.positions, [5], "what comes of the key afterwards")
            worker.acknowledge(live)
            try requireEqual(try await s.reached(5), Position(5), "how far it has come")
        },
        ConformanceClause("consumer.skip", "Skipping passes one event, the one that is named; what follows comes.") {
            s in
            let one = s.aggregate()
            try await s.define(s.eager())
            try await s.fill([one, one, one])
            let worker = s.worker()
            worker.reject(try await worker.take(3)[0], .park)
            try await worker.committed(to: 3)
            let place = KeyPlace(slot: 0, key: one.key)
            for position: UInt64 in [2, 3, 4] {
                try requireEqual(try await s.unblock(place, skipping: position), 0, "how many skip \(position)")
            }
            try requireEqual(try await s.unblock(place, skipping: 1), 1, "how many skip the first event")
            // A retry of the call skips nothing more.
            try requireEqual(try await s.unblock(place, skipping: 1), 0, "how many skip it again")
            let rest = try await worker.take(2)
            try requireEqual(rest.positions, [2, 3], "what comes")
            worker.acknowledge(rest)
            try await s.until("the key is free") { try await s.blockedKeys().isEmpty }
            try await s.fill([one])
            try requireEqual(try await worker.take(1).positions, [4], "what comes of the key afterwards")
        },
        ConformanceClause(
            "consumer.stop", "A slot stops where its worker says so, others go on; so does it after a reset."
        ) {
            s in
            let aggregates = s.aggregates(slots: 2)
            try await s.define(s.eager(slots: 2))
            try await s.fill(aggregates)
            let worker = s.worker()
            let events = try await worker.take(2)
            for event in events where event.delivery.slot == 0 { worker.reject(event, .stop, reason: "disk full") }
            try await worker.until { !$0.stopped.isEmpty }
            try requireEqual(await worker.stopped, [0: "disk full"], "what has stopped")
            try await s.fill(aggregates)
            try requireEqual(try await worker.take(1).positions, [4], "what comes")
            let description = try await s.description()
            try requireEqual(description.oldest?.position, Position(1), "the oldest event")
            try requireEqual(description.blockedKeyCount, 0, "how many keys are blocked")
            let stop = ConsumerDescription.StoppedSlot(number: 0, reason: "disk full")
            try requireEqual(description.stoppedSlots, [stop], "which slots are said to have stopped")
            try await s.reset(to: .after(.start))
            try requireEqual(try await s.description().stoppedSlots, [], "which have stopped after a reset")
            try requireEqual(try await worker.take(4).positions.sorted(), [1, 2, 3, 4], "what comes after a reset")
        },
        ConformanceClause("consumer.blocked-max", "One failed key more than may be blocked stops the slot.") { s in
            try await s.define(s.eager { $0.blockedKeysMax = 2 })
            let aggregates = (0..<3).map { _ in s.aggregate() }
            try await s.fill(aggregates)
            let worker = s.worker()
            let events = try await worker.take(3)
            for event in events { worker.reject(event, .park) }
            try await worker.until { !$0.stopped.isEmpty }
            try await s.checkpoint(is: 2)
            let stops = try await s.description().stoppedSlots
            try requireEqual(stops.map(\.reason), await worker.stopped.values.map { $0 }, "why it has stopped")
            let keys = try await s.blockedKeys()
            try requireEqual(Set(keys.map(\.place.key)), Set(aggregates.prefix(2).map(\.key)), "the blocked keys")
            // An operator decides, and it goes on.
            for key in keys {
                try requireEqual(
                    try await s.unblock(key.place, skipping: key.blocked.first.position.rawValue), 1,
                    "how many are skipped")
            }
            try await worker.until { $0.hasEvents }
            try requireEqual(try await worker.take(1).positions, [3], "what comes then")
        },
    ]
}

extension WorkerEvent {
    /// Whether its key comes before the other one's in a list of blocked keys.
    fileprivate func isListedBefore(_ other: WorkerEvent) -> Bool {
        let (own, others) = (delivery, other.delivery)
        guard own.slot == others.slot else { return own.slot < others.slot }
        return own.key.bytes.lexicographicallyPrecedes(others.key.bytes)
    }
}
