import FoundationEssentials
public import NIOCore

/// Which definition of a consumer may be replaced.
public enum ExpectedDefinition: Hashable, Sendable {
    /// None, but an equal one: the consumer is to be made.
    case none
    /// Any, or none.
    case any
    /// The one of that revision, from 1.
    case revision(UInt64)
}

/// Makes a consumer, or replaces its definition; it keeps its place.
public struct PutConsumerRequest: Hashable, Sendable {
    /// The consumer.
    public var consumer: ConsumerID
    /// The definition.
    public var definition: ConsumerDefinition
    /// Where it begins, if it is new.
    public var start: SubscriptionStart
    /// Which definition may be replaced.
    public var expected: ExpectedDefinition

    /// A request of those parts.
    public init(
        _ consumer: ConsumerID, _ definition: ConsumerDefinition, start: SubscriptionStart = .after(.start),
        expected: ExpectedDefinition = .none
    ) {
        self.consumer = consumer
        self.definition = definition
        self.start = start
        self.expected = expected
    }
}

/// The answer to ``PutConsumerRequest``.
public struct PutConsumerReceipt: Hashable, Sendable {
    /// The definition's revision now.
    public var revision: UInt64
    /// The consumer was not there before.
    public var isNew: Bool

    /// A receipt of those parts.
    public init(revision: UInt64, isNew: Bool) {
        self.revision = revision
        self.isNew = isNew
    }
}

/// How a consumer is.
public struct ConsumerDescription: Hashable, Sendable {
    /// A slot that a worker has had.
    public struct Slot: Hashable, Sendable {
        /// Its number.
        public var number: Int
        /// Grows each time that a worker gets the slot.
        public var epoch: UInt64
        /// Everything up to there is settled, or belongs to a blocked key.
        public var checkpoint: Checkpoint
        /// The worker that has it; nil where none has.
        public var worker: WorkerName?

        /// A slot of those parts.
        public init(number: Int, epoch: UInt64, checkpoint: Checkpoint, worker: WorkerName?) {
            self.number = number
            self.epoch = epoch
            self.checkpoint = checkpoint
            self.worker = worker
        }
    }

    /// The consumer's name.
    public var name: ConsumerName
    /// The definition.
    public var definition: ConsumerDefinition
    /// The definition's revision.
    public var revision: UInt64
    /// The end of the tenant's events.
    public var head: TenantHead
    /// The lowest checkpoint of all its slots.
    public var checkpoint: Checkpoint
    /// The slots that a worker has had, by number; all others are at the start, or where the consumer was reset to.
    public var slots: [Slot]
    /// Its workers.
    public var workers: [WorkerName]
    /// How many keys are blocked, those that are tried again by themselves and those that are parked. Counted up to 1,000.
    public var blockedKeyCount: Int
    /// Every event of the consumer up to there is settled, or belongs to a blocked key. At least ``checkpoint``: events
    /// between slots' checkpoints that are not the consumer's, or another slot's, count as settled. Looked for among the next
    /// 10,000 events only.
    public var settledTo: Position
    /// The first event of the consumer that is not settled; nil where there is none up to ``settledTo``.
    public var oldest: OldestEvent?
    /// The last error: of the blocked keys, the one with the latest ``BlockedKey/since``. Nil if no key is blocked.
    public var lastFailure: ListedKey?
    /// Slots that have stopped, sorted by number, at most ``stoppedSlotsMax``: only those whose worker is connected to the
    /// server that answers. It does not know which slots of other servers' workers have stopped.
    public var stoppedSlots: [StoppedSlot]

    /// The most of ``stoppedSlots``.
    public static let stoppedSlotsMax = 100

    /// How many events come after ``settledTo``, those of other filters among them.
    public var positionsBehind: UInt64 { head.position.rawValue - min(head.position, settledTo).rawValue }

    /// The first event that a consumer has not settled.
    public struct OldestEvent: Hashable, Sendable {
        /// Its position.
        public var position: Position
        /// When it was committed.
        public var recordedAt: Timestamp

        /// An event of those parts.
        public init(position: Position, recordedAt: Timestamp) {
            self.position = position
            self.recordedAt = recordedAt
        }
    }

    /// A slot that delivers nothing more to its worker until somebody resets the consumer, unblocks keys of the slot or puts
    /// another definition.
    public struct StoppedSlot: Hashable, Sendable {
        /// Its number.
        public var number: Int
        /// Why: in the worker's words, or in the server's where too many keys are blocked. At most
        /// ``BlockedKey/reasonBytesMax`` bytes.
        public var reason: String

        /// A slot of those parts.
        public init(number: Int, reason: String) {
            self.number = number
            self.reason = reason
        }
    }

    /// A description of those parts.
    public init(
        name: ConsumerName, definition: ConsumerDefinition, revision: UInt64, head: TenantHead, checkpoint: Checkpoint,
        slots: [Slot], workers: [WorkerName], blockedKeyCount: Int, settledTo: Position,
        oldest: OldestEvent?, lastFailure: ListedKey? = nil, stoppedSlots: [StoppedSlot] = []
    ) {
        self.name = name
        self.definition = definition
        self.revision = revision
        self.head = head
        self.checkpoint = checkpoint
        self.slots = slots
        self.workers = workers
        self.blockedKeyCount = blockedKeyCount
        self.settledTo = settledTo
        self.oldest = oldest
        self.lastFailure = lastFailure
        self.stoppedSlots = stoppedSlots
    }
}

/// Asks which consumers a tenant has.
public struct ListConsumersRequest: Hashable, Sendable {
    /// The most that one answer names.
    public static let countMax = 100

    /// The tenant.
    public var tenant: TenantID
    /// Only those above that name.
    public var after: ConsumerName?

    /// A request of those parts.
    public init(tenant: TenantID, after: ConsumerName? = nil) {
        self.tenant = tenant
        self.after = after
    }
}

/// A consumer in a list.
public struct ListedConsumer: Hashable, Sendable {
    /// Its name.
    public var name: ConsumerName
    /// The definition's revision.
    public var revision: UInt64
    /// The definition.
    public var definition: ConsumerDefinition

    /// A consumer of those parts.
    public init(name: ConsumerName, revision: UInt64, definition: ConsumerDefinition) {
        self.name = name
        self.revision = revision
        self.definition = definition
    }
}

/// Has a consumer begin again from another place, with no key blocked.
public struct ResetConsumerRequest: Hashable, Sendable {
    /// The consumer.
    public var consumer: ConsumerID
    /// Where it begins.
    public var start: SubscriptionStart
    /// Nothing is changed: the answer says what would come again.
    public var isPreview: Bool

    /// A request of those parts.
    public init(_ consumer: ConsumerID, start: SubscriptionStart, isPreview: Bool = false) {
        self.consumer = consumer
        self.start = start
        self.isPreview = isPreview
    }
}

/// The answer to ``ResetConsumerRequest``.
public struct ResetConsumerReceipt: Hashable, Sendable {
    /// It begins after that position.
    public var after: Position
    /// The highest checkpoint that any of its slots had.
    public var before: Position

    /// So many positions come again at most: those of its filter and slots among them.
    public var positionsAgain: UInt64 { before.rawValue - min(before, after).rawValue }

    /// A receipt of those parts.
    public init(after: Position, before: Position) {
        self.after = after
        self.before = before
    }
}

/// Asks for keys of a consumer that are blocked.
public struct ListBlockedKeysRequest: Hashable, Sendable {
    /// The most that one answer names.
    public static let countMax = 100

    /// The consumer.
    public var consumer: ConsumerID
    /// Only those above that one.
    public var after: KeyPlace?

    /// A request of those parts.
    public init(_ consumer: ConsumerID, after: KeyPlace? = nil) {
        self.consumer = consumer
        self.after = after
    }
}

/// A key, and the slot that it belongs to.
public struct KeyPlace: Hashable, Sendable {
    /// The number of the slot.
    public var slot: Int
    /// The key.
    public var key: ConsumerKey

    /// A key of those parts.
    public init(slot: Int, key: ConsumerKey) {
        self.slot = slot
        self.key = key
    }
}

/// A blocked key in a list.
public struct ListedKey: Hashable, Sendable {
    /// The key.
    public var place: KeyPlace
    /// How it is blocked.
    public var blocked: BlockedKey

    /// A key of those parts.
    public init(place: KeyPlace, blocked: BlockedKey) {
        self.place = place
        self.blocked = blocked
    }
}

/// Has blocked keys tried again.
public struct UnblockKeysRequest: Hashable, Sendable {
    /// The most keys of one request.
    public static let keysMax = 100

    /// A key that is to be tried again.
    public struct Key: Hashable, Sendable {
        /// The key.
        public var place: KeyPlace
        /// Its first event counts as settled, if it is the one at that position; nil where it is tried again.
        public var skipping: Position?

        /// A key of those parts.
        public init(_ place: KeyPlace, skipping: Position? = nil) {
            self.place = place
            self.skipping = skipping
        }
    }

    /// The consumer.
    public var consumer: ConsumerID
    /// The keys.
    public var keys: [Key]

    /// A request of those parts.
    public init(_ consumer: ConsumerID, keys: [Key]) {
        self.consumer = consumer
        self.keys = keys
    }
}

/// Waits until a consumer has come to a position.
public struct AwaitConsumerRequest: Hashable, Sendable {
    /// The consumer.
    public var consumer: ConsumerID
    /// The position: up to it, everything is settled or belongs to a blocked key.
    public var position: Position

    /// A request of those parts.
    public init(_ consumer: ConsumerID, position: Position) {
        self.consumer = consumer
        self.position = position
    }
}

/// Works on a consumer: gets slots of it, and the events of their keys.
public struct ConsumeRequest: Hashable, Sendable {
    /// The consumer.
    public var consumer: ConsumerID
    /// The worker's name, the same each time that it comes: a newer stream of that name ends an older one.
    public var worker: WorkerName
    /// The highest epoch that the worker's own database holds: its slots get higher ones. At most ``epochMax``.
    public var epochAbove: UInt64
    /// The worker looks itself after handlers that take too long: its deliveries have no acknowledgement time-out, so that no
    /// key is blocked unless it has rejected an event of it.
    public var keepsTime: Bool

    /// The highest ``epochAbove``.
    public static let epochMax: UInt64 = 1 << 62

    /// A request of those parts.
    public init(_ consumer: ConsumerID, worker: WorkerName, epochAbove: UInt64 = 0, keepsTime: Bool = false) {
        self.keepsTime = keepsTime
        self.consumer = consumer
        self.worker = worker
        self.epochAbove = epochAbove
    }
}

/// Works on the consumers of one name of many tenants, in one stream: on those that the tenants have, and on those that they
/// get later.
public struct ConsumeTenantsRequest: Hashable, Sendable {
    /// The consumers' name.
    public var consumer: ConsumerName
    /// The tenants, at most ``Limits/tenantsPerStreamMax``; empty means all that the connection may use.
    public var tenants: Set<TenantID>
    /// The worker's name, the same each time that it comes: a newer stream of that name ends an older one.
    public var worker: WorkerName
    /// The highest epoch that the worker's own database holds, of any tenant: its slots get higher ones. At most
    /// ``ConsumeRequest/epochMax``.
    public var epochAbove: UInt64
    /// The worker looks itself after handlers that take too long (``ConsumeRequest/keepsTime``).
    public var keepsTime: Bool

    /// A request of those parts.
    public init(
        _ consumer: ConsumerName, of tenants: Set<TenantID> = [], worker: WorkerName, epochAbove: UInt64 = 0,
        keepsTime: Bool = false
    ) {
        self.consumer = consumer
        self.tenants = tenants
        self.worker = worker
        self.epochAbove = epochAbove
        self.keepsTime = keepsTime
    }

    /// What a worker asks for that works on the consumer of one of the tenants alone.
    public func request(of tenant: TenantID) -> ConsumeRequest {
        ConsumeRequest(
            ConsumerID(tenant: tenant, name: consumer), worker: worker, epochAbove: epochAbove, keepsTime: keepsTime)
    }
}

/// What a worker says on its stream.
public enum WorkerReply: Hashable, Sendable {
    /// The most of one frame.
    public static let countMax = 1_000
    /// Length of the longest reason that is taken, in bytes of UTF-8; ``BlockedKey/reasonBytesMax`` of them are kept.
    public static let reasonBytesMax = 16 << 10

    /// What became of a delivery that failed.
    public enum Failure: Hashable, Sendable {
        /// It is tried again after so many milliseconds; nil is the consumer's backoff.
        case retry(afterMillis: UInt32?)
        /// Its key waits until somebody retries or skips it.
        case park
        /// Its slot stops.
        case stop
    }

    /// The deliveries of those numbers are settled: one, or all up to it.
    case acknowledge(UInt64, upTo: Bool)
    /// A delivery failed, for that reason.
    case reject(UInt64, Failure, reason: String)
    /// The worker is there. It says so once in a third of ``Limits/consumerLeaseMillis``, unless it says something else.
    case alive
}

/// A message to a worker.
public enum ConsumeMessage: Hashable, Sendable {
    /// A slot that the worker has.
    public struct Slot: Hashable, Sendable {
        /// Its number.
        public var number: Int
        /// The epoch under which the worker has it: what it stores itself is stored under this one, and never under a
        /// lower one than is there.
        public var epoch: UInt64
        /// Everything up to there is settled, or belongs to a blocked key.
        public var checkpoint: Checkpoint

        /// A slot of those parts.
        public init(number: Int, epoch: UInt64, checkpoint: Checkpoint) {
            self.number = number
            self.epoch = epoch
            self.checkpoint = checkpoint
        }
    }

    /// An event that is delivered.
    public struct Delivery: Hashable, Sendable {
        /// The deliveries of the stream are numbered from 1.
        public var number: UInt64
        /// The slot.
        public var slot: Int
        /// How often it was tried with this.
        public var attempt: UInt32
        /// It may have been handled before.
        public var mayBeRepeated: Bool
        /// Its key.
        public var key: ConsumerKey
        /// The key was blocked when the event was delivered, or had been so a moment before.
        public var isKeyBlocked: Bool

        /// A delivery of those parts.
        public init(
            number: UInt64, slot: Int, attempt: UInt32, mayBeRepeated: Bool, key: ConsumerKey,
            isKeyBlocked: Bool = false
        ) {
            self.key = key
            self.isKeyBlocked = isKeyBlocked
            self.number = number
            self.slot = slot
            self.attempt = attempt
            self.mayBeRepeated = mayBeRepeated
        }
    }

    /// The worker has those slots from now on. The first message, perhaps of none.
    case assigned([Slot])
    /// The worker no longer has those slots: what it says of their deliveries comes too late.
    case revoked([Int])
    /// Events, as entries (``EventPage/entries``), each with its delivery, in their order.
    case events(ByteBuffer, [Delivery])
    /// What is stored of a slot has come to that checkpoint.
    case committed(slot: Int, Checkpoint)
    /// A slot delivers nothing more to this worker, for that reason, until somebody resets the consumer or puts another
    /// definition. It goes on where the worker comes again, or another one gets it.
    case stopped(slot: Int, reason: String)
    /// The consumer is paused, or goes on.
    case paused(Bool)
    /// The next event needs that much credit, and the worker has granted less.
    case waits(creditBytes: UInt64)
    /// On a stream over many tenants: the worker joins the consumers of those. The first message there, perhaps of none.
    case joined([TenantID])
    /// On a stream over many tenants: the worker has left the consumer of that tenant, and has no slots of it any more. It
    /// joins again by itself when the consumer is there again; after a failure, within a minute.
    case left(MartletError)
}
