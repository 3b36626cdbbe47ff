public import FoundationEssentials
public import MartletModel

/// A change of a consumer, of who works on it, or of how far it has come.
public struct ConsumerChange: Hashable, Sendable {
    /// What is to be changed.
    public enum Kind: Hashable, Sendable {
        /// Makes the consumer, or replaces its definition.
        case put(PutConsumer)
        /// Deletes it with all that is stored of it.
        case delete
        /// Has it begin again behind that place, with no key blocked.
        case reset(to: Checkpoint)
        /// Says which workers a server has, and divides the slots.
        case tend(GroupTending)
        /// Stores how far slots have come, each for itself.
        case progress([SlotSaving])
        /// Has keys tried again that are blocked.
        case unblock([KeyUnblocking])
    }

    /// The consumer.
    public var consumer: ConsumerID
    /// What is to be changed.
    public var kind: Kind

    /// A change of those parts.
    public init(_ kind: Kind, of consumer: ConsumerID) {
        self.consumer = consumer
        self.kind = kind
    }

    /// Whether it changes which consumers the tenant has.
    var movesTenant: Bool {
        switch kind {
        case .put, .delete: true
        case .reset, .tend, .progress, .unblock: false
        }
    }

    /// Whether the tenant may come into being by it.
    var makesTenant: Bool { if case .put = kind { true } else { false } }

    /// Bytes that it carries, about.
    var contentBytes: Int {
        switch kind {
        case .put(let put): put.definition.encodedBytesMax
        case .delete, .reset: 0
        case .tend(let tending): tending.workers.count * 256 + (tending.leaving.count + tending.returned.count) * 32
        case .progress(let changes): changes.reduce(0) { $0 + $1.change.memoryBytes }
        case .unblock(let keys): keys.reduce(0) { $0 + $1.key.bytes.count + 64 }
        }
    }

    /// How many rows it writes, about.
    var rowCount: Int {
        switch kind {
        case .put, .delete, .reset: 1
        case .tend(let tending): 1 + tending.workers.count
        case .progress(let changes): changes.reduce(0) { $0 + 1 + $1.change.blocked.count }
        case .unblock(let keys): keys.count
        }
    }
}

/// Makes a consumer, or replaces its definition. It keeps its place.
public struct PutConsumer: Hashable, Sendable {
    /// The definition.
    public var definition: ConsumerDefinition
    /// Where it begins, if it is new.
    public var start: Checkpoint
    /// Which definition may be replaced.
    public var expected: ExpectedDefinition
    /// So many consumers a tenant may have.
    public var countMax: Int

    /// A change of those parts.
    public init(_ definition: ConsumerDefinition, start: Checkpoint, expected: ExpectedDefinition, countMax: Int) {
        self.definition = definition
        self.start = start
        self.expected = expected
        self.countMax = countMax
    }
}

/// What a server says of a consumer's workers that are connected to it, from time to time and when one comes or goes.
public struct GroupTending: Hashable, Sendable {
    /// A worker of the server.
    public struct Worker: Hashable, Sendable {
        /// Names this stay of it.
        public var session: UUID
        /// Its name.
        public var name: WorkerName
        /// The highest epoch that its own database holds: what it gets has higher ones.
        public var epochAbove: UInt64
        /// It has just come: where another session has its name, it takes that one's place.
        public var isNew: Bool

        /// A worker of those parts.
        public init(session: UUID, name: WorkerName, epochAbove: UInt64 = 0, isNew: Bool = false) {
            self.session = session
            self.name = name
            self.epochAbove = epochAbove
            self.isNew = isNew
        }
    }

    /// A slot that a worker gives back: nothing of it is under way any more.
    public struct Returned: Hashable, Sendable {
        /// The slot's number.
        public var slot: Int
        /// The epoch under which the worker has it.
        public var epoch: UInt64

        /// A slot of those parts.
        public init(slot: Int, epoch: UInt64) {
            self.slot = slot
            self.epoch = epoch
        }
    }

    /// The server.
    public var server: UUID
    /// All of its workers.
    public var workers: [Worker]
    /// Sessions of it that are over.
    public var leaving: [UUID]
    /// Slots that its workers give back.
    public var returned: [Returned]
    /// For so long the workers count as present, by the storage's clock.
    public var leaseMicros: Int64
    /// So many workers the consumer may have, on all servers.
    public var workersMax: Int

    /// What is said of those parts.
    public init(
        server: UUID, workers: [Worker], leaving: [UUID] = [], returned: [Returned] = [], leaseMicros: Int64,
        workersMax: Int
    ) {
        self.server = server
        self.workers = workers
        self.leaving = leaving
        self.returned = returned
        self.leaseMicros = leaseMicros
        self.workersMax = workersMax
    }
}

/// A change of a slot's progress.
public struct SlotSaving: Hashable, Sendable {
    /// The slot's number.
    public var slot: Int
    /// What changes.
    public var change: SlotChange

    /// A change of those parts.
    public init(slot: Int, change: SlotChange) {
        self.slot = slot
        self.change = change
    }
}

/// A blocked key that is to be tried again.
public struct KeyUnblocking: Hashable, Sendable {
    /// The number of its slot.
    public var slot: Int
    /// The key.
    public var key: ConsumerKey
    /// Its first event counts as handled, if it is the one at that position; nil where it is tried again.
    public var skipping: Position?

    /// A key of those parts.
    public init(slot: Int, key: ConsumerKey, skipping: Position? = nil) {
        self.slot = slot
        self.key = key
        self.skipping = skipping
    }
}

/// What became of a ``ConsumerChange``.
public enum ConsumerOutcome: Hashable, Sendable {
    /// The definition has that revision now.
    case put(revision: UInt64, isNew: Bool)
    /// It is deleted.
    case deleted
    /// It begins again after that position; before, its furthest slot had come to that one.
    case reset(after: Position, before: Position)
    /// How the group is.
    case tended(GroupView)
    /// What became of each slot's change, in the order of the changes.
    case progress([SlotSaved])
    /// Of the keys, so many are tried again, and of these so many without the event that was skipped; the others are not
    /// blocked, or not from that event.
    case unblocked(Int, skipped: Int)
    /// There is no such consumer; nothing was written.
    case missing
    /// The consumer is there with another definition, of that revision; nothing was written.
    case exists(revision: UInt64)
    /// Its definition has that revision, not the expected one; 0 where there is none. Nothing was written.
    case revisionConflict(UInt64)
    /// The keys would be divided differently, for which the consumer must be paused and no key blocked; nothing was written.
    case divisionInUse(isPaused: Bool)
    /// The tenant has as many consumers as it may; nothing was written.
    case tooMany(max: Int)
    /// The stored definition cannot be read.
    case unreadable(MartletError)
}

/// What became of a slot's change.
public enum SlotSaved: Hashable, Sendable {
    /// It is stored.
    case saved
    /// The slot has that epoch now, or the progress that is stored is not the one that the change goes on from; nothing was
    /// written of the slot.
    case fenced(epoch: UInt64)
}

/// Why an append's checkpoint cannot be stored.
public enum CheckpointRefusal: Hashable, Sendable {
    /// The slot has that epoch now; 0 where no worker has had it.
    case fenced(epoch: UInt64)
    /// The event is settled: the slot has come to that position.
    case settled(to: Position)
    /// The event's key is blocked since it was delivered: it comes again.
    case takenBack
    /// The storage has no such event.
    case missing
}

/// A consumer's workers and slots, as one server is told.
public struct GroupView: Hashable, Sendable {
    /// A slot that a worker has.
    public struct Slot: Hashable, Sendable {
        /// Its number.
        public var number: Int
        /// The epoch under which the worker has it.
        public var epoch: UInt64
        /// Everything up to there is settled.
        public var floor: Checkpoint

        /// A slot of those parts.
        public init(number: Int, epoch: UInt64, floor: Checkpoint) {
            self.number = number
            self.epoch = epoch
            self.floor = floor
        }
    }

    /// A worker of the server.
    public struct Worker: Hashable, Sendable {
        /// Names its stay.
        public var session: UUID
        /// The slots that it has, by their numbers.
        public var slots: [Slot]
        /// So many of them it is to give back.
        public var excess: Int
    }

    /// Why a worker has no place.
    public enum Refusal: Hashable, Sendable {
        /// A newer session has its name.
        case replaced
        /// There are as many workers as there may be.
        case full
    }

    /// The revision of the consumer's definition.
    public var revision: UInt64
    /// The definition. Where it is paused, nobody gets a slot.
    public var definition: ConsumerDefinition
    /// Workers of all servers.
    public var workerCount: Int
    /// The server's workers that have a place.
    public var workers: [Worker]
    /// Those that have none.
    public var refused: [UUID: Refusal]
}

extension SlotChange {
    /// What it takes in memory, and about what it takes as it is stored.
    public var memoryBytes: Int {
        blocked.reduce(128) { $0 + $1.key.bytes.count + ($1.value?.reason.utf8.count ?? 0) + 64 }
    }
}

extension ConsumerDefinition {
    /// No less than its stored form takes.
    fileprivate var encodedBytesMax: Int {
        1_024 + filter.aggregateTypes.reduce(0) { $0 + 2 * $1.text.utf8.count + 4 }
            + filter.eventTypes.reduce(0) { $0 + 2 * $1.text.utf8.count + 4 } + 40 * filter.aggregateIDs.count
    }
}
