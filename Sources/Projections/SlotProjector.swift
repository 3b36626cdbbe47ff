import MartletClient
import MartletModel

/// Takes the events of one slot into a read model while this worker has the slot: one after the other, in transactions that
/// store how far the slot has come.
struct SlotProjector<Database: ProjectionDatabase>: Sendable {
    /// What became of events.
    struct Outcome {
        /// They are settled.
        var settled: [ConsumedEvent] = []
        /// They could not be taken in; their keys wait for them.
        var failed: [(event: ConsumedEvent, failure: ProjectionFailure)] = []
    }

    let number: Int
    let epoch: UInt64
    private let tenant: TenantID
    private let progress: ProjectionProgress
    private let database: Database
    private let projection: any Projection
    /// Of a projection that has generations.
    private let generations: TenantGenerations?
    private let timer: HandlerTimer
    /// The one that was live in the last transaction; ``keys`` are of this one.
    private var generation = ProjectionGeneration(nil)
    private var switches: Int64 = 0
    /// Up to where keys with rows of their own are in the read model.
    private var keys: [ConsumerKey: Position] = [:]
    /// Keys whose event has failed: until it comes again, later ones are passed over.
    private var failed: [ConsumerKey: Position] = [:]

    /// It may be claimed already, although the database's answer was lost.
    private var mayBeClaimed = false

    /// A slot that is still to be claimed.
    init(
        _ slot: ConsumeMessage.Slot, _ consumer: ProjectedConsumer, _ database: Database,
        _ projection: any Projection, _ timer: HandlerTimer
    ) {
        (number, epoch) = (slot.number, slot.epoch)
        tenant = consumer.id.tenant
        progress = consumer.progress
        self.database = database
        self.projection = projection
        generations = consumer.generations
        self.timer = timer
    }

    /// Takes the slot over; again after the database failed.
    /// - Returns: the last event that the read model has of the slot. Nobody else moves it from here on.
    /// - Throws: ``ProjectionProgress/Fenced`` where another worker has it already; what the database throws.
    mutating func claim() async throws -> Checkpoint {
        let (number, epoch, progress, mayBeClaimed) = (number, epoch, progress, mayBeClaimed)
        let (generations, lockTimeout) = (generations, database.lockTimeoutStatement)
        self.mayBeClaimed = true
        return try await database.withTransaction { transaction in
            var start = Checkpoint.start
            if let generations {
                // The pointer is needed only for a slot that has no row: a generation that became live meanwhile would not know
                // of it. Others need it too: a slot whose row stays locked must not hold them back.
                if let lockTimeout { try await transaction.execute(lockTimeout) }
                if let floor = try await progress.reclaim(number, epoch: epoch, transaction) { return floor }
                let live = try await generations.store.lockLive(transaction)
                start = try await generations.part(of: live.generation, transaction).place
            }
            return try await progress.claim(number, epoch: epoch, isAgain: mayBeClaimed, from: start, transaction)
        }
    }

    /// Begins with the slot, when it is claimed; again after the database failed.
    /// - Parameters:
    ///   - blocked: the keys of the slot that are blocked on the server.
    ///   - checkpoint: how far the slot is on the server.
    /// - Throws: ``ProjectionProgress/Fenced``; what the database throws.
    mutating func begin(blocked: [ConsumerKey], checkpoint: Position) async throws {
        let (number, progress, known) = (number, progress, self)
        (keys, generation, switches) = try await database.withTransaction { transaction in
            var (floor, keys, generation, switches) = try await known.lock(reloads: true, transaction)
            let isBlocked = Set(blocked)
            // Where all up to the floor is settled, so is all of what is not blocked any more: it is in the read model. Where it
            // is not, a key may have failed that the server has not heard of.
            if checkpoint >= floor.position {
                for key in keys.keys where !isBlocked.contains(key) {
                    try await progress.delete(key, of: number, transaction)
                    keys[key] = nil
                }
            }
            for key in blocked where keys[key] == nil {
                try await progress.put(key, of: number, at: floor, transaction)
                keys[key] = floor.position
            }
            return (keys, generation, switches)
        }
    }

    /// What a transaction has locked, with the slot's row: the generation that is live.
    private typealias Locked = (
        floor: Checkpoint, keys: [ConsumerKey: Position], generation: ProjectionGeneration, switches: Int64
    )

    /// Locks the slot's row.
    /// - Returns: the slot's floor, and the keys of the generation that is live.
    private func lock(reloads: Bool = false, _ transaction: any ProjectionTransaction) async throws -> Locked {
        let floor = try await progress.lock(number, epoch: epoch, transaction)
        let current = try await generations?.store.current(transaction)
        if let current { try current.live.check(projection) }
        let isSame = current.map { $0.switches == switches && $0.live.generation == generation } ?? true
        guard reloads || !isSame else { return (floor, keys, generation, switches) }
        return (
            floor, try await progress.keys(of: number, transaction), current?.live.generation ?? generation,
            current?.switches ?? switches
        )
    }

    /// Takes in events of the slot, in their order; later ones of a key that has failed are passed over, as they come again.
    /// - Throws: ``ProjectionProgress/Fenced``; what the database throws: then ``reload()`` is to be called before the same
    ///   events are taken in again.
    mutating func take(_ events: ArraySlice<ConsumedEvent>) async throws -> Outcome {
        let wanted = events.filter { passes($0) }
        guard !wanted.isEmpty else { return Outcome() }
        do {
            try await commit(wanted)
            return Outcome(settled: wanted)
        } catch let failure as HandlerFailure where wanted.count == 1 {
            try await note(failed: wanted[0])
            return Outcome(failed: [(wanted[0], failure.failure)])
        } catch let first as HandlerFailure {
            // One of them: each in a transaction of its own.
            var outcome = Outcome()
            for event in wanted where passes(event) {
                // One that took too long has had its time: the others do not wait for it once more.
                if event.event.position == first.tooLong {
                    try await note(failed: event)
                    outcome.failed.append((event, first.failure))
                    continue
                }
                do {
                    try await commit([event])
                    outcome.settled.append(event)
                } catch let failure as HandlerFailure {
                    try await note(failed: event)
                    outcome.failed.append((event, failure.failure))
                    if failure.failure.kind == .stop { break }
                }
            }
            return outcome
        }
    }

    /// Reads again what is stored of the slot, after the database failed.
    mutating func reload() async throws {
        let known = self
        (keys, generation, switches) = try await database.withTransaction { transaction in
            let (_, keys, generation, switches) = try await known.lock(reloads: true, transaction)
            return (keys, generation, switches)
        }
    }

    /// Whether an event is not behind one of its key that has failed.
    private mutating func passes(_ event: ConsumedEvent) -> Bool {
        guard let position = failed[event.key] else { return true }
        guard event.event.position <= position else { return false }
        failed[event.key] = nil
        return true
    }

    private mutating func commit(_ events: [ConsumedEvent]) async throws {
        let (timer, known) = (timer, self)
        (keys, generation, switches) = try await database.withTransaction { transaction in
            try await timer.run(of: known.tenant) { try await known.commit(events, $0, transaction) }
        }
    }

    private func commit(
        _ events: [ConsumedEvent], _ time: HandlerTime, _ transaction: any ProjectionTransaction
    ) async throws -> (keys: [ConsumerKey: Position], generation: ProjectionGeneration, switches: Int64) {
        var (floor, keys, generation, switches) = try await lock(transaction)
        var last = floor
        for event in events {
            let place = Checkpoint(position: event.event.position, eventID: event.event.event.id)
            let position = place.position
            if let row = keys[event.key] {
                guard position > row else { continue }
                try await time.handle(event) {
                    try await projection.take(event.projected(of: tenant, generation), transaction)
                }
                if position > last.position, !event.isKeyBlocked {
                    // It has caught up with the floor, and none of it is passed over from here on.
                    try await progress.delete(event.key, of: number, transaction)
                    keys[event.key] = nil
                } else {
                    try await progress.put(event.key, of: number, at: place, transaction)
                    keys[event.key] = position
                }
            } else if position > last.position {
                try await time.handle(event) {
                    try await projection.take(event.projected(of: tenant, generation), transaction)
                }
            }
            if position > last.position { last = place }
        }
        if last.position > floor.position { try await progress.move(number, to: last, transaction) }
        return (keys, generation, switches)
    }

    /// Notes that a key waits for an event, before the floor passes it.
    private mutating func note(failed event: ConsumedEvent) async throws {
        failed[event.key] = event.event.position
        guard keys[event.key] == nil else { return }
        let (number, progress, known) = (number, progress, self)
        (keys, generation, switches) = try await database.withTransaction { transaction in
            var (floor, keys, generation, switches) = try await known.lock(transaction)
            if keys[event.key] == nil {
                try await progress.put(event.key, of: number, at: floor, transaction)
                keys[event.key] = floor.position
            }
            return (keys, generation, switches)
        }
    }
}

extension ConsumedEvent {
    fileprivate func projected(of tenant: TenantID, _ generation: ProjectionGeneration) -> ProjectedEvent {
        ProjectedEvent(
            tenant: tenant, event: event, key: key, attempt: attempt, mayBeRepeated: mayBeRepeated,
            generation: generation)
    }
}
