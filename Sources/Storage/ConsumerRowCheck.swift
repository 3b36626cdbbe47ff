public import FoundationEssentials
public import MartletModel
public import NIOCore

/// What must be true of the rows that consumers have, whichever engine stores them.
///
/// An engine reads a row and what it refers to; this says what is wrong with it. Nothing in a row is believed: its numbers
/// are whatever the table holds.
public enum ConsumerRowCheck {
    /// Something in a row that is not as it must be.
    public struct Finding: Hashable, Sendable {
        /// The row: its consumer, and which of the consumer's rows it is.
        public var place: String
        /// What is there.
        public var found: String
        /// What should be there.
        public var expected: String
    }

    /// The row of `tenants` that a row names by its number.
    public struct Tenant: Hashable, Sendable {
        /// The tenant; nil where its id is not a UUID.
        public var id: TenantID?
        /// The position of its last event.
        public var head: Int64

        /// A row of those parts.
        public init(id: TenantID?, head: Int64) {
            self.id = id
            self.head = head
        }
    }

    /// The consumer that a row names.
    public struct Owner: Hashable, Sendable {
        /// The row of its tenant; nil where there is none.
        public private(set) var tenant: Tenant?
        fileprivate var name: String
        fileprivate var baseEpoch: Int64?
        fileprivate var slotCount: Int?

        /// A consumer of that name.
        /// - Parameters:
        ///   - tenant: the row of its tenant; nil where there is none.
        ///   - baseEpoch: as its row in `consumers` has it; nil where it has no row.
        ///   - definition: as its row has it.
        public init(tenant: Tenant?, name: String, baseEpoch: Int64?, definition: ByteBuffer?) {
            self.tenant = tenant
            self.name = name
            self.baseEpoch = baseEpoch
            slotCount = definition.flatMap { try? ConsumerDefinition(document: $0).slotCount }
        }

        /// Nil where no row can have a seal of it.
        fileprivate var id: ConsumerID? {
            guard let tenant = tenant?.id, let name = ConsumerName(name) else { return nil }
            return ConsumerID(tenant: tenant, name: name)
        }
    }

    /// A position and the id of the event there, as a row has them.
    public struct Place: Hashable, Sendable {
        fileprivate var position: Int64
        fileprivate var eventID: [UInt8]?
        fileprivate var storedID: UUID?

        /// A place of those parts.
        /// - Parameters:
        ///   - eventID: the id's bytes; nil where the row has none.
        ///   - storedID: the id of the event that is stored at that position; nil where none is.
        public init(position: Int64, eventID: [UInt8]?, storedID: UUID?) {
            self.position = position
            self.eventID = eventID
            self.storedID = storedID
        }

        fileprivate var checkpoint: Checkpoint {
            Checkpoint(position: Position(UInt64(bitPattern: position)), eventID: eventID.flatMap { UUID(bytes: $0) })
        }
    }

    /// The length of the longest lease, in microseconds.
    public static let leaseMicrosMax = Int64(Limits.consumerLeaseMillisMax) * 1_000

    /// What is wrong with a row of `consumers`.
    /// - Parameter tenantID: the bytes of the tenant's id, as the row has them; nil where it has none.
    public static func consumer(
        _ owner: Owner, tenant tenantID: [UInt8]?, revision: Int64, start: Place, definition: ByteBuffer, seal: Int64
    ) -> [Finding] {
        var row = Row("consumer \(owner.name)")
        guard let tenant = row.tenant(owner) else { return row.findings }
        row.require(ConsumerName(owner.name) != nil, "a name that no consumer can have", "a consumer's name")
        row.require(tenantID, tenant)
        row.require(start, from: 0, tenant)
        do throws(MartletError) { _ = try ConsumerDefinition(document: definition) } catch {
            row.find("a definition that cannot be used: \(error.message)", "the definition that was put")
        }
        let consumer = StoredConsumer(
            document: definition, revision: UInt64(bitPattern: revision),
            baseEpoch: UInt64(bitPattern: owner.baseEpoch ?? 0), start: start.checkpoint)
        row.require(seal: seal, owner.id.map { Seal.consumer(consumer, $0) })
        return row.findings
    }

    /// What is wrong with a row of `consumer_epochs`.
    public static func epochFloor(_ epoch: Int64, of tenant: Tenant?, seal: Int64) -> [Finding] {
        var row = Row("epoch of deleted consumers")
        guard let tenant = row.tenant(tenant) else { return row.findings }
        row.require(seal: seal, tenant.id.map { Seal.epochFloor(UInt64(bitPattern: epoch), of: $0) })
        return row.findings
    }

    /// What is wrong with a row of `consumer_slots`.
    /// - Parameter worker: the bytes of the session that has the slot; nil where the row has none.
    public static func slot(
        _ number: Int64, of owner: Owner, epoch: Int64, floor: Place, worker: [UInt8]?, seal: Int64
    ) -> [Finding] {
        var row = Row("consumer \(owner.name), slot \(number)")
        guard let tenant = row.tenant(owner) else { return row.findings }
        if row.consumer(owner, has: "a slot"), let baseEpoch = owner.baseEpoch {
            if let count = owner.slotCount {
                row.require(
                    0..<Int64(count) ~= number, "number \(number)", "from 0 to \(count - 1), by the definition")
            }
            row.require(
                epoch >= baseEpoch, "epoch \(epoch)", "\(baseEpoch) or more, the epoch of slots that nobody had")
        }
        row.require(floor, from: 0, tenant)
        row.require(worker.map { $0.count == 16 } ?? true, "an owner that is not a UUID", "16 bytes")
        let slot = StoredSlot(
            epoch: UInt64(bitPattern: epoch), floor: floor.checkpoint, owner: worker.flatMap { UUID(bytes: $0) })
        row.require(seal: seal, owner.id.map { Seal.slot(slot, SlotID(consumer: $0, number: Int(number))) })
        return row.findings
    }

    /// What is wrong with a row of `consumer_workers`.
    /// - Parameters:
    ///   - ids: the bytes of its session's id and of its server's.
    ///   - until: when its lease ends, in microseconds since 1970 UTC.
    ///   - now: the storage's clock, in the same unit.
    public static func worker(
        _ name: String, of owner: Owner, ids: [[UInt8]], until: Int64, now: Int64
    ) -> [Finding] {
        var row = Row("consumer \(owner.name), worker \(name)")
        guard row.tenant(owner) != nil else { return row.findings }
        _ = row.consumer(owner, has: "a worker")
        row.require(WorkerName(name) != nil, "a name that no worker can have", "a worker's name")
        row.require(ids.allSatisfy { $0.count == 16 }, "a session or a server that is not a UUID", "16 bytes")
        // A worker that is gone would keep its slots until then.
        let last = now + leaseMicrosMax
        row.require(
            until <= last, "a lease until \(Timestamp(microseconds: until))",
            "until \(Timestamp(microseconds: last)) at the latest, the end of the longest lease")
        return row.findings
    }

    /// A row of `blocked_keys`.
    public struct BlockedKeyRow: Hashable, Sendable {
        fileprivate var slot: Int64
        fileprivate var key: [UInt8]
        fileprivate var first: Place
        fileprivate var isFirstHandled: Int64
        fileprivate var retryAt: Int64?
        fileprivate var tries: Int64
        fileprivate var since: Int64
        fileprivate var reason: String
        fileprivate var seal: Int64

        /// A row of those columns.
        public init(
            slot: Int64, key: [UInt8], first: Place, isFirstHandled: Int64, retryAt: Int64?, tries: Int64,
            since: Int64, reason: String, seal: Int64
        ) {
            self.slot = slot
            self.key = key
            self.first = first
            self.isFirstHandled = isFirstHandled
            self.retryAt = retryAt
            self.tries = tries
            self.since = since
            self.reason = reason
            self.seal = seal
        }

        /// As a reader reads it.
        fileprivate var blocked: BlockedKey {
            var blocked = BlockedKey(
                first: first.checkpoint,
                until: retryAt.map { .retry(at: Timestamp(microseconds: $0)) } ?? .asked, reason: reason,
                tries: UInt32(truncatingIfNeeded: tries), since: Timestamp(microseconds: since))
            blocked.isFirstHandled = isFirstHandled != 0
            return blocked
        }
    }

    /// What is wrong with a row of `blocked_keys`.
    /// - Parameter slotHasRow: whether its slot has one.
    public static func blockedKey(_ key: BlockedKeyRow, of owner: Owner, slotHasRow: Bool) -> [Finding] {
        let id = ConsumerKey(bytes: key.key)
        var row = Row("consumer \(owner.name), blocked key \(id)")
        guard let tenant = row.tenant(owner) else { return row.findings }
        if row.consumer(owner, has: "a blocked key") {
            row.require(
                slotHasRow, "slot \(key.slot), which has no row in consumer_slots",
                "one, because a key of it is blocked")
            if let count = owner.slotCount {
                row.require(
                    Int64(id.slot(of: count)) == key.slot, "slot \(key.slot)",
                    "slot \(id.slot(of: count)), to which the key belongs")
            }
        }
        row.require(
            1...ConsumerKey.bytesMax ~= key.key.count, "a key of \(key.key.count) bytes",
            "from 1 to \(ConsumerKey.bytesMax)")
        row.require(key.first, from: 1, tenant)
        row.require(0...1 ~= key.isFirstHandled, "\(key.isFirstHandled) for is_first_handled", "0 or 1")
        row.require(1...Int64(UInt32.max) ~= key.tries, "\(key.tries) tries", "from 1 to \(UInt32.max)")
        row.require(
            key.reason.utf8.count <= BlockedKey.reasonBytesMax, "a reason of \(key.reason.utf8.count) bytes",
            "at most \(BlockedKey.reasonBytesMax)")
        row.require(
            seal: key.seal,
            owner.id.map {
                Seal.blockedKey(
                    key.blocked, BlockedKeyID(slot: SlotID(consumer: $0, number: Int(key.slot)), key: id))
            })
        return row.findings
    }
}

/// What is found of a row.
private struct Row {
    typealias Check = ConsumerRowCheck

    private let place: String
    private(set) var findings: [Check.Finding] = []

    init(_ place: String) { self.place = place }

    mutating func find(_ found: String, _ expected: String) {
        findings.append(Check.Finding(place: place, found: found, expected: expected))
    }

    mutating func require(_ isTrue: Bool, _ found: @autoclosure () -> String, _ expected: @autoclosure () -> String) {
        if !isTrue { find(found(), expected()) }
    }

    /// - Returns: nil where there is none: then nothing else can be told.
    mutating func tenant(_ tenant: Check.Tenant?) -> Check.Tenant? {
        require(tenant != nil, "that tenant number", "the number of a row of tenants")
        return tenant
    }

    mutating func tenant(_ owner: Check.Owner) -> Check.Tenant? { tenant(owner.tenant) }

    /// - Returns: whether the consumer is there.
    mutating func consumer(_ owner: Check.Owner, has what: String) -> Bool {
        require(owner.baseEpoch != nil, "no row in consumers", "one, because it has \(what)")
        return owner.baseEpoch != nil
    }

    /// Whether the tenant has that event there.
    mutating func require(_ place: Check.Place, from least: Int64, _ tenant: Check.Tenant) {
        guard least <= place.position, place.position <= tenant.head else {
            return find("position \(place.position)", "from \(least) to \(tenant.head), the tenant's head")
        }
        let id = place.eventID.map { bytes in
            UUID(bytes: bytes).map { "event \(Self.text($0))" } ?? "an event's id of \(bytes.count) bytes"
        }
        guard place.position > 0 else {
            return require(id == nil, "\(id ?? "") at position 0", "no event, because that is before the first one")
        }
        require(
            place.storedID.map { $0.bytes == place.eventID } ?? false,
            "\(id ?? "no event's id") at position \(place.position)",
            place.storedID.map { "event \(Self.text($0)), which is stored there" }
                ?? "an event, but none is stored there")
    }

    /// Whether the bytes are the tenant's id.
    mutating func require(_ bytes: [UInt8]?, _ tenant: Check.Tenant) {
        guard let id = tenant.id, id.uuid.bytes != bytes else { return }
        let found = bytes.flatMap { UUID(bytes: $0) }.map { "tenant \(Self.text($0))" }
        find("\(found ?? "bytes that are not a UUID") in the column tenant", "\(id), the id of its tenant number")
    }

    private static func text(_ id: UUID) -> String { id.uuidString.lowercased() }

    /// - Parameter sum: the checksum of what the row says; nil where nobody can tell.
    mutating func require(seal: Int64, _ sum: UInt32?) {
        guard let sum, seal != Int64(sum) else { return }
        find("a row with checksum \(sum)", "\(seal), that of the row that was written")
    }
}
