import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// The statements that store what changes of consumers, over all tenants of a batch.
struct ConsumerCalls {
    /// What is cleared first.
    private var cleared: [String: (numbers: [Int64], names: [String])] = [:]
    private var consumers: [PostgresCall] = []
    private var slots = SlotColumns()
    private var workers = WorkerColumns()
    private var gone: (numbers: [Int64], consumers: [String], names: [String]) = ([], [], [])
    private var blockedKeys: [PostgresCall] = []
    private var unblocked: (numbers: [Int64], names: [String], slots: [Int64], keys: [[UInt8]]) = ([], [], [], [])

    private struct SlotColumns {
        var numbers: [Int64] = []
        var names: [String] = []
        var slots: [Int64] = []
        var epochs: [Int64] = []
        var positions: [Int64] = []
        var eventIDs: [UUID] = []
        var owners: [UUID] = []
        var seals: [Int64] = []
    }

    private struct WorkerColumns {
        var numbers: [Int64] = []
        var consumers: [String] = []
        var names: [String] = []
        var sessions: [UUID] = []
        var servers: [UUID] = []
        var untils: [Int64] = []
    }

    /// Stands for no id.
    private static let none = UUID(high: 0, low: 0)

    mutating func add(_ plan: TenantPlan, tenantNo: Int64) {
        for consumer in plan.consumers { add(consumer, of: plan.tenant, tenantNo) }
        if let epoch = plan.consumerEpochFloor {
            consumers.append(
                PostgresCall(
                    "put_epoch_floor",
                    [
                        PostgresValue(tenantNo), PostgresValue(Int64(epoch)),
                        PostgresValue(Int64(Seal.epochFloor(epoch, of: plan.tenant))),
                    ]))
        }
    }

    /// All of it, in an order in which it can be stored.
    var calls: [PostgresCall] {
        var calls = ["clear_slots", "clear_blocked_keys", "clear_workers"].compactMap { statement in
            cleared[statement].map { PostgresCall(statement, [PostgresValue($0.numbers), PostgresValue($0.names)]) }
        }
        calls += consumers
        if !slots.numbers.isEmpty {
            calls.append(
                PostgresCall(
                    "put_slots",
                    [
                        PostgresValue(slots.numbers), PostgresValue(slots.names), PostgresValue(slots.slots),
                        PostgresValue(slots.epochs), PostgresValue(slots.positions), PostgresValue(slots.eventIDs),
                        PostgresValue(slots.owners), PostgresValue(slots.seals),
                    ]))
        }
        if !gone.numbers.isEmpty {
            calls.append(
                PostgresCall(
                    "delete_workers",
                    [PostgresValue(gone.numbers), PostgresValue(gone.consumers), PostgresValue(gone.names)]))
        }
        if !workers.numbers.isEmpty {
            calls.append(
                PostgresCall(
                    "put_workers",
                    [
                        PostgresValue(workers.numbers), PostgresValue(workers.consumers), PostgresValue(workers.names),
                        PostgresValue(workers.sessions), PostgresValue(workers.servers), PostgresValue(workers.untils),
                    ]))
        }
        if !unblocked.numbers.isEmpty {
            calls.append(
                PostgresCall(
                    "delete_blocked_keys",
                    [
                        PostgresValue(unblocked.numbers), PostgresValue(unblocked.names),
                        PostgresValue(unblocked.slots), PostgresValue(unblocked.keys),
                    ]))
        }
        return calls + blockedKeys
    }

    private mutating func add(_ plan: ConsumerPlan, of tenant: TenantID, _ tenantNo: Int64) {
        let id = ConsumerID(tenant: tenant, name: plan.name)
        let statements =
            (plan.clearsSlots ? ["clear_slots", "clear_blocked_keys"] : [])
            + (plan.clearsWorkers ? ["clear_workers"] : [])
        for statement in statements {
            cleared[statement, default: ([], [])].numbers.append(tenantNo)
            cleared[statement, default: ([], [])].names.append(plan.name.text)
        }
        if let consumer = plan.consumer { consumers.append(Self.call(consumer, id, tenantNo)) }
        for (number, slot) in plan.slots {
            slots.numbers.append(tenantNo)
            slots.names.append(plan.name.text)
            slots.slots.append(Int64(number))
            slots.epochs.append(Int64(slot.epoch))
            slots.positions.append(Int64(slot.floor.position.rawValue))
            slots.eventIDs.append(slot.floor.eventID ?? Self.none)
            slots.owners.append(slot.owner ?? Self.none)
            slots.seals.append(Int64(Seal.slot(slot, SlotID(consumer: id, number: number))))
        }
        for (name, worker) in plan.workers {
            guard let worker else {
                gone.numbers.append(tenantNo)
                gone.consumers.append(plan.name.text)
                gone.names.append(name.text)
                continue
            }
            workers.numbers.append(tenantNo)
            workers.consumers.append(plan.name.text)
            workers.names.append(name.text)
            workers.sessions.append(worker.session)
            workers.servers.append(worker.server)
            workers.untils.append(worker.until.microseconds)
        }
        for (number, keys) in plan.blockedKeys {
            let slot = SlotID(consumer: id, number: number)
            for (key, blocked) in keys {
                guard let blocked else {
                    unblocked.numbers.append(tenantNo)
                    unblocked.names.append(plan.name.text)
                    unblocked.slots.append(Int64(number))
                    unblocked.keys.append(key.bytes)
                    continue
                }
                blockedKeys.append(Self.call(blocked, BlockedKeyID(slot: slot, key: key), tenantNo))
            }
        }
    }

    private static func call(_ consumer: StoredConsumer?, _ id: ConsumerID, _ tenantNo: Int64) -> PostgresCall {
        let row = [PostgresValue(tenantNo), PostgresValue(id.name.text)]
        guard let consumer else { return PostgresCall("delete_consumer", row) }
        return PostgresCall(
            "put_consumer",
            row + [
                PostgresValue(Int64(consumer.revision)), PostgresValue(Int64(consumer.baseEpoch)),
                PostgresValue(Int64(consumer.start.position.rawValue)),
                consumer.start.eventID.map { PostgresValue($0) } ?? .null, PostgresValue(consumer.document),
                PostgresValue(Int64(Seal.consumer(consumer, id))), PostgresValue(id.tenant.uuid),
            ])
    }

    private static func call(_ blocked: BlockedKey, _ id: BlockedKeyID, _ tenantNo: Int64) -> PostgresCall {
        var retryAt = PostgresValue.null
        if case .retry(let at) = blocked.until { retryAt = PostgresValue(at.microseconds) }
        return PostgresCall(
            "put_blocked_key",
            [
                PostgresValue(tenantNo), PostgresValue(id.slot.consumer.name.text),
                PostgresValue(Int64(id.slot.number)), PostgresValue(ByteBuffer(bytes: id.key.bytes)),
                PostgresValue(Int64(blocked.first.position.rawValue)), PostgresValue(blocked.first.eventID ?? none),
                PostgresValue(blocked.isFirstHandled ? 1 : 0), retryAt, PostgresValue(Int64(blocked.tries)),
                PostgresValue(blocked.since.microseconds), PostgresValue(blocked.reason),
                PostgresValue(Int64(Seal.blockedKey(blocked, id))),
            ])
    }
}
