import FoundationEssentials
public import MartletModel
public import MartletStorage

/// Something that is wrong with the rows of a consumer, as SQL that the engines have in common, and what the check must say
/// of it.
public struct ConsumerDamage: Sendable, CustomStringConvertible {
    /// How an engine writes bytes in SQL.
    public enum Dialect: Sendable {
        /// Ids are bytes like others.
        case sqlite
        /// Ids have a type of their own.
        case postgreSQL
    }

    /// The SQL, with words in braces that ``Subject/fill(_:_:)`` knows.
    public let sql: String
    /// What stands in one finding together, in the same way.
    public let words: [String]
    /// The engine keeps ids as bytes, of any number.
    public let takesBytesAsIDs: Bool

    /// The SQL.
    public var description: String { sql }

    private init(_ sql: String, _ words: [String], takesBytesAsIDs: Bool = false) {
        self.sql = sql
        self.words = words
        self.takesBytesAsIDs = takesBytesAsIDs
    }

    /// All of them, for an engine of that dialect.
    public static func all(_ dialect: Dialect) -> [ConsumerDamage] {
        (consumers + slots + workers + blockedKeys).filter { dialect == .sqlite || !$0.takesBytesAsIDs }
    }

    private static let consumers = [
        ConsumerDamage(
            "UPDATE consumers SET seal = seal + 1",
            ["tenant {T}, consumer balances", "that of the row that was written"]),
        ConsumerDamage(
            "UPDATE consumers SET revision = 9", ["tenant {T}, consumer balances", "that of the row that was written"]),
        ConsumerDamage(
            "UPDATE consumers SET tenant_no = 99", ["number 99, which has no row, consumer balances", "tenant number"]),
        ConsumerDamage(
            "UPDATE consumers SET name = 'no name'",
            ["tenant {T}, consumer no name", "a name that no consumer can have"]),
        ConsumerDamage(
            "UPDATE consumers SET tenant = {uuid}",
            [
                "tenant {T}, consumer balances", "tenant 00112233-4455-6677-8899-aabbccddeeff in the column tenant",
                "{T}, the id of its tenant number",
            ]),
        ConsumerDamage(
            "UPDATE consumers SET tenant = {bytes}",
            ["tenant {T}, consumer balances", "bytes that are not a UUID in the column tenant"],
            takesBytesAsIDs: true),
        ConsumerDamage(
            "UPDATE consumers SET definition = {bytes}", ["tenant {T}, consumer balances", "a definition that cannot"]),
        ConsumerDamage(
            "UPDATE consumers SET position = 99", ["tenant {T}, consumer balances", "position 99", "from 0 to 3"]),
        ConsumerDamage(
            "UPDATE consumers SET position = 0",
            ["tenant {T}, consumer balances", "event {id1} at position 0", "no event"]),
        ConsumerDamage(
            "UPDATE consumers SET event_id = NULL",
            ["tenant {T}, consumer balances", "no event's id at position 1", "event {id1}, which is stored"]),
        ConsumerDamage(
            "UPDATE consumer_epochs SET seal = seal + 1",
            ["tenant {T}, epoch of deleted consumers", "that of the row that was written"]),
        ConsumerDamage(
            "UPDATE consumer_epochs SET epoch = 9",
            ["tenant {T}, epoch of deleted consumers", "that of the row that was written"]),
        ConsumerDamage(
            "UPDATE consumer_epochs SET tenant_no = 99", ["number 99, which has no row, epoch of deleted consumers"]),
    ]

    private static let slots = [
        ConsumerDamage(
            "UPDATE consumer_slots SET seal = seal + 1 WHERE slot = {s}",
            ["tenant {T}, consumer balances, slot {s}", "that of the row that was written"]),
        ConsumerDamage(
            "UPDATE consumer_slots SET owner = NULL WHERE slot = {o}",
            ["tenant {T}, consumer balances, slot {o}", "that of the row that was written"]),
        ConsumerDamage(
            "UPDATE consumer_slots SET owner = {bytes} WHERE slot = {o}",
            ["tenant {T}, consumer balances, slot {o}", "an owner that is not a UUID"], takesBytesAsIDs: true),
        ConsumerDamage(
            "UPDATE consumer_slots SET tenant_no = 99 WHERE slot = {s}",
            ["number 99, which has no row, consumer balances, slot {s}", "tenant number"]),
        ConsumerDamage(
            "UPDATE consumer_slots SET consumer = 'other' WHERE slot = {s}",
            ["tenant {T}, consumer other, slot {s}", "no row in consumers", "because it has a slot"]),
        ConsumerDamage(
            "DELETE FROM consumers", ["tenant {T}, consumer balances, slot 1", "no row in consumers"]),
        ConsumerDamage(
            "UPDATE consumer_slots SET slot = 2 WHERE slot = {o}",
            ["tenant {T}, consumer balances, slot 2", "number 2", "from 0 to 1"]),
        ConsumerDamage(
            "UPDATE consumer_slots SET slot = -1 WHERE slot = {o}", ["consumer balances, slot -1", "from 0 to 1"]),
        ConsumerDamage(
            "UPDATE consumer_slots SET epoch = 0 WHERE slot = {s}",
            ["tenant {T}, consumer balances, slot {s}", "epoch 0", "1 or more"]),
        ConsumerDamage(
            "UPDATE consumer_slots SET position = 4 WHERE slot = {s}",
            ["tenant {T}, consumer balances, slot {s}", "position 4", "from 0 to 3"]),
        ConsumerDamage(
            "UPDATE consumer_slots SET position = -1 WHERE slot = {s}", ["slot {s}", "position -1", "from 0 to 3"]),
        ConsumerDamage(
            "UPDATE consumer_slots SET position = 3 WHERE slot = {s}",
            ["tenant {T}, consumer balances, slot {s}", "event {id2} at position 3", "event {id3}, which is stored"]),
        ConsumerDamage(
            "UPDATE consumer_slots SET event_id = {uuid} WHERE slot = {s}",
            ["slot {s}", "event 00112233-4455-6677-8899-aabbccddeeff at position 2", "event {id2}"]),
        ConsumerDamage(
            "UPDATE consumer_slots SET event_id = {bytes} WHERE slot = {s}", ["slot {s}", "an event's id of 2 bytes"],
            takesBytesAsIDs: true),
    ]

    private static let workers = [
        ConsumerDamage(
            "UPDATE consumer_workers SET tenant_no = 99",
            ["number 99, which has no row, consumer balances, worker w", "tenant number"]),
        ConsumerDamage(
            "UPDATE consumer_workers SET consumer = 'other'",
            ["tenant {T}, consumer other, worker w", "no row in consumers", "because it has a worker"]),
        ConsumerDamage(
            "UPDATE consumer_workers SET name = 'no name'",
            ["tenant {T}, consumer balances, worker no name", "a name that no worker can have"]),
        ConsumerDamage(
            "UPDATE consumer_workers SET until = 9000000000000000000",
            ["tenant {T}, consumer balances, worker w", "a lease until", "at the latest"]),
        ConsumerDamage(
            "UPDATE consumer_workers SET session = {bytes}",
            ["consumer balances, worker w", "a session or a server that is not a UUID"],
            takesBytesAsIDs: true),
        ConsumerDamage(
            "UPDATE consumer_workers SET server = {bytes}",
            ["consumer balances, worker w", "a session or a server that is not a UUID"],
            takesBytesAsIDs: true),
    ]

    private static let blockedKeys =
        ["seal = seal + 1", "since = 9", "retry_at = NULL", "retry_at = 9", "reason = 'other'", "tries = 9"].map {
            ConsumerDamage(
                "UPDATE blocked_keys SET \($0)",
                ["tenant {T}, consumer balances, blocked key {key}", "that of the row that was written"])
        } + [
            ConsumerDamage(
                "UPDATE blocked_keys SET tenant_no = 99",
                ["number 99, which has no row, consumer balances, blocked key {key}", "tenant number"]),
            ConsumerDamage(
                "UPDATE blocked_keys SET consumer = 'other'",
                [
                    "tenant {T}, consumer other, blocked key {key}", "no row in consumers",
                    "because it has a blocked key",
                ]),
            ConsumerDamage(
                "DELETE FROM consumer_slots WHERE slot = {s}",
                ["tenant {T}, consumer balances, blocked key {key}", "slot {s}, which has no row in consumer_slots"]),
            ConsumerDamage(
                "UPDATE blocked_keys SET slot = {o}",
                ["tenant {T}, consumer balances, blocked key {key}", "slot {o}", "slot {s}, to which the key belongs"]),
            ConsumerDamage(
                "UPDATE blocked_keys SET slot = -1", ["blocked key {key}", "slot -1, which has no row"]),
            ConsumerDamage(
                "UPDATE blocked_keys SET key = {empty}", ["tenant {T}, consumer balances", "a key of 0 bytes"]),
            ConsumerDamage(
                "UPDATE blocked_keys SET key = {long}", ["tenant {T}, consumer balances", "a key of 300 bytes"]),
            ConsumerDamage(
                "UPDATE blocked_keys SET position = 0", ["blocked key {key}", "position 0", "from 1 to 3"]),
            ConsumerDamage(
                "UPDATE blocked_keys SET position = 4", ["blocked key {key}", "position 4", "from 1 to 3"]),
            ConsumerDamage(
                "UPDATE blocked_keys SET position = 3",
                ["blocked key {key}", "event {id2} at position 3", "event {id3}, which is stored"]),
            ConsumerDamage(
                "UPDATE blocked_keys SET is_first_handled = 2", ["blocked key {key}", "2 for is_first_handled"]),
            ConsumerDamage("UPDATE blocked_keys SET tries = 0", ["blocked key {key}", "0 tries"]),
            ConsumerDamage(
                "UPDATE blocked_keys SET tries = 4294967296", ["blocked key {key}", "4294967296 tries"]),
            ConsumerDamage(
                "UPDATE blocked_keys SET reason = '\(String(repeating: "x", count: 1_025))'",
                ["blocked key {key}", "a reason of 1025 bytes"]),
        ]

    /// Consumers of a tenant in which everything is known.
    ///
    /// The tenant has three events of one aggregate, and a consumer `balances` that begins behind the first one, at epoch 1:
    /// another one was deleted. A worker `w` has both of its slots at epoch 2. The slot of the aggregate's key has come to
    /// position 2, from which the key is blocked.
    public struct Subject: Sendable {
        /// The consumer `balances`.
        public let consumer: ConsumerID
        private var words: [String: String] = [:]

        /// Stores it.
        /// - Parameter tenant: has no events yet.
        public init(_ engine: any StorageEngine, of tenant: TenantID) throws {
            consumer = .named("balances", of: tenant)
            let engineWriter = engine.makeWriter()
            try engineWriter.append(.sample(3, tenant: tenant))
            let events = try engine.makeReader().events(of: tenant)
            let writer = ConsumerWriter(engineWriter)
            var numbers = SeededGenerator(seed: 1)
            let worker = GroupTending.Worker.named("w", &numbers)
            var slots: [GroupView.Slot] = []
            for name in ["old", "balances"] {
                let id = ConsumerID.named(name, of: tenant)
                let put = PutConsumer(
                    ConsumerDefinition(slotCount: 2), start: Checkpoint(events[0]), expected: .none, countMax: 9)
                try writer.change(ConsumerChange(.put(put), of: id))
                if name == "old" { try writer.change(ConsumerChange(.delete, of: id)) }
                if name == "balances" { slots = try writer.tend([worker], of: id) }
            }
            let key = events[1].key(.aggregate)
            let slot = key.slot(of: 2)
            let blocked = BlockedKey(
                first: Checkpoint(events[1]), until: .retry(at: Timestamp(microseconds: 5)), reason: "no such account",
                tries: 2, since: Timestamp(microseconds: 4))
            for held in slots where held.number == slot {
                let change = SlotChange(
                    epoch: held.epoch, from: held.floor, to: Checkpoint(events[1]), blocked: [key: .some(blocked)])
                try writer.change(
                    ConsumerChange(
                        .progress([SlotSaving(slot: slot, change: change)]), of: .named("balances", of: tenant)))
            }
            words = ["T": "\(tenant)", "s": "\(slot)", "o": "\(1 - slot)", "key": "\(key)"]
            for (index, event) in events.enumerated() {
                words["id\(index + 1)"] = event.event.id.uuidString.lowercased()
            }
        }

        /// The text with what stands for the words in braces.
        public func fill(_ text: String, _ dialect: Dialect) -> String {
            let bytes = { (hex: String) in dialect == .sqlite ? "x'\(hex)'" : "'\\x\(hex)'::bytea" }
            let id = "00112233445566778899aabbccddeeff"
            var words = words
            words["bytes"] = bytes("7b7d")
            words["empty"] = bytes("")
            words["long"] = bytes(String(repeating: "61", count: 300))
            words["uuid"] = dialect == .sqlite ? bytes(id) : "'\(id)'::uuid"
            return words.reduce(text) { $0.replacing("{\($1.key)}", with: $1.value) }
        }
    }
}
