import FoundationEssentials
import MartletModel
import NIOCore

// What consumers are: definitions, lists, ends.

extension ConformanceSuite {
    static let consumerClauses: [ConformanceClause] = [
        ConformanceClause(
            "consumer.put", "A definition is kept as it was put; an equal one changes nothing, whatever is expected."
        ) { s in
            let definition = full(s)
            let first = try await s.define(definition, expected: .none)
            try requireEqual(first, PutConsumerReceipt(revision: 1, isNew: true), "the first receipt")
            for expected in [ExpectedDefinition.none, .any, .revision(1)] {
                let again = try await s.define(definition, expected: expected)
                try requireEqual(again, PutConsumerReceipt(revision: 1, isNew: false), "the receipt of \(expected)")
            }
            let found = try await s.description()
            try requireEqual(found.definition, definition, "the definition")
            try requireEqual(found.revision, 1, "the revision")
            try requireEqual(found.name, s.consumer().name, "the name")
        },
        ConformanceClause(
            "consumer.put.exists", "Without an expectation, another definition is refused, and nothing is changed."
        ) { s in
            try await s.define(s.eager(), expected: .none)
            try await s.refused(.consumerExists) { () async throws(MartletError) in
                try await s.define(s.eager { $0.triesMax = 9 }, expected: .none)
            }
            try requireEqual(try await s.description().definition, s.eager(), "the definition")
        },
        ConformanceClause(
            "consumer.put.revision", "A definition is replaced at the revision that is expected, and only there."
        ) { s in
            try await s.refused(.consumerRevisionConflict) { () async throws(MartletError) in
                try await s.define(s.eager(), expected: .revision(1))
            }
            try await s.refused(.consumerNotFound) { () async throws(MartletError) in _ = try await s.description() }
            try await s.define(s.eager(), expected: .none)
            let changed = s.eager { $0.triesMax = 9 }
            for wrong: UInt64 in [2, 7] {
                try await s.refused(.consumerRevisionConflict) { () async throws(MartletError) in
                    try await s.define(changed, expected: .revision(wrong))
                }
            }
            let receipt = try await s.define(changed, expected: .revision(1))
            try requireEqual(receipt, PutConsumerReceipt(revision: 2, isNew: false), "the receipt")
            try requireEqual(try await s.define(s.eager()).revision, 3, "the revision of any")
        },
        ConformanceClause("consumer.put.race", "With an expected revision, one of two racing changes wins.") { s in
            try await s.define(s.eager(), expected: .none)
            let scenario = s
            let wins = await withTaskGroup(of: Bool.self) { group in
                for number in 2..<8 as Range<UInt32> {
                    group.addTask {
                        let definition = scenario.eager { $0.triesMax = number }
                        return await (try? scenario.define(definition, expected: .revision(1))) != nil
                    }
                }
                return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
            try requireEqual(wins, 1, "how many won")
            try requireEqual(try await s.description().revision, 2, "the revision")
        },
        ConformanceClause("consumer.put.bounds", "A number that is out of its bounds is refused, and nothing is put.") {
            s in
            var bad = [s.eager(slots: 1_025)]
            bad.append(s.eager { $0.windowEventsMax = 65_537 })
            bad.append(
                s.eager {
                    $0.windowEventsMax = 8
                    $0.inFlightMax = 9
                })
            bad.append(s.eager { $0.blockedKeysMax = 10_001 })
            bad.append(s.eager { $0.retriedKeysMax = 257 })
            bad.append(s.eager { $0.triesMax = 1_000_001 })
            bad.append(s.eager { $0.acknowledgementTimeout = .milliseconds(99) })
            bad.append(s.eager { $0.backoffMin = .milliseconds(2) })
            bad.append(ConsumerDefinition(keyRule: .tag(String(repeating: "t", count: 257))))
            for definition in bad {
                try await s.refused(.invalidField) { () async throws(MartletError) in try await s.define(definition) }
            }
            try requireEqual(try await s.subject.consumers(of: s.tenant), [], "the consumers")
        },
        ConformanceClause(
            "consumer.division",
            "Keys are divided anew only while the consumer is paused; they go on at the lowest checkpoint."
        ) { s in
            let aggregates = s.aggregates(slots: 2)
            try await s.define(s.eager(slots: 2))
            try await s.fill(aggregates + aggregates)
            let worker = s.worker()
            let events = try await worker.take(4)
            for event in events where event.event.aggregate == aggregates[0] { worker.acknowledge([event]) }
            try await worker.until { $0.commits[0]?.last?.position ?? .start >= Position(3) }
            var divided = s.eager(slots: 3)
            try await s.refused(.consumerInUse) { () async throws(MartletError) in try await s.define(divided) }
            var byType = s.eager(slots: 2)
            byType.keyRule = .aggregateType
            try await s.refused(.consumerInUse) { () async throws(MartletError) in try await s.define(byType) }
            // Another one is no other division.
            try await s.define(s.eager(slots: 2) { $0.triesMax = 9 })
            try requireEqual(try await s.description().checkpoint.position, .start, "the lowest checkpoint")
            var paused = s.eager(slots: 2)
            paused.isPaused = true
            try await s.define(paused)
            divided.isPaused = true
            try await s.define(divided)
            try await worker.until { $0.isPaused }
            try await s.define(s.eager(slots: 3))
            try await worker.until { $0.slots.count == 3 }
            let again = try await worker.take(4)
            try requireEqual(again.positions.sorted(), [1, 2, 3, 4], "what comes again")
            for event in again {
                try requireEqual(event.delivery.slot, event.event.aggregate.key.slot(of: 3), "the slot of a key")
            }
        },
        ConformanceClause("consumer.division.blocked", "No key is divided anew while one is blocked.") { s in
            try await s.define(s.eager())
            try await s.fill([s.aggregate()])
            let worker = s.worker()
            worker.reject(try await worker.take(1)[0], .park)
            try await worker.committed(to: 1)
            var definition = s.eager()
            definition.isPaused = true
            try await s.define(definition)
            definition.slotCount = 2
            let divided = definition
            try await s.refused(.consumerInUse) { () async throws(MartletError) in try await s.define(divided) }
            try await s.reset(to: .after(.start))
            try await s.define(divided)
            try requireEqual(try await s.description().definition.slotCount, 2, "the slots")
        },
        ConformanceClause("consumer.keeps-place", "Another definition leaves a consumer where it is.") { s in
            try await s.define(s.eager())
            try await s.fill([s.aggregate(), s.aggregate("other"), s.aggregate()])
            let worker = s.worker()
            let events = try await worker.take(3)
            worker.acknowledge(Array(events.prefix(1)))
            try await worker.committed(to: 1)
            let epoch = await worker.slots[0]?.epoch ?? 0
            var filtered = s.eager()
            filtered.filter = EventFilter(aggregateTypes: [events[0].event.aggregate.type])
            // Where a consumer begins is said when it is made.
            try await s.define(filtered, start: .head)
            try await worker.until { $0.slots.isEmpty }
            let again = try await worker.take(1)
            try requireEqual(again.positions, [3], "what comes under the new definition")
            try require(again[0].delivery.mayBeRepeated, "what comes again is marked")
            let now = await worker.slots[0]?.epoch ?? 0
            try require(now > epoch, "the epoch has grown from \(epoch) to \(now)")
        },
        ConformanceClause("consumer.list", "All consumers of a tenant are listed, by name, whatever their number.") {
            s in
            let scenario = s
            let names = (0..<103).map { "c-\($0)" }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for name in names {
                    group.addTask { try await scenario.define(scenario.eager(), named: name) }
                }
                try await group.waitForAll()
            }
            let changed = s.eager(slots: 7)
            try await s.define(changed, named: "B.9:_")
            let listed = try await s.subject.consumers(of: s.tenant)
            try requireEqual(listed.map(\.name.text), (["B.9:_"] + names).sorted(), "the names")
            try requireEqual(listed[0].definition, changed, "a definition")
            try requireEqual(listed[0].revision, 1, "a revision")
            try requireEqual(try await s.subject.consumers(of: TenantID(UUID())), [], "those of another tenant")
        },
        ConformanceClause(
            "consumer.delete",
            "A deleted consumer is gone with its place; the next one of its name has higher epochs and revisions."
        ) { s in
            let aggregate = s.aggregate()
            try await s.define(s.eager())
            try await s.define(s.eager { $0.triesMax = 9 })
            try await s.fill([aggregate, aggregate])
            let worker = s.worker()
            let events = try await worker.take(2)
            worker.acknowledge(Array(events.prefix(1)))
            try await worker.committed(to: 1)
            worker.reject(events[1], .park)
            try await worker.committed(to: 2)
            let epoch = await worker.slots[0]?.epoch ?? 0
            try await s.subject.deleteConsumer(s.consumer())
            try requireEqual(try await worker.end().reason, .consumerNotFound, "how the worker's stream ends")
            try await s.refused(.consumerNotFound) { () async throws(MartletError) in _ = try await s.description() }
            try requireEqual(try await s.subject.consumers(of: s.tenant), [], "the consumers")
            let receipt = try await s.define(s.eager(), expected: .none)
            try require(receipt.isNew && receipt.revision > 2, "the receipt is \(receipt)")
            try requireEqual(try await s.blockedKeys(), [], "the blocked keys")
            let next = s.worker()
            try requireEqual(try await next.take(2).positions, [1, 2], "what comes")
            let now = await next.slots[0]?.epoch ?? 0
            try require(now > epoch, "the epoch was \(epoch), and is \(now)")
        },
        ConformanceClause("consumer.not-found", "Whatever is asked of a consumer that is not there is refused.") { s in
            let (id, place) = (s.consumer(), KeyPlace(slot: 0, key: s.aggregate().key))
            try await s.refused(.consumerNotFound) { () async throws(MartletError) in _ = try await s.description() }
            try await s.refused(.consumerNotFound) { () async throws(MartletError) in
                try await s.subject.deleteConsumer(id)
            }
            try await s.refused(.consumerNotFound) { () async throws(MartletError) in try await s.reset(to: .head) }
            try await s.refused(.consumerNotFound) { () async throws(MartletError) in
                try await s.reset(to: .head, isPreview: true)
            }
            try await s.refused(.consumerNotFound) { () async throws(MartletError) in _ = try await s.blockedKeys() }
            try await s.refused(.consumerNotFound) { () async throws(MartletError) in _ = try await s.unblock(place) }
            try await s.refused(.consumerNotFound) { () async throws(MartletError) in try await s.reached(0) }
            try requireEqual(try await s.worker().end().reason, .consumerNotFound, "how a worker's stream ends")
        },
        ConformanceClause("consumer.tenants", "Consumers of one name in two tenants are two consumers.") {
            s in
            let other = TenantID(UUID())
            try await s.define(s.eager())
            try await s.define(s.eager(slots: 2), of: other)
            try await s.fill([s.aggregate(), s.aggregate(), s.aggregate()])
            try await s.fill([s.aggregate()], tenant: other)
            let (own, foreign) = (s.worker(), s.worker(tenant: other))
            let events = try await own.take(3)
            try requireEqual(try await foreign.take(1).positions, [1], "what comes in the other tenant")
            own.acknowledge(events)
            try await own.committed(to: 3)
            let place = try await s.subject.consumer(s.consumer(of: other)).settledTo
            try requireEqual(place, .start, "how far the other one has come")
            try await s.subject.deleteConsumer(s.consumer())
            try requireEqual(try await own.end().reason, .consumerNotFound, "how its worker's stream ends")
            try await s.fill([s.aggregate()], tenant: other)
            try requireEqual(try await foreign.take(1).positions, [2], "what goes on in the other tenant")
            let left = try await s.subject.consumer(s.consumer(of: other))
            try requireEqual(left.definition.slotCount, 2, "the other one's slots")
        },
    ]

    /// A definition with nothing as it is by default.
    private static func full(_ s: Scenario) -> ConsumerDefinition {
        let filter = EventFilter(
            aggregateTypes: [s.aggregate("order").type, s.aggregate("account").type], eventTypes: [s.type("Placed")],
            aggregateIDs: [UUID(), UUID()])
        var definition = ConsumerDefinition(
            filter: filter, keyRule: .tag("région"), slotCount: 1_024, isRaw: true, isPaused: true)
        definition.delivery.windowEventsMax = 65_536
        definition.delivery.inFlightMax = 300
        definition.delivery.blockedKeysMax = 0
        definition.delivery.retriedKeysMax = 256
        definition.delivery.triesMax = 1_000_000
        definition.delivery.acknowledgementTimeout = .milliseconds(86_400_000)
        definition.delivery.backoffMin = .milliseconds(7)
        definition.delivery.backoffMax = .milliseconds(604_800_000)
        return definition
    }
}
