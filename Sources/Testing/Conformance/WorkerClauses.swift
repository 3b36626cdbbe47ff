import FoundationEssentials
import MartletModel

// Workers of consumers: which slots they have, and what is delivered to them.

extension ConformanceSuite {
    static let workerClauses: [ConformanceClause] = [
        ConformanceClause(
            "consumer.deliver", "A worker gets each event once, those of a key in order, from storage and then live."
        ) { s in
            let aggregates = (0..<6).map { _ in s.aggregate() }
            try await s.define(s.eager(slots: 4))
            for _ in 0..<5 { try await s.fill(aggregates) }
            let worker = s.worker()
            guard case .assigned(let slots) = try await worker.next() else {
                throw ConformanceFailure("the first message says which slots it has")
            }
            try requireEqual(slots.map(\.number), [0, 1, 2, 3], "the slots")
            try require(slots.allSatisfy { $0.epoch >= 1 && $0.checkpoint == .start }, "the slots are \(slots)")
            let old = try await worker.take(30)
            let scenario = s
            async let filling: Void = {
                for _ in 0..<5 { try await scenario.fill(aggregates) }
            }()
            let live = try await worker.take(30)
            try await filling
            try requireEqual((old + live).positions.sorted(), Array(1...60), "the positions")
            let all = try await s.read().events
            for event in old + live {
                try requireEqual(event.event, all[Int(event.event.position.rawValue) - 1], "an event")
                try requireEqual(event.delivery.slot, event.event.aggregate.key.slot(of: 4), "the slot of a key")
            }
            for aggregate in aggregates {
                let own = (old + live).filter { $0.event.aggregate == aggregate }
                try requireEqual(own.map(\.event.version.rawValue), Array(1...10), "the versions of a key")
            }
            try require((old + live).allSatisfy { $0.delivery.attempt == 1 }, "each is tried once")
            try require(live.allSatisfy { !$0.delivery.mayBeRepeated }, "nothing new is marked")
        },
        ConformanceClause("consumer.key", "Events are ordered by aggregate, by type, or by a tag if they have it.") {
            s in
            let (order, account) = (s.aggregate(), s.aggregate("account"))
            var metadata = EventMetadata()
            metadata.tags["région"] = "nord"
            for aggregate in [order, account] {
                try await s.append([try s.event(), try s.event(metadata: metadata)], to: aggregate)
            }
            let rules: [(KeyRule, [String])] = [
                (.aggregate, ["a:\(order)", "a:\(order)", "a:\(account)", "a:\(account)"]),
                (.aggregateType, ["t:order", "t:order", "t:account", "t:account"]),
                (.tag("région"), ["a:\(order)", "g:nord", "a:\(account)", "g:nord"]),
                (.tag("other"), ["a:\(order)", "a:\(order)", "a:\(account)", "a:\(account)"]),
            ]
            for (number, (rule, keys)) in rules.enumerated() {
                var definition = s.eager(slots: 97)
                definition.keyRule = rule
                try await s.define(definition, named: "c\(number)")
                let worker = s.worker(of: "c\(number)")
                let events = try await worker.take(4)
                for event in events {
                    let key = ConsumerKey(bytes: keys[Int(event.event.position.rawValue) - 1].utf8)
                    try requireEqual(event.delivery.key, key, "the key of a delivery")
                    try requireEqual(event.delivery.slot, key.slot(of: 97), "the slot of \(key)")
                }
            }
        },
        ConformanceClause("consumer.key.long", "Of a longer key the first 256 bytes count.") { s in
            var definition = s.eager()
            definition.keyRule = .tag("region")
            try await s.define(definition)
            let long = String(repeating: "r", count: 254)
            for value in [long + "1", long + "2", "other"] {
                var metadata = EventMetadata()
                metadata.tags["region"] = value
                try await s.append([try s.event(metadata: metadata)], to: s.aggregate())
            }
            let worker = s.worker()
            let events = try await worker.take(3)
            worker.reject(events[0], .park)
            worker.acknowledge([events[2]])
            try await worker.committed(to: 3)
            let key = KeyPlace(slot: 0, key: ConsumerKey(bytes: "g:\(long)".utf8))
            try requireEqual(try await s.blockedKeys().map(\.place), [key], "the blocked keys")
            try requireEqual(try await s.unblock(key), 1, "how many are tried again")
            try requireEqual(try await worker.take(2).positions, [1, 2], "what comes of the key")
        },
        ConformanceClause("consumer.large", "Events come whole, however much they are together.") { s in
            try await s.define(s.eager())
            let payload = "\"" + String(repeating: "x", count: 400_000) + "\""
            for _ in 0..<6 { try await s.append([try s.event(payload: payload)], to: s.aggregate()) }
            let worker = s.worker()
            let events = try await worker.take(6)
            try requireEqual(events.map(\.event), try await s.read().events, "the events")
            worker.acknowledge(upTo: events[5])
            try await worker.committed(to: 6)
        },
        ConformanceClause("consumer.raw", "Events are upcast for a consumer, unless it wants them as they are stored.")
        {
            s in
            let upcasters = #"""
                {"upcasters":[{"event":"Placed","from":1,"operations":[{"set":{"path":"/new","value":true}}]}]}
                """#
            try await s.put(.upcasters, upcasters)
            try await s.append([try s.event("Placed")], to: s.aggregate())
            let raw = try await s.subject.read(ReadRequest(tenant: s.tenant, upcasting: .raw)).events
            for isRaw in [true, false] {
                var definition = s.eager()
                definition.isRaw = isRaw
                try await s.define(definition, named: "raw-\(isRaw)")
                let events = try await s.worker(of: "raw-\(isRaw)").take(1)
                try requireEqual(events.map(\.event), isRaw ? raw : try await s.read().events, "raw: \(isRaw)")
                try requireEqual(events[0].event.event.schemaVersion, isRaw ? 1 : 2, "the schema version")
            }
        },
        ConformanceClause("consumer.in-flight", "No more events are with a worker than may be, in one slot.") { s in
            try await s.define(s.eager { $0.inFlightMax = 3 })
            let aggregate = s.aggregate()
            try await s.append(try s.events(8), to: aggregate)
            let worker = s.worker()
            var open: [WorkerEvent] = []
            var positions: [UInt64] = []
            while positions.count < 8 {
                let events = try await worker.takeAll()
                positions += events.positions
                open += events
                try require(open.count <= 3, "\(open.count) events are with the worker")
                if open.count == 3 { worker.acknowledge([open.removeFirst()]) }
            }
            try requireEqual(positions, Array(1...8), "the positions")
        },
        ConformanceClause(
            "consumer.window", "A slot is read only so far ahead of its oldest event that is not settled; others go on."
        ) { s in
            let aggregates = s.aggregates(slots: 2)
            try await s.define(
                s.eager(slots: 2) {
                    $0.windowEventsMax = 4
                    $0.inFlightMax = 2
                })
            try await s.append(try s.events(8), to: aggregates[0])
            try await s.fill([aggregates[1]])
            let worker = s.worker()
            let first = try await worker.take(1)
            try requireEqual(first.positions, [1], "what comes first")
            var positions: [UInt64] = []
            while positions.count < 4 {
                let event = try await worker.take(1)
                worker.acknowledge(event)
                positions += event.positions
            }
            try requireEqual(positions.filter { $0 < 9 }, [2, 3, 4], "what comes while the first one is open")
            try require(positions.contains(9), "the other slot does not go on: \(positions)")
            worker.acknowledge(first)
            try requireEqual(try await worker.take(2).positions, [5, 6], "what comes then")
        },
        ConformanceClause(
            "consumer.share",
            "Workers share the slots evenly, and a slot moves when nothing of it is under way: a key is with one at a time."
        ) { s in
            let aggregates = s.aggregates(slots: 4)
            try await s.define(s.eager(slots: 4))
            try await s.fill(aggregates)
            let first = s.worker("a")
            let before = try await first.take(4)
            let epochs = await first.slots.mapValues(\.epoch)
            let second = s.worker("b")
            guard case .assigned(let none) = try await second.next() else {
                throw ConformanceFailure("the first message says which slots it has")
            }
            try requireEqual(none.map(\.number), [], "the slots of the second one, while the first one works on all")
            first.acknowledge(before)
            try await first.hold(slots: 2)
            try await second.hold(slots: 2)
            let (own, moved) = await (first.slots, second.slots)
            try requireEqual(Set(own.keys).union(moved.keys), [0, 1, 2, 3], "the slots of both")
            for slot in moved.values {
                try require(slot.epoch > epochs[slot.number] ?? 0, "the epoch of slot \(slot.number) has not grown")
            }
            for slot in own.values { try requireEqual(slot.epoch, epochs[slot.number], "the epoch of what has stayed") }
            let description = try await s.description()
            try requireEqual(description.workers.map(\.text), ["a", "b"], "the workers")
            let expected = (0..<4).map { own[$0] == nil ? "b" : "a" }
            try requireEqual(description.slots.map { $0.worker?.text ?? "" }, expected, "who has which slot")
            for _ in 0..<3 { try await s.fill(aggregates) }
            let events = (try await first.take(6), try await second.take(6))
            try requireEqual((events.0 + events.1).positions.sorted(), Array(5...16), "the positions")
            try require(events.0.allSatisfy { own[$0.delivery.slot] != nil }, "the first one gets of its slots")
            try require(events.1.allSatisfy { moved[$0.delivery.slot] != nil }, "the second one gets of its slots")
            for (number, aggregate) in aggregates.enumerated() {
                let versions = (own[number] == nil ? events.1 : events.0)
                    .filter { $0.event.aggregate == aggregate }.map(\.event.version.rawValue)
                try requireEqual(versions, [2, 3, 4], "the versions of a key")
            }
        },
        ConformanceClause("consumer.spare", "A worker without a slot waits, and gets one when another leaves.") { s in
            try await s.define(s.eager())
            let first = s.worker("a")
            try await first.hold(slots: 1)
            let second = s.worker("b")
            guard case .assigned(let none) = try await second.next() else {
                throw ConformanceFailure("the first message says which slots it has")
            }
            try requireEqual(none.map(\.number), [], "the slots of the second one")
            try await s.fill([s.aggregate()])
            try requireEqual(try await first.take(1).positions, [1], "what the first one gets")
            await first.leave()
            let again = try await second.take(1)
            try requireEqual(again.positions, [1], "what the second one gets")
            try require(again[0].delivery.mayBeRepeated, "what comes again is marked")
        },
        ConformanceClause(
            "consumer.leave",
            "What a worker leaves behind goes to the next one, marked, under a higher epoch; what is stored does not."
        ) { s in
            try await s.define(s.eager(slots: 2))
            try await s.fill(s.aggregates(slots: 2) + s.aggregates(slots: 2))
            var epochs: [Int: UInt64] = [:]
            var expected: [UInt64] = [1, 2, 3, 4]
            for name in ["a", "b", "a", "a"] {
                let worker = s.worker(name)
                let events = try await worker.take(expected.count)
                try requireEqual(events.positions.sorted(), expected, "what \(name) gets")
                try require(events.allSatisfy(\.delivery.mayBeRepeated), "what is old is marked")
                for slot in await worker.slots.values {
                    try require(slot.epoch > epochs[slot.number] ?? 0, "the epoch has not grown: \(slot)")
                    epochs[slot.number] = slot.epoch
                }
                let first = events.filter { $0.event.position.rawValue == expected[0] }
                worker.acknowledge(first)
                let place = Position(expected.removeFirst())
                let slot = first[0].delivery.slot
                try await worker.until { $0.commits[slot]?.last?.position ?? .start >= place }
                await worker.leave()
            }
        },
        ConformanceClause("consumer.epoch", "Slots have higher epochs than a worker's own database holds.") { s in
            try await s.define(s.eager())
            let worker = s.worker(epochAbove: 1 << 40)
            try await worker.hold(slots: 1)
            let epoch = await worker.slots[0]?.epoch ?? 0
            try require(epoch > 1 << 40, "the epoch is \(epoch)")
            await worker.leave()
            let next = s.worker("b")
            try await next.hold(slots: 1)
            try require(await next.slots[0]?.epoch ?? 0 > epoch, "the epochs go on from there")
            let error = try await s.worker("c", epochAbove: ConsumeRequest.epochMax + 1).end()
            try requireEqual(error.reason, .invalidField, "the reason for too high an epoch")
        },
        ConformanceClause(
            "consumer.replaced", "A newer stream of a worker's name ends the older one and gets its slots."
        ) {
            s in
            try await s.define(s.eager())
            try await s.fill([s.aggregate(), s.aggregate()])
            var old = s.worker()
            var (events, epoch) = (try await old.take(2), await old.slots[0]?.epoch ?? 0)
            for _ in 0..<4 {
                let new = s.worker()
                guard case .assigned(let slots) = try await new.next() else {
                    throw ConformanceFailure("the first message says which slots it has")
                }
                try requireEqual(slots.map(\.number), [0], "the slots that the newer one gets at once")
                try require(slots[0].epoch > epoch, "the epoch was \(epoch), and is \(slots[0].epoch)")
                old.acknowledge(events)
                try requireEqual(try await old.end().reason, .workerReplaced, "how the older one ends")
                (old, events, epoch) = (new, try await new.take(2), slots[0].epoch)
                try requireEqual(events.positions, [1, 2], "what the newer one gets")
            }
            old.acknowledge(Array(events.prefix(1)))
            try await old.committed(to: 1)
            try requireEqual(try await s.description().workers.count, 1, "how many workers there are")
        },
        ConformanceClause("consumer.pause", "A paused consumer delivers nothing, and says so; then it goes on.") { s in
            let aggregate = s.aggregate()
            try await s.define(s.eager())
            let worker = s.worker()
            try await worker.hold(slots: 1)
            var paused = s.eager()
            paused.isPaused = true
            try await s.define(paused)
            try await worker.until { $0.isPaused && $0.slots.isEmpty }
            try await s.fill([aggregate])
            let late = s.worker("b")
            guard case .assigned(let none) = try await late.next() else {
                throw ConformanceFailure("the first message says which slots it has")
            }
            try requireEqual(none.map(\.number), [], "the slots of a worker that comes to a paused consumer")
            try await late.until { $0.isPaused }
            await late.leave()
            let description = try await s.description()
            try require(description.definition.isPaused, "it says that it is paused")
            try requireEqual(description.slots.compactMap(\.worker), [], "who has slots")
            try await s.define(s.eager())
            let events = try await worker.take(1)
            try requireEqual(events.positions, [1], "what comes then")
            try require(await !worker.isPaused, "it goes on")
        },
    ]
}
