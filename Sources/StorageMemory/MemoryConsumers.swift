import MartletModel
import MartletStorage

/// A tenant's consumers.
struct MemoryConsumers: Sendable {
    private struct Group: Sendable {
        var stored: StoredGroup
        var blockedKeys: [Int: [ConsumerKey: BlockedKey]] = [:]
    }

    private var groups: [ConsumerName: Group] = [:]
    private var epochFloor: UInt64 = 0

    static func facts(
        _ questions: ConsumerQuestions, _ consumers: (TenantID) -> MemoryConsumers?
    ) -> ConsumerFacts {
        var facts = ConsumerFacts()
        for id in questions.groups { facts.groups[id] = consumers(id.tenant)?.group(id.name) }
        for id in questions.slots {
            facts.slots[id] = consumers(id.consumer.tenant)?.groups[id.consumer.name]?.stored.slots[id.number]
        }
        for id in questions.blockedKeys {
            let group = consumers(id.slot.consumer.tenant)?.groups[id.slot.consumer.name]
            facts.blockedKeys[id] = group?.blockedKeys[id.slot.number]?[id.key]
        }
        for id in questions.tenants {
            guard let consumers = consumers(id) else { continue }
            facts.tenants[id] = ConsumerFacts.Tenant(count: consumers.groups.count, epochFloor: consumers.epochFloor)
        }
        return facts
    }

    mutating func carryOut(_ plans: [ConsumerPlan], epochFloor: UInt64?) {
        if let epochFloor { self.epochFloor = epochFloor }
        for plan in plans {
            var group = groups[plan.name]
            if plan.clearsSlots {
                group?.stored.slots = [:]
                group?.blockedKeys = [:]
            }
            if plan.clearsWorkers { group?.stored.workers = [:] }
            if let consumer = plan.consumer {
                guard let consumer else {
                    groups[plan.name] = nil
                    continue
                }
                if group == nil { group = Group(stored: StoredGroup(consumer: consumer)) }
                group?.stored.consumer = consumer
            }
            for (number, slot) in plan.slots { group?.stored.slots[number] = slot }
            for (name, worker) in plan.workers { group?.stored.workers[name] = worker }
            for (number, keys) in plan.blockedKeys {
                for (key, blocked) in keys { group?.blockedKeys[number, default: [:]][key] = blocked }
            }
            groups[plan.name] = group
        }
    }

    func list(after name: ConsumerName?, countMax: Int) -> [NamedConsumer] {
        let names = groups.keys.sorted().filter { candidate in name.map { candidate > $0 } ?? true }
        return names.prefix(countMax).compactMap { name in
            groups[name].map { NamedConsumer(name: name, consumer: $0.stored.consumer) }
        }
    }

    func has(_ name: ConsumerName) -> Bool { groups[name] != nil }

    func group(_ name: ConsumerName) -> StoredGroup? {
        groups[name].map { group in
            var stored = group.stored
            stored.hasBlockedKeys = group.blockedKeys.values.contains { !$0.isEmpty }
            return stored
        }
    }

    func blockedKeys(
        of name: ConsumerName, slot: Int?, after key: BlockedKeyID?, countMax: Int
    ) -> [StoredBlockedKey] {
        var all: [StoredBlockedKey] = []
        for (number, keys) in groups[name]?.blockedKeys ?? [:] where slot == nil || slot == number {
            all += keys.map { StoredBlockedKey(slot: number, key: $0, blocked: $1) }
        }
        all.sort { Self.isBefore(($0.slot, $0.key), ($1.slot, $1.key)) }
        if let key { all.removeAll { !Self.isBefore((key.slot.number, key.key), ($0.slot, $0.key)) } }
        return Array(all.prefix(countMax))
    }

    func lastBlockedKey(of name: ConsumerName) -> StoredBlockedKey? {
        (groups[name]?.blockedKeys ?? [:]).lazy
            .flatMap { number, keys in keys.map { StoredBlockedKey(slot: number, key: $0, blocked: $1) } }
            .max {
                let (since, other) = ($0.blocked.since, $1.blocked.since)
                return since == other ? Self.isBefore(($0.slot, $0.key), ($1.slot, $1.key)) : since < other
            }
    }

    private static func isBefore(_ a: (Int, ConsumerKey), _ b: (Int, ConsumerKey)) -> Bool {
        a.0 == b.0 ? a.1.bytes.lexicographicallyPrecedes(b.1.bytes) : a.0 < b.0
    }
}
