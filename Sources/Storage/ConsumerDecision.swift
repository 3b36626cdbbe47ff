import FoundationEssentials
import MartletModel

/// The decision on changes of consumers: a part of ``WriteDecision``. Each is decided as if the ones before it were stored.
///
/// - *Epochs only grow.* Whatever is to be noticed by who works on a slot (another definition, a reset, a key that is tried
///   again) gives the slot a higher epoch. A slot's progress is stored only under the epoch that it has, and from there on
///   only forward. A new consumer of a name goes on above the epochs of the deleted one.
/// - *A slot has one worker.* It goes to one whose time is not over; a worker gets as many as are its share.
/// - *An event is reacted to once.* An append carries the event that it reacts to: the slot's floor is moved there, or the
///   beginning of the event's blocked key, under the worker's epoch and only forward. What a server then stores of the
///   slot, which has not heard of it yet, takes neither back.
/// - *Keys stay in their slot.* They are divided anew only where nobody works, and no key is blocked.
/// - *A damaged row of a slot is not believed.* The consumer can be reset and deleted, for which nobody needs to know how
///   far the slot has come; all else that would take the row is refused.
final class ConsumerDecision {
    private var facts: ConsumerFacts
    /// The storage's clock.
    private let time: Timestamp
    private var plans: [ConsumerID: ConsumerPlan] = [:]

    init(_ facts: ConsumerFacts, now: Timestamp) {
        self.facts = facts
        time = facts.time ?? now
    }

    /// What is to be stored of a tenant's consumers, in the order of their names.
    func plans(of tenant: TenantID) -> [ConsumerPlan] {
        plans.filter { $0.key.tenant == tenant && !$0.value.isEmpty }.map(\.value).sorted { $0.name < $1.name }
    }

    /// - Returns: what became of the change, and whether anything is to be stored for it.
    func decide(_ change: ConsumerChange) -> (ConsumerOutcome, isStored: Bool) {
        let id = change.consumer
        let before = plans[id]
        let outcome =
            switch change.kind {
            case .put(let put): self.put(put, id)
            case .delete: delete(id)
            case .reset(let place): reset(id, to: place)
            case .tend(let tending): tend(tending, id)
            case .progress(let changes): ConsumerOutcome.progress(changes.map { save($0, id) })
            case .unblock(let keys): unblock(keys, id)
            }
        return (outcome, plans[id] != before)
    }

    // MARK: Definitions

    private func put(_ put: PutConsumer, _ id: ConsumerID) -> ConsumerOutcome {
        let document = put.definition.encoded()
        guard var group = facts.groups[id] else {
            if case .revision = put.expected { return .revisionConflict(0) }
            var tenant = facts.tenants[id.tenant] ?? ConsumerFacts.Tenant()
            guard tenant.count < put.countMax else { return .tooMany(max: put.countMax) }
            tenant.count += 1
            facts.tenants[id.tenant] = tenant
            let consumer = StoredConsumer(
                document: document, revision: tenant.epochFloor + 1, baseEpoch: tenant.epochFloor, start: put.start)
            store(StoredGroup(consumer: consumer), id)
            return .put(revision: consumer.revision, isNew: true)
        }
        let revision = group.consumer.revision
        if case .revision(let expected) = put.expected, expected != revision { return .revisionConflict(revision) }
        guard document != group.consumer.document else { return .put(revision: revision, isNew: false) }
        guard put.expected != .none else { return .exists(revision: revision) }
        guard group.damagedSlots.isEmpty else { return .unreadable(.damagedSlots(group.damagedSlots)) }
        let old: ConsumerDefinition
        do throws(MartletError) { old = try ConsumerDefinition(document: group.consumer.document) } catch {
            return .unreadable(error)
        }
        group.consumer.document = document
        group.consumer.revision += 1
        if old.dividesAlike(put.definition) {
            for (number, slot) in group.slots { set(Self.fenced(slot), number, of: &group, id) }
        } else {
            guard old.isPaused, !group.hasBlockedKeys else { return .divisionInUse(isPaused: old.isPaused) }
            // No key has come less far than the slot that has come least far.
            let floors = (0..<old.slotCount).map { group.slot($0).floor }
            let lowest = floors.min { $0.position < $1.position } ?? group.consumer.start
            beginAgain(&group, at: lowest, id)
        }
        store(group, id)
        return .put(revision: group.consumer.revision, isNew: false)
    }

    private func delete(_ id: ConsumerID) -> ConsumerOutcome {
        guard let group = facts.groups[id] else { return .missing }
        var tenant = facts.tenants[id.tenant] ?? ConsumerFacts.Tenant()
        tenant.count -= 1
        tenant.epochFloor = max(tenant.epochFloor, group.epochMax, group.consumer.revision)
        facts.tenants[id.tenant] = tenant
        facts.groups[id] = nil
        change(id) { plan in
            plan = ConsumerPlan(id.name)
            plan.clearsSlots = true
            plan.clearsWorkers = true
            plan.consumer = .some(nil)
            plan.epochFloor = tenant.epochFloor
        }
        forgetBlockedKeys(of: id)
        return .deleted
    }

    private func reset(_ id: ConsumerID, to place: Checkpoint) -> ConsumerOutcome {
        guard var group = facts.groups[id] else { return .missing }
        let before = group.furthest
        beginAgain(&group, at: place, id)
        store(group, id)
        return .reset(after: place.position, before: before)
    }

    /// All slots go on behind that place, under higher epochs, with no key blocked.
    private func beginAgain(_ group: inout StoredGroup, at place: Checkpoint, _ id: ConsumerID) {
        group.consumer.baseEpoch = group.epochMax + 1
        group.consumer.start = place
        group.slots = [:]
        group.damagedSlots = []
        group.hasBlockedKeys = false
        change(id) { plan in
            plan.clearsSlots = true
            plan.slots = [:]
            plan.blockedKeys = [:]
        }
        forgetBlockedKeys(of: id)
    }

    private func forgetBlockedKeys(of id: ConsumerID) {
        facts.blockedKeys = facts.blockedKeys.filter { $0.key.slot.consumer != id }
        facts.slots = facts.slots.filter { $0.key.consumer != id }
    }

    // MARK: Workers

    private func tend(_ tending: GroupTending, _ id: ConsumerID) -> ConsumerOutcome {
        guard var group = facts.groups[id] else { return .missing }
        guard group.damagedSlots.isEmpty else { return .unreadable(.damagedSlots(group.damagedSlots)) }
        let definition: ConsumerDefinition
        do throws(MartletError) { definition = try ConsumerDefinition(document: group.consumer.document) } catch {
            return .unreadable(error)
        }
        var changed: [WorkerName: GroupWorker?] = [:]
        for (name, worker) in group.workers where worker.until <= time || tending.leaving.contains(worker.session) {
            group.workers[name] = nil
            changed[name] = .some(nil)
        }
        var refused: [UUID: GroupView.Refusal] = [:]
        let (until, isTooFar) = time.microseconds.addingReportingOverflow(tending.leaseMicros)
        for worker in tending.workers {
            let known = group.workers[worker.name]
            guard known == nil || known?.session == worker.session || worker.isNew else {
                refused[worker.session] = .replaced
                continue
            }
            guard known != nil || group.workers.count < tending.workersMax else {
                refused[worker.session] = .full
                continue
            }
            let present = GroupWorker(
                name: worker.name, session: worker.session, server: tending.server,
                until: Timestamp(microseconds: isTooFar ? .max : until))
            group.workers[worker.name] = present
            changed[worker.name] = present
        }
        // Who kept its name may have lost it to a newer session of the same server that came after it in the list.
        for worker in tending.workers
        where refused[worker.session] == nil && group.workers[worker.name]?.session != worker.session {
            refused[worker.session] = .replaced
        }
        change(id) { plan in for (name, worker) in changed { plan.workers[name] = .some(worker) } }
        for returned in tending.returned {
            guard var slot = group.slots[returned.slot], slot.epoch == returned.epoch, slot.owner != nil else {
                continue
            }
            slot.owner = nil
            set(slot, returned.slot, of: &group, id)
        }
        let own = tending.workers.filter { refused[$0.session] == nil }
        let excess = divide(&group, definition, among: own, id)
        facts.groups[id] = group
        return .tended(view(of: group, definition, own, excess, refused))
    }

    /// Gives workers of the server what is free, up to their share.
    /// - Returns: how many slots more than its share each of all workers has.
    private func divide(
        _ group: inout StoredGroup, _ definition: ConsumerDefinition, among own: [GroupTending.Worker], _ id: ConsumerID
    ) -> [UUID: Int] {
        // Two rows of workers have one session only where one of them is damaged.
        var held = Dictionary(group.workers.values.map { ($0.session, 0) }) { first, _ in first }
        var free: [Int] = []
        for number in 0..<definition.slotCount {
            if let owner = group.slots[number]?.owner, held[owner] != nil {
                held[owner, default: 0] += 1
            } else {
                free.append(number)
            }
        }
        let shares = SlotShares(slots: definition.isPaused ? 0 : definition.slotCount, held: held)
        var left = free.reversed().map { $0 }
        for worker in own {
            while held[worker.session, default: 0] < shares.share(of: worker.session), let number = left.popLast() {
                var slot = group.slot(number)
                slot.epoch = max(slot.epoch, worker.epochAbove) + 1
                slot.owner = worker.session
                set(slot, number, of: &group, id)
                held[worker.session, default: 0] += 1
            }
        }
        var excess: [UUID: Int] = [:]
        for (session, count) in held { excess[session] = max(0, count - shares.share(of: session)) }
        return excess
    }

    private func view(
        of group: StoredGroup, _ definition: ConsumerDefinition, _ own: [GroupTending.Worker], _ excess: [UUID: Int],
        _ refused: [UUID: GroupView.Refusal]
    ) -> GroupView {
        var slots: [UUID: [GroupView.Slot]] = [:]
        for (number, slot) in group.slots.sorted(by: { $0.key < $1.key }) {
            guard let owner = slot.owner else { continue }
            slots[owner, default: []].append(GroupView.Slot(number: number, epoch: slot.epoch, floor: slot.floor))
        }
        return GroupView(
            revision: group.consumer.revision, definition: definition, workerCount: group.workers.count,
            workers: own.map {
                GroupView.Worker(
                    session: $0.session, slots: slots[$0.session] ?? [], excess: excess[$0.session] ?? 0)
            }, refused: refused)
    }

    // MARK: Progress

    private func save(_ saving: SlotSaving, _ id: ConsumerID) -> SlotSaved {
        let change = saving.change
        guard var slot = slot(saving.slot, of: id) else { return .fenced(epoch: 0) }
        guard slot.epoch == change.epoch, change.goesOn(from: slot.floor) else { return .fenced(epoch: slot.epoch) }
        for (key, blocked) in change.blocked {
            let place = BlockedKeyID(slot: SlotID(consumer: id, number: saving.slot), key: key)
            guard var blocked else {
                put(nil, place)
                continue
            }
            // Appends may have settled more of the key than the server knew.
            if let stored = facts.blockedKeys[place] {
                if stored.isAhead(of: blocked) { continue }
            } else if blocked.first.position > change.from.position, blocked.first.position <= slot.floor.position {
                blocked.first = slot.floor
                blocked.isFirstHandled = true
                blocked.tries = 0
            }
            put(blocked, place)
        }
        if change.to.position > slot.floor.position { slot.floor = change.to }
        set(slot, saving.slot, id)
        return .saved
    }

    private func put(_ blocked: BlockedKey?, _ place: BlockedKeyID) {
        let id = place.slot.consumer
        facts.groups[id]?.hasBlockedKeys = true
        facts.blockedKeys[place] = blocked
        change(id) { $0.blockedKeys[place.slot.number, default: [:]][place.key] = .some(blocked) }
    }

    /// Why an append may not carry that checkpoint; nil where it may.
    func refusal(of checkpoint: AppendCheckpoint, in tenant: TenantID) -> CheckpointRefusal? {
        let id = ConsumerID(tenant: tenant, name: checkpoint.consumer)
        guard let slot = slot(checkpoint.slot, of: id) else { return .fenced(epoch: 0) }
        guard slot.epoch == checkpoint.epoch else { return .fenced(epoch: slot.epoch) }
        let event = checkpoint.event
        guard let eventID = event.eventID,
            facts.positions[EventKey(tenant: tenant, id: eventID)] == event.position
        else { return .missing }
        if let blocked = facts.blockedKeys[BlockedKeyID(checkpoint, of: id)] {
            // The server takes back what is under way of a key that is blocked.
            guard checkpoint.isKeyBlocked else { return .takenBack }
            return blocked.hasSettled(event) ? .settled(to: blocked.first.position) : nil
        }
        return event.position > slot.floor.position ? nil : .settled(to: slot.floor.position)
    }

    /// Settles the event of a checkpoint that is not refused.
    func settle(_ checkpoint: AppendCheckpoint, in tenant: TenantID) {
        let id = ConsumerID(tenant: tenant, name: checkpoint.consumer)
        let place = BlockedKeyID(checkpoint, of: id)
        if var blocked = facts.blockedKeys[place] {
            blocked.first = checkpoint.event
            blocked.isFirstHandled = true
            blocked.tries = 0
            put(blocked, place)
        }
        guard var slot = slot(checkpoint.slot, of: id), checkpoint.event.position > slot.floor.position else { return }
        slot.floor = checkpoint.event
        set(slot, checkpoint.slot, id)
    }

    private func unblock(_ keys: [KeyUnblocking], _ id: ConsumerID) -> ConsumerOutcome {
        var touched: Set<Int> = []
        var (count, skipped) = (0, 0)
        for key in keys {
            let place = BlockedKeyID(slot: SlotID(consumer: id, number: key.slot), key: key.key)
            guard var blocked = facts.blockedKeys[place], slot(key.slot, of: id) != nil else { continue }
            if let position = key.skipping {
                guard blocked.first.position == position, !blocked.isFirstHandled else { continue }
                blocked.isFirstHandled = true
                skipped += 1
            }
            // Before all that are due by themselves.
            blocked.until = .retry(at: Timestamp(microseconds: 0))
            facts.blockedKeys[place] = blocked
            change(id) { $0.blockedKeys[key.slot, default: [:]][key.key] = .some(blocked) }
            touched.insert(key.slot)
            count += 1
        }
        for number in touched {
            if let slot = slot(number, of: id) { set(Self.fenced(slot), number, id) }
        }
        return .unblocked(count, skipped: skipped)
    }

    // MARK: What is known, and what is to be stored

    private static func fenced(_ slot: StoredSlot) -> StoredSlot {
        StoredSlot(epoch: slot.epoch + 1, floor: slot.floor, owner: nil)
    }

    private func slot(_ number: Int, of id: ConsumerID) -> StoredSlot? {
        if let group = facts.groups[id] { return group.slots[number] }
        return facts.slots[SlotID(consumer: id, number: number)]
    }

    private func set(_ slot: StoredSlot, _ number: Int, _ id: ConsumerID) {
        if facts.groups[id] != nil {
            facts.groups[id]?.slots[number] = slot
        } else {
            facts.slots[SlotID(consumer: id, number: number)] = slot
        }
        change(id) { $0.slots[number] = slot }
    }

    private func set(_ slot: StoredSlot, _ number: Int, of group: inout StoredGroup, _ id: ConsumerID) {
        group.slots[number] = slot
        change(id) { $0.slots[number] = slot }
    }

    private func store(_ group: StoredGroup, _ id: ConsumerID) {
        facts.groups[id] = group
        change(id) { $0.consumer = .some(group.consumer) }
    }

    private func change(_ id: ConsumerID, _ body: (inout ConsumerPlan) -> Void) {
        var plan = plans[id] ?? ConsumerPlan(id.name)
        body(&plan)
        plans[id] = plan
    }
}

/// How many slots each worker is to have: all the same number, or one more; those that have more keep more.
private struct SlotShares {
    private let base: Int
    private let larger: Set<UUID>

    init(slots: Int, held: [UUID: Int]) {
        base = held.isEmpty ? 0 : slots / held.count
        let extra = held.isEmpty ? 0 : slots % held.count
        let sorted = held.sorted { $0.value == $1.value ? TenantID($0.key) < TenantID($1.key) : $0.value > $1.value }
        larger = Set(sorted.prefix(extra).map(\.key))
    }

    func share(of session: UUID) -> Int { larger.contains(session) ? base + 1 : base }
}

extension SlotChange {
    /// Whether it goes on from that floor, or has been stored in part or as a whole before, or an append has moved the floor
    /// meanwhile: only who has the epoch moves it.
    fileprivate func goesOn(from floor: Checkpoint) -> Bool {
        guard from.position <= floor.position else { return false }
        if from.position == floor.position, from != floor { return false }
        return to.position != floor.position || to == floor
    }
}

extension BlockedKeyID {
    fileprivate init(_ checkpoint: AppendCheckpoint, of consumer: ConsumerID) {
        self.init(slot: SlotID(consumer: consumer, number: checkpoint.slot), key: checkpoint.key)
    }
}

extension BlockedKey {
    /// Whether that event of the key is settled.
    fileprivate func hasSettled(_ event: Checkpoint) -> Bool {
        event.position < first.position || (event.position == first.position && isFirstHandled)
    }

    /// Whether more of the key is settled by it than by another.
    fileprivate func isAhead(of other: BlockedKey) -> Bool {
        hasSettled(other.first) && !(other.first == first && other.isFirstHandled)
    }
}
