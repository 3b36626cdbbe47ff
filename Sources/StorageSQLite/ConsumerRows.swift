import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// Consumers, their slots, workers and blocked keys: see Docs/decisions/0044.
enum ConsumerRows {
    static let migration = """
        DROP TABLE progress;    -- nothing was ever written to it

        CREATE TABLE consumers (
            tenant_no  INTEGER NOT NULL,
            name       TEXT    NOT NULL,
            revision   INTEGER NOT NULL,    -- of its definition
            base_epoch INTEGER NOT NULL,    -- of slots without a row
            position   INTEGER NOT NULL,    -- where slots without a row begin: everything up to there is settled
            event_id   BLOB,                -- of the event at that position; NULL at 0
            definition BLOB    NOT NULL,    -- JSON
            seal       INTEGER NOT NULL,    -- CRC-32C of all that the row says, and of whom
            PRIMARY KEY (tenant_no, name)
        ) WITHOUT ROWID, STRICT;

        -- What deleted consumers leave: those of the same names go on above their epochs.
        CREATE TABLE consumer_epochs (
            tenant_no INTEGER PRIMARY KEY,
            epoch     INTEGER NOT NULL,
            seal      INTEGER NOT NULL
        ) STRICT;

        CREATE TABLE consumer_slots (
            tenant_no INTEGER NOT NULL,
            consumer  TEXT    NOT NULL,
            slot      INTEGER NOT NULL,
            epoch     INTEGER NOT NULL,     -- fences off who worked on it before
            position  INTEGER NOT NULL,     -- everything up to there is settled, or of a blocked key
            event_id  BLOB,                 -- of the event at that position; NULL at 0
            owner     BLOB,                 -- the session of the worker that has it
            seal      INTEGER NOT NULL,
            PRIMARY KEY (tenant_no, consumer, slot)
        ) WITHOUT ROWID, STRICT;

        CREATE TABLE consumer_workers (
            tenant_no INTEGER NOT NULL,
            consumer  TEXT    NOT NULL,
            name      TEXT    NOT NULL,
            session   BLOB    NOT NULL,     -- names this stay of it
            server    BLOB    NOT NULL,
            until     INTEGER NOT NULL,     -- it counts as present, microseconds since 1970 UTC
            PRIMARY KEY (tenant_no, consumer, name)
        ) WITHOUT ROWID, STRICT;

        CREATE TABLE blocked_keys (
            tenant_no        INTEGER NOT NULL,
            consumer         TEXT    NOT NULL,
            slot             INTEGER NOT NULL,
            key              BLOB    NOT NULL,
            position         INTEGER NOT NULL,  -- its first event that is not settled
            event_id         BLOB    NOT NULL,
            is_first_handled INTEGER NOT NULL,  -- 1: that event is settled after all
            retry_at         INTEGER,           -- microseconds since 1970 UTC; NULL: it is parked
            tries            INTEGER NOT NULL,
            since            INTEGER NOT NULL,  -- the first of these tries failed
            reason           TEXT    NOT NULL,
            seal             INTEGER NOT NULL,
            PRIMARY KEY (tenant_no, consumer, slot, key)
        ) WITHOUT ROWID, STRICT;
        """

    /// The key that failed last is found without reading the others.
    static let lastFailureMigration =
        "CREATE INDEX blocked_keys_by_failure ON blocked_keys (tenant_no, consumer, since, slot, key);"

    /// A consumer's row has its tenant's id too: who has a consumer of one name is found in the order of these ids.
    static let tenantMigration = """
        ALTER TABLE consumers ADD COLUMN tenant BLOB NOT NULL DEFAULT x'';   -- the id of the tenant of that number
        UPDATE consumers SET tenant = t.id FROM tenants t WHERE t.no = consumers.tenant_no;
        CREATE INDEX consumers_by_name ON consumers (name, tenant);
        """

    static func sql(_ query: Query) -> String {
        switch query {
        case .selectConsumer:
            "SELECT \(consumerColumns) FROM consumers WHERE tenant_no = ?1 AND name = ?2"
        case .selectConsumers:
            "SELECT \(consumerColumns) FROM consumers WHERE tenant_no = ?1 AND name > ?2 ORDER BY name LIMIT ?3"
        case .selectTenantsWithConsumer:
            // A row that has the id of another tenant than its own is left out.
            """
            SELECT c.tenant FROM consumers c CROSS JOIN tenants t
            WHERE c.name = ?1 AND c.tenant > ?2 AND t.id = c.tenant AND t.no = c.tenant_no ORDER BY c.tenant LIMIT ?3
            """
        case .selectTenantWithConsumer:
            """
            SELECT 1 FROM tenants t CROSS JOIN consumers c
            WHERE t.id = ?1 AND c.tenant_no = t.no AND c.name = ?2
            """
        case .countConsumers: "SELECT count(*) FROM consumers WHERE tenant_no = ?1"
        case .putConsumer:
            """
            INSERT OR REPLACE INTO consumers (
                tenant_no, name, revision, base_epoch, position, event_id, definition, seal, tenant)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
            """
        case .deleteConsumer: "DELETE FROM consumers WHERE tenant_no = ?1 AND name = ?2"
        case .selectEpochFloor: "SELECT epoch, seal FROM consumer_epochs WHERE tenant_no = ?1"
        case .putEpochFloor: "INSERT OR REPLACE INTO consumer_epochs (tenant_no, epoch, seal) VALUES (?1, ?2, ?3)"
        case .selectSlot:
            "SELECT \(slotColumns) FROM consumer_slots WHERE tenant_no = ?1 AND consumer = ?2 AND slot = ?3"
        case .selectSlots: "SELECT \(slotColumns) FROM consumer_slots WHERE tenant_no = ?1 AND consumer = ?2"
        case .putSlot:
            """
            INSERT OR REPLACE INTO consumer_slots (
                tenant_no, consumer, slot, epoch, position, event_id, owner, seal)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
            """
        case .deleteSlots: "DELETE FROM consumer_slots WHERE tenant_no = ?1 AND consumer = ?2"
        case .selectWorkers:
            "SELECT name, session, server, until FROM consumer_workers WHERE tenant_no = ?1 AND consumer = ?2"
        case .putWorker:
            """
            INSERT OR REPLACE INTO consumer_workers (tenant_no, consumer, name, session, server, until)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6)
            """
        case .deleteWorker: "DELETE FROM consumer_workers WHERE tenant_no = ?1 AND consumer = ?2 AND name = ?3"
        case .deleteWorkers: "DELETE FROM consumer_workers WHERE tenant_no = ?1 AND consumer = ?2"
        case .selectBlockedKey:
            """
            SELECT \(blockedKeyColumns) FROM blocked_keys
            WHERE tenant_no = ?1 AND consumer = ?2 AND slot = ?3 AND key = ?4
            """
        case .selectBlockedKeys:
            // Above a slot and a key, up to a slot.
            """
            SELECT \(blockedKeyColumns) FROM blocked_keys
            WHERE tenant_no = ?1 AND consumer = ?2 AND (slot, key) > (?3, ?4) AND slot <= ?5
            ORDER BY slot, key LIMIT ?6
            """
        case .selectLastBlockedKey:
            """
            SELECT \(blockedKeyColumns) FROM blocked_keys
            WHERE tenant_no = ?1 AND consumer = ?2 ORDER BY since DESC, slot DESC, key DESC LIMIT 1
            """
        case .putBlockedKey:
            """
            INSERT OR REPLACE INTO blocked_keys (
                tenant_no, consumer, slot, key, position, event_id, is_first_handled, retry_at, tries, since, reason, seal)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
            """
        case .deleteBlockedKey:
            "DELETE FROM blocked_keys WHERE tenant_no = ?1 AND consumer = ?2 AND slot = ?3 AND key = ?4"
        case .deleteBlockedKeys: "DELETE FROM blocked_keys WHERE tenant_no = ?1 AND consumer = ?2"
        default: preconditionFailure("no statement of consumers")
        }
    }

    private static let consumerColumns = "name, revision, base_epoch, position, event_id, definition, seal"
    private static let slotColumns = "slot, epoch, position, event_id, owner, seal"
    private static let blockedKeyColumns =
        "slot, key, position, event_id, is_first_handled, retry_at, tries, since, reason, seal"
}

/// The tenants that have a consumer of one name, in the read that is open: see ``StorageReader``.
struct ConsumerTenantRows {
    let name: ConsumerName
    let connection: SQLiteConnection

    func list(
        in scope: TenantScope, after tenant: TenantID?, countMax: Int
    ) throws(SQLiteFault) -> [TenantID] {
        switch scope {
        case .all: try list(after: tenant, countMax: countMax)
        case .only(let tenants):
            try list(of: tenants.filter { one in tenant.map { one > $0 } ?? true }.sorted(), countMax: countMax)
        }
    }

    private func list(after tenant: TenantID?, countMax: Int) throws(SQLiteFault) -> [TenantID] {
        let select = try connection.statement(.selectTenantsWithConsumer)
        select.bind(1, name.text)
        // Every id is above no bytes.
        if let tenant { select.bind(2, tenant.uuid) } else { select.bind(2, bytes: []) }
        select.bind(3, Int64(countMax))
        var found: [TenantID] = []
        try select.visit { row throws(SQLiteFault) in
            guard let id = unsafe UUID(bytes: row.blob(0)) else { throw .corrupted("a tenant's id is not a UUID") }
            found.append(TenantID(id))
        }
        return found
    }

    private func list(of tenants: [TenantID], countMax: Int) throws(SQLiteFault) -> [TenantID] {
        let select = try connection.statement(.selectTenantWithConsumer)
        select.bind(2, name.text)
        var found: [TenantID] = []
        for tenant in tenants where found.count < countMax {
            select.bind(1, tenant.uuid)
            if try select.firstRow({ _ in true }) != nil { found.append(tenant) }
        }
        return found
    }
}

/// Consumers of one tenant, in the transaction or the read that is open.
struct TenantConsumerRows {
    let tenant: TenantID
    let tenantNo: Int64
    let connection: SQLiteConnection

    // MARK: Reading

    func list(after name: ConsumerName?, countMax: Int) throws(SQLiteFault) -> [NamedConsumer] {
        let select = try connection.statement(.selectConsumers)
        select.bind(1, tenantNo)
        select.bind(2, name?.text ?? "")
        select.bind(3, Int64(countMax))
        var found: [NamedConsumer] = []
        try select.visit { row throws(SQLiteFault) in found.append(try consumer(row)) }
        return found
    }

    /// - Parameter isDamageNoted: slots whose rows are damaged are told of; otherwise one refuses the read.
    func group(_ name: ConsumerName, isDamageNoted: Bool = false) throws(SQLiteFault) -> StoredGroup? {
        let select = try connection.statement(.selectConsumer)
        bind(select, name)
        guard let found = try select.firstRow({ row throws(SQLiteFault) in try consumer(row) }) else { return nil }
        var group = StoredGroup(consumer: found.consumer)
        let slots = try connection.statement(.selectSlots)
        bind(slots, name)
        try slots.visit { row throws(SQLiteFault) in
            do throws(SQLiteFault) {
                let (number, slot) = try slot(row, of: name)
                group.slots[number] = slot
            } catch {
                guard isDamageNoted else { throw error }
                group.damagedSlots.insert(Int(row.integer(0)))
            }
        }
        let workers = try connection.statement(.selectWorkers)
        bind(workers, name)
        try workers.visit { row throws(SQLiteFault) in
            guard let worker = WorkerName(row.text(0)), let session = unsafe UUID(bytes: row.blob(1)),
                let server = unsafe UUID(bytes: row.blob(2))
            else { throw .corrupted("a worker of the consumer \(name) is none") }
            group.workers[worker] = GroupWorker(
                name: worker, session: session, server: server, until: Timestamp(microseconds: row.integer(3)))
        }
        group.hasBlockedKeys = try blockedKeys(of: name, slot: nil, after: nil, countMax: 1).count > 0
        return group
    }

    func slot(_ number: Int, of name: ConsumerName) throws(SQLiteFault) -> StoredSlot? {
        let select = try connection.statement(.selectSlot)
        bind(select, name)
        select.bind(3, Int64(number))
        return try select.firstRow { row throws(SQLiteFault) in try slot(row, of: name).slot }
    }

    func blockedKey(_ key: ConsumerKey, slot: Int, of name: ConsumerName) throws(SQLiteFault) -> BlockedKey? {
        let select = try connection.statement(.selectBlockedKey)
        bind(select, name)
        select.bind(3, Int64(slot))
        select.bind(4, bytes: key.bytes)
        return try select.firstRow { row throws(SQLiteFault) in try blockedKey(row, of: name).blocked }
    }

    func blockedKeys(
        of name: ConsumerName, slot: Int?, after key: BlockedKeyID?, countMax: Int
    ) throws(SQLiteFault) -> [StoredBlockedKey] {
        let select = try connection.statement(.selectBlockedKeys)
        bind(select, name)
        // A key has at least one byte: none is above every key of the slot before.
        let first = max(key?.slot.number ?? 0, slot ?? 0)
        select.bind(3, Int64(first))
        select.bind(4, bytes: key.map { $0.slot.number == first ? $0.key.bytes : [] } ?? [])
        select.bind(5, Int64(slot ?? ConsumerDefinition.slotsMax))
        select.bind(6, Int64(countMax))
        var found: [StoredBlockedKey] = []
        try select.visit { row throws(SQLiteFault) in found.append(try blockedKey(row, of: name)) }
        return found
    }

    func facts() throws(SQLiteFault) -> ConsumerFacts.Tenant {
        let count = try connection.statement(.countConsumers)
        count.bind(1, tenantNo)
        let floor = try connection.statement(.selectEpochFloor)
        floor.bind(1, tenantNo)
        let epoch = try floor.firstRow { row throws(SQLiteFault) in
            let epoch = try row.unsigned(0)
            guard row.integer(1) == Int64(Seal.epochFloor(epoch, of: tenant)) else {
                throw .corrupted("the epoch of deleted consumers does not match its checksum")
            }
            return epoch
        }
        return ConsumerFacts.Tenant(
            count: Int(try count.firstRow { $0.integer(0) } ?? 0), epochFloor: epoch ?? 0)
    }

    func lastBlockedKey(of name: ConsumerName) throws(SQLiteFault) -> StoredBlockedKey? {
        let select = try connection.statement(.selectLastBlockedKey)
        bind(select, name)
        return try select.firstRow { row throws(SQLiteFault) in try blockedKey(row, of: name) }
    }

    private func consumer(_ row: borrowing SQLiteStatement.Row) throws(SQLiteFault) -> NamedConsumer {
        guard let name = ConsumerName(row.text(0)) else { throw .corrupted("a consumer's name is none") }
        let consumer = StoredConsumer(
            document: unsafe ByteBuffer(bytes: row.blob(5)), revision: try row.unsigned(1),
            baseEpoch: try row.unsigned(2),
            start: Checkpoint(position: Position(try row.unsigned(3)), eventID: unsafe UUID(bytes: row.blob(4))))
        try check(row, 6, Seal.consumer(consumer, id(name)), "the consumer \(name)")
        return NamedConsumer(name: name, consumer: consumer)
    }

    private func slot(
        _ row: borrowing SQLiteStatement.Row, of name: ConsumerName
    ) throws(SQLiteFault) -> (number: Int, slot: StoredSlot) {
        let number = Int(try row.unsigned(0, to: Int64(ConsumerDefinition.slotsMax)))
        let slot = StoredSlot(
            epoch: try row.unsigned(1),
            floor: Checkpoint(position: Position(try row.unsigned(2)), eventID: unsafe UUID(bytes: row.blob(3))),
            owner: unsafe UUID(bytes: row.blob(4)))
        try check(row, 5, Seal.slot(slot, SlotID(consumer: id(name), number: number)), "slot \(number) of \(name)")
        return (number, slot)
    }

    private func blockedKey(
        _ row: borrowing SQLiteStatement.Row, of name: ConsumerName
    ) throws(SQLiteFault) -> StoredBlockedKey {
        let number = Int(try row.unsigned(0, to: Int64(ConsumerDefinition.slotsMax)))
        let key = ConsumerKey(bytes: unsafe Array(row.blob(1)))
        var blocked = BlockedKey(
            first: Checkpoint(position: Position(try row.unsigned(2)), eventID: unsafe UUID(bytes: row.blob(3))),
            until: row.isNull(5) ? .asked : .retry(at: Timestamp(microseconds: row.integer(5))), reason: row.text(8),
            tries: UInt32(try row.unsigned(6, to: Int64(UInt32.max))),
            since: Timestamp(microseconds: row.integer(7)))
        blocked.isFirstHandled = row.integer(4) != 0
        let place = BlockedKeyID(slot: SlotID(consumer: id(name), number: number), key: key)
        try check(row, 9, Seal.blockedKey(blocked, place), "a blocked key of \(name)")
        return StoredBlockedKey(slot: number, key: key, blocked: blocked)
    }

    private func check(
        _ row: borrowing SQLiteStatement.Row, _ column: Int32, _ seal: UInt32, _ what: String
    ) throws(SQLiteFault) {
        guard row.integer(column) == Int64(seal) else {
            throw .corrupted("what is stored of \(what) does not match its checksum")
        }
    }

    // MARK: Writing

    func store(_ plan: ConsumerPlan) throws(SQLiteFault) {
        if plan.clearsSlots {
            try run(.deleteSlots, plan.name)
            try run(.deleteBlockedKeys, plan.name)
        }
        if plan.clearsWorkers { try run(.deleteWorkers, plan.name) }
        if let consumer = plan.consumer {
            if let consumer { try put(consumer, plan.name) } else { try run(.deleteConsumer, plan.name) }
        }
        for (number, slot) in plan.slots { try put(slot, SlotID(consumer: id(plan.name), number: number)) }
        for (worker, present) in plan.workers {
            let statement = try connection.statement(present == nil ? .deleteWorker : .putWorker)
            bind(statement, plan.name)
            statement.bind(3, worker.text)
            if let present {
                statement.bind(4, present.session)
                statement.bind(5, present.server)
                statement.bind(6, present.until.microseconds)
            }
            try statement.run()
        }
        for (number, keys) in plan.blockedKeys {
            for (key, blocked) in keys {
                try put(blocked, BlockedKeyID(slot: SlotID(consumer: id(plan.name), number: number), key: key))
            }
        }
    }

    func put(epochFloor epoch: UInt64) throws(SQLiteFault) {
        let put = try connection.statement(.putEpochFloor)
        put.bind(1, tenantNo)
        put.bind(2, Int64(epoch))
        put.bind(3, Int64(Seal.epochFloor(epoch, of: tenant)))
        try put.run()
    }

    private func put(_ consumer: StoredConsumer, _ name: ConsumerName) throws(SQLiteFault) {
        let put = try connection.statement(.putConsumer)
        bind(put, name)
        put.bind(3, Int64(consumer.revision))
        put.bind(4, Int64(consumer.baseEpoch))
        put.bind(5, Int64(consumer.start.position.rawValue))
        put.bind(6, consumer.start.eventID)
        put.bind(8, Int64(Seal.consumer(consumer, id(name))))
        put.bind(9, tenant.uuid)
        try put.run(blob: 7, consumer.document)
    }

    private func put(_ slot: StoredSlot, _ id: SlotID) throws(SQLiteFault) {
        let put = try connection.statement(.putSlot)
        bind(put, id.consumer.name)
        put.bind(3, Int64(id.number))
        put.bind(4, Int64(slot.epoch))
        put.bind(5, Int64(slot.floor.position.rawValue))
        put.bind(6, slot.floor.eventID)
        put.bind(7, slot.owner)
        put.bind(8, Int64(Seal.slot(slot, id)))
        try put.run()
    }

    func position(of event: UUID) throws(SQLiteFault) -> Position? {
        let statement = try connection.statement(.selectPositionOfID)
        statement.bind(1, tenantNo)
        statement.bind(2, event)
        return try statement.firstRow { row throws(SQLiteFault) in Position(try row.unsigned(0)) }
    }

    private func put(_ blocked: BlockedKey?, _ id: BlockedKeyID) throws(SQLiteFault) {
        let statement = try connection.statement(blocked == nil ? .deleteBlockedKey : .putBlockedKey)
        bind(statement, id.slot.consumer.name)
        statement.bind(3, Int64(id.slot.number))
        statement.bind(4, bytes: id.key.bytes)
        if let blocked {
            statement.bind(5, Int64(blocked.first.position.rawValue))
            statement.bind(6, blocked.first.eventID)
            statement.bind(7, blocked.isFirstHandled ? 1 : 0)
            if case .retry(let at) = blocked.until { statement.bind(8, at.microseconds) } else { statement.bindNull(8) }
            statement.bind(9, Int64(blocked.tries))
            statement.bind(10, blocked.since.microseconds)
            statement.bind(11, blocked.reason)
            statement.bind(12, Int64(Seal.blockedKey(blocked, id)))
        }
        try statement.run()
    }

    private func run(_ query: Query, _ name: ConsumerName) throws(SQLiteFault) {
        let statement = try connection.statement(query)
        bind(statement, name)
        try statement.run()
    }

    private func bind(_ statement: SQLiteStatement, _ name: ConsumerName) {
        statement.bind(1, tenantNo)
        statement.bind(2, name.text)
    }

    private func id(_ name: ConsumerName) -> ConsumerID { ConsumerID(tenant: tenant, name: name) }
}

extension ConsumerQuestions {
    /// What is stored; nothing of tenants that are not.
    func facts(_ rows: (TenantID) -> TenantConsumerRows?) throws(SQLiteFault) -> ConsumerFacts {
        var facts = ConsumerFacts()
        for id in groups { facts.groups[id] = try rows(id.tenant)?.group(id.name, isDamageNoted: true) }
        for id in slots where facts.groups[id.consumer] == nil {
            facts.slots[id] = try rows(id.consumer.tenant)?.slot(id.number, of: id.consumer.name)
        }
        for id in blockedKeys {
            let slot = id.slot
            facts.blockedKeys[id] = try rows(slot.consumer.tenant)?.blockedKey(
                id.key, slot: slot.number, of: slot.consumer.name)
        }
        for id in tenants { facts.tenants[id] = try rows(id)?.facts() }
        for key in events { facts.positions[key] = try rows(key.tenant)?.position(of: key.id) }
        return facts
    }
}
