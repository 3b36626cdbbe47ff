import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// Rows of consumers, as statements of ``Schema`` return them: behind a column of the statement's own.
struct ConsumerRows {
    let rows: PostgresResult

    func consumer(_ row: Int32, of tenant: TenantID) throws(PostgresFault) -> NamedConsumer {
        guard let name = ConsumerName(rows.text(row, 1)) else { throw Self.damage("the name of a consumer") }
        let consumer = StoredConsumer(
            document: unsafe ByteBuffer(bytes: rows.bytes(row, 6)), revision: try rows.unsigned(row, 2),
            baseEpoch: try rows.unsigned(row, 3), start: try place(row, 4))
        try check(row, 7, Seal.consumer(consumer, ConsumerID(tenant: tenant, name: name)), "the consumer \(name)")
        return NamedConsumer(name: name, consumer: consumer)
    }

    func tenant(_ row: Int32) throws(PostgresFault) -> TenantID {
        guard let id = uuid(row, 0) else { throw Self.damage("a tenant's id") }
        return TenantID(id)
    }

    func slot(_ row: Int32, of id: ConsumerID) throws(PostgresFault) -> (number: Int, slot: StoredSlot) {
        let number = Int(try rows.unsigned(row, 1, to: Int64(ConsumerDefinition.slotsMax)))
        let slot = StoredSlot(epoch: try rows.unsigned(row, 2), floor: try place(row, 3), owner: uuid(row, 5))
        try check(row, 6, Seal.slot(slot, SlotID(consumer: id, number: number)), "slot \(number) of \(id.name)")
        return (number, slot)
    }

    func worker(_ row: Int32) throws(PostgresFault) -> GroupWorker {
        guard let name = WorkerName(rows.text(row, 1)), let session = uuid(row, 2), let server = uuid(row, 3) else {
            throw Self.damage("a worker")
        }
        return GroupWorker(
            name: name, session: session, server: server, until: Timestamp(microseconds: rows.integer(row, 4)))
    }

    func blockedKey(_ row: Int32, of id: ConsumerID) throws(PostgresFault) -> StoredBlockedKey {
        let number = Int(try rows.unsigned(row, 1, to: Int64(ConsumerDefinition.slotsMax)))
        let key = ConsumerKey(bytes: unsafe Array(rows.bytes(row, 2)))
        var blocked = BlockedKey(
            first: try place(row, 3),
            until: rows.isNull(row, 6) ? .asked : .retry(at: Timestamp(microseconds: rows.integer(row, 6))),
            reason: rows.text(row, 9), tries: UInt32(try rows.unsigned(row, 7, to: Int64(UInt32.max))),
            since: Timestamp(microseconds: rows.integer(row, 8)))
        blocked.isFirstHandled = rows.integer(row, 5) != 0
        let place = BlockedKeyID(slot: SlotID(consumer: id, number: number), key: key)
        try check(row, 10, Seal.blockedKey(blocked, place), "a blocked key of \(id.name)")
        return StoredBlockedKey(slot: number, key: key, blocked: blocked)
    }

    /// A position, and the id of its event in the column after it.
    private func place(_ row: Int32, _ column: Int32) throws(PostgresFault) -> Checkpoint {
        Checkpoint(position: Position(try rows.unsigned(row, column)), eventID: uuid(row, column + 1))
    }

    private func uuid(_ row: Int32, _ column: Int32) -> UUID? {
        unsafe rows.isNull(row, column) ? nil : UUID(bytes: rows.bytes(row, column))
    }

    private func check(_ row: Int32, _ column: Int32, _ seal: UInt32, _ what: String) throws(PostgresFault) {
        guard rows.integer(row, column) == Int64(seal) else { throw Self.damage(what) }
    }

    static func damage(_ what: String) -> PostgresFault {
        PostgresFault(
            sqlState: "XX001", message: "what is stored of \(what) does not match its checksum", isConnectionLost: false
        )
    }
}

/// Looks up what deciding on consumers takes, in the round trip that looks up all else.
struct ConsumerLookUp {
    private let questions: ConsumerQuestions
    private let groups: [ConsumerID]
    private let slots: [(consumer: ConsumerID, numbers: ClosedRange<Int>)]
    private let keys: [BlockedKeyID]
    private let tenants: [TenantID]
    private let events: [EventKey]

    init(_ questions: ConsumerQuestions) {
        self.questions = questions
        groups = questions.groups.sorted()
        let single = questions.slots.filter { !questions.groups.contains($0.consumer) }
        let all = questions.groups.map { (consumer: $0, numbers: 0...ConsumerDefinition.slotsMax) }
        // One order for all who lock slots: by the consumer, then by the number.
        slots = (all + single.map { (consumer: $0.consumer, numbers: $0.number...$0.number) }).sorted {
            $0.consumer == $1.consumer
                ? $0.numbers.lowerBound < $1.numbers.lowerBound : $0.consumer < $1.consumer
        }
        keys = Array(questions.blockedKeys)
        tenants = Array(questions.tenants)
        events = Array(questions.events)
    }

    /// The calls; ``facts(_:)`` takes their results.
    var calls: [PostgresCall] {
        guard !questions.isEmpty else { return [] }
        let named = [PostgresValue(groups.map(\.tenant.uuid)), PostgresValue(groups.map(\.name.text))]
        return [
            PostgresCall("lock_consumers", named),
            PostgresCall(
                "lock_slots",
                [
                    PostgresValue(slots.map(\.consumer.tenant.uuid)), PostgresValue(slots.map(\.consumer.name.text)),
                    PostgresValue(slots.map { Int64($0.numbers.lowerBound) }),
                    PostgresValue(slots.map { Int64($0.numbers.upperBound) }),
                ]),
            PostgresCall("group_workers", named),
            PostgresCall("groups_with_blocked_keys", named),
            PostgresCall(
                "blocked_keys",
                [
                    PostgresValue(keys.map(\.slot.consumer.tenant.uuid)),
                    PostgresValue(keys.map(\.slot.consumer.name.text)),
                    PostgresValue(keys.map { Int64($0.slot.number) }), PostgresValue(keys.map(\.key.bytes)),
                ]),
            PostgresCall("consumer_tenants", [PostgresValue(tenants.map(\.uuid))]),
            PostgresCall("clock"),
            PostgresCall(
                "event_positions", [PostgresValue(events.map(\.tenant.uuid)), PostgresValue(events.map(\.id))]),
        ]
    }

    func facts(_ results: ArraySlice<PostgresResult>) throws(PostgresFault) -> ConsumerFacts {
        var facts = ConsumerFacts()
        guard results.count == 8 else { return facts }
        let first = results.startIndex
        try each(results[first]) { index, row, rows throws(PostgresFault) in
            facts.groups[groups[index]] = StoredGroup(
                consumer: try rows.consumer(row, of: groups[index].tenant).consumer)
        }
        try each(results[first + 1]) { index, row, rows throws(PostgresFault) in
            let id = slots[index].consumer
            let isInGroup = questions.groups.contains(id)
            do throws(PostgresFault) {
                let (number, slot) = try rows.slot(row, of: id)
                if isInGroup {
                    facts.groups[id]?.slots[number] = slot
                } else {
                    facts.slots[SlotID(consumer: id, number: number)] = slot
                }
            } catch {
                guard isInGroup else { throw error }
                facts.groups[id]?.damagedSlots.insert(Int(rows.rows.integer(row, 1)))
            }
        }
        try each(results[first + 2]) { index, row, rows throws(PostgresFault) in
            let worker = try rows.worker(row)
            facts.groups[groups[index]]?.workers[worker.name] = worker
        }
        try each(results[first + 3]) { index, _, _ throws(PostgresFault) in
            facts.groups[groups[index]]?.hasBlockedKeys = true
        }
        try each(results[first + 4]) { index, row, rows throws(PostgresFault) in
            facts.blockedKeys[keys[index]] = try rows.blockedKey(row, of: keys[index].slot.consumer).blocked
        }
        try each(results[first + 5]) { index, row, rows throws(PostgresFault) in
            var tenant = ConsumerFacts.Tenant(count: Int(try rows.rows.unsigned(row, 1)))
            if !rows.rows.isNull(row, 2) {
                tenant.epochFloor = try rows.rows.unsigned(row, 2)
                guard rows.rows.integer(row, 3) == Int64(Seal.epochFloor(tenant.epochFloor, of: tenants[index])) else {
                    throw ConsumerRows.damage("the epoch of deleted consumers")
                }
            }
            facts.tenants[tenants[index]] = tenant
        }
        facts.time = Timestamp(microseconds: results[first + 6].integer(0, 0))
        try each(results[first + 7]) { index, row, rows throws(PostgresFault) in
            facts.positions[events[index]] = Position(try rows.rows.unsigned(row, 1))
        }
        return facts
    }

    private func each(
        _ rows: PostgresResult, _ body: (Int, Int32, ConsumerRows) throws(PostgresFault) -> Void
    ) throws(PostgresFault) {
        for row in 0..<rows.rowCount { try body(Int(rows.integer(row, 0)) - 1, row, ConsumerRows(rows: rows)) }
    }
}
