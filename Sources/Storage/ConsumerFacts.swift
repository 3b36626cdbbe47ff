public import FoundationEssentials
public import MartletModel
public import NIOCore

/// A consumer as it is stored.
public struct StoredConsumer: Hashable, Sendable {
    /// Its definition, as ``ConsumerDefinition/encoded()`` has it.
    public var document: ByteBuffer
    /// The definition's revision; it grows with each change, also over the end of one consumer and the next of its name.
    public var revision: UInt64
    /// The epoch of slots that have no row of their own.
    public var baseEpoch: UInt64
    /// The floor of slots that have no row of their own.
    public var start: Checkpoint

    /// A consumer of those parts.
    public init(document: ByteBuffer, revision: UInt64, baseEpoch: UInt64, start: Checkpoint) {
        self.document = document
        self.revision = revision
        self.baseEpoch = baseEpoch
        self.start = start
    }
}

/// What is stored of a slot beside its blocked keys. A slot gets a row when a worker first gets it.
public struct StoredSlot: Hashable, Sendable {
    /// Fences off who worked on it before.
    public var epoch: UInt64
    /// Everything up to there is settled.
    public var floor: Checkpoint
    /// The session that has it.
    public var owner: UUID?

    /// A slot of those parts.
    public init(epoch: UInt64, floor: Checkpoint, owner: UUID?) {
        self.epoch = epoch
        self.floor = floor
        self.owner = owner
    }
}

/// A consumer with its name.
public struct NamedConsumer: Hashable, Sendable {
    /// Its name.
    public var name: ConsumerName
    /// What is stored of it.
    public var consumer: StoredConsumer

    /// A consumer of that name.
    public init(name: ConsumerName, consumer: StoredConsumer) {
        self.name = name
        self.consumer = consumer
    }
}

/// A blocked key, as it is stored.
public struct StoredBlockedKey: Hashable, Sendable {
    /// The number of its slot.
    public var slot: Int
    /// The key.
    public var key: ConsumerKey
    /// How it is blocked.
    public var blocked: BlockedKey

    /// A blocked key of those parts.
    public init(slot: Int, key: ConsumerKey, blocked: BlockedKey) {
        self.slot = slot
        self.key = key
        self.blocked = blocked
    }
}

/// A worker of a consumer, as it is stored.
public struct GroupWorker: Hashable, Sendable {
    /// Its name.
    public var name: WorkerName
    /// Names this stay of it.
    public var session: UUID
    /// The server to which it is connected.
    public var server: UUID
    /// Until then it counts as present, by the storage's clock.
    public var until: Timestamp

    /// A worker of those parts.
    public init(name: WorkerName, session: UUID, server: UUID, until: Timestamp) {
        self.name = name
        self.session = session
        self.server = server
        self.until = until
    }
}

/// A consumer with its slots and workers.
public struct StoredGroup: Hashable, Sendable {
    /// The consumer.
    public var consumer: StoredConsumer
    /// The slots that have a row, by number.
    public var slots: [Int: StoredSlot]
    /// Its workers, those among them whose time is over; by name.
    public var workers: [WorkerName: GroupWorker]
    /// Whether any key is blocked.
    public var hasBlockedKeys: Bool
    /// Numbers of slots that have a row which is damaged: nothing in it is believed. Only what a change is decided by has
    /// such a group; a reader refuses to read one.
    public var damagedSlots: Set<Int> = []

    /// A group of those parts.
    public init(
        consumer: StoredConsumer, slots: [Int: StoredSlot] = [:], workers: [WorkerName: GroupWorker] = [:],
        hasBlockedKeys: Bool = false
    ) {
        self.consumer = consumer
        self.slots = slots
        self.workers = workers
        self.hasBlockedKeys = hasBlockedKeys
    }

    /// The slot of that number, also where it has no row.
    public func slot(_ number: Int) -> StoredSlot {
        slots[number] ?? StoredSlot(epoch: consumer.baseEpoch, floor: consumer.start, owner: nil)
    }

    /// The position that the furthest of its slots has come to.
    public var furthest: Position { slots.values.reduce(consumer.start.position) { max($0, $1.floor.position) } }

    /// No slot has a higher epoch.
    ///
    /// The epoch of a slot whose row is damaged began at the consumer's and has grown by one at a time, so that it cannot
    /// have come this far; or above what a worker's own database held, which says so again when it comes back.
    var epochMax: UInt64 {
        let known = slots.values.reduce(consumer.baseEpoch) { max($0, $1.epoch) }
        return damagedSlots.isEmpty ? known : known + Self.epochsOfDamagedSlotMax
    }

    private static let epochsOfDamagedSlotMax: UInt64 = 1 << 32
}

/// What must be known of consumers to decide a batch.
public struct ConsumerQuestions: Hashable, Sendable {
    /// These with all their slots and workers, locked first, in their order.
    public var groups: Set<ConsumerID> = []
    /// These slots, those of ``groups`` aside; locked next, in their order.
    public var slots: Set<SlotID> = []
    /// These keys, if they are blocked.
    public var blockedKeys: Set<BlockedKeyID> = []
    /// What consumers these tenants have and had.
    public var tenants: Set<TenantID> = []
    /// The positions of these events.
    public var events: Set<EventKey> = []

    /// No questions yet.
    public init() {}

    /// Whether there are none.
    public var isEmpty: Bool {
        groups.isEmpty && slots.isEmpty && blockedKeys.isEmpty && tenants.isEmpty && events.isEmpty
    }

    /// Adds what deciding on an append with that checkpoint takes.
    public mutating func add(_ checkpoint: AppendCheckpoint, of tenant: TenantID) {
        let consumer = ConsumerID(tenant: tenant, name: checkpoint.consumer)
        let slot = SlotID(consumer: consumer, number: checkpoint.slot)
        slots.insert(slot)
        blockedKeys.insert(BlockedKeyID(slot: slot, key: checkpoint.key))
        if let id = checkpoint.event.eventID { events.insert(EventKey(tenant: tenant, id: id)) }
    }

    /// Adds what deciding that change takes.
    public mutating func add(_ change: ConsumerChange) {
        let consumer = change.consumer
        switch change.kind {
        case .put, .delete:
            groups.insert(consumer)
            tenants.insert(consumer.tenant)
        case .reset, .tend: groups.insert(consumer)
        case .progress(let changes):
            for saving in changes {
                let slot = SlotID(consumer: consumer, number: saving.slot)
                slots.insert(slot)
                for key in saving.change.blocked.keys { blockedKeys.insert(BlockedKeyID(slot: slot, key: key)) }
            }
        case .unblock(let keys):
            for key in keys {
                let slot = SlotID(consumer: consumer, number: key.slot)
                slots.insert(slot)
                blockedKeys.insert(BlockedKeyID(slot: slot, key: key.key))
            }
        }
    }
}

/// What an engine looked up of consumers. What is missing is not there.
public struct ConsumerFacts: Sendable {
    /// Consumers a tenant has, and the highest epoch or revision of any that was deleted.
    public struct Tenant: Hashable, Sendable {
        /// How many consumers it has.
        public var count: Int
        /// The highest epoch or revision of any that was deleted.
        public var epochFloor: UInt64

        /// Facts of those parts.
        public init(count: Int = 0, epochFloor: UInt64 = 0) {
            self.count = count
            self.epochFloor = epochFloor
        }
    }

    /// The groups that were asked for.
    public var groups: [ConsumerID: StoredGroup] = [:]
    /// The slots that were asked for beside them, as far as they have rows.
    public var slots: [SlotID: StoredSlot] = [:]
    /// Those of the keys that are blocked.
    public var blockedKeys: [BlockedKeyID: BlockedKey] = [:]
    /// The tenants that were asked for.
    public var tenants: [TenantID: Tenant] = [:]
    /// The positions of those events that were asked for and are stored.
    public var positions: [EventKey: Position] = [:]
    /// The storage's clock, by which workers are present or not; nil where that is the server's.
    public var time: Timestamp?

    /// No facts yet.
    public init() {}
}

/// What is to be stored of one consumer: what is cleared first, then the rows that are written or deleted.
public struct ConsumerPlan: Hashable, Sendable {
    /// The consumer's name.
    public var name: ConsumerName
    /// All rows of its slots and blocked keys go.
    public var clearsSlots = false
    /// All rows of its workers go.
    public var clearsWorkers = false
    /// Its row, written or (nil) deleted; nil outside where it stays.
    public var consumer: StoredConsumer??
    /// Rows of slots that are written.
    public var slots: [Int: StoredSlot] = [:]
    /// Rows of workers that are written or, where nil, deleted.
    public var workers: [WorkerName: GroupWorker?] = [:]
    /// Rows of blocked keys that are written or, where nil, deleted, by slot.
    public var blockedKeys: [Int: [ConsumerKey: BlockedKey?]] = [:]
    /// The highest epoch or revision of any of the tenant's deleted consumers, where this one is deleted.
    public var epochFloor: UInt64?

    init(_ name: ConsumerName) { self.name = name }

    var isEmpty: Bool { self == ConsumerPlan(name) }
}
