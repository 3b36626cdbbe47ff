public import Logging
public import MartletClient
public import MartletModel
import NIOConcurrencyHelpers

/// Keeps a read model up to date: works on a consumer, and takes its events into a database, each exactly once.
///
///     let runner = ProjectionRunner(Balances(), of: consumer, as: worker, client: client, database: readModels)
///     try await runner.run()
///
/// Start as many as there is work for, in one process or in many, each with a worker's name of its own: the slots of the
/// consumer are divided among them. One that is stopped, or killed at any moment, is replaced by the others, or by itself
/// when it comes again.
///
/// Put the consumer before (``MartletClient/MartletClient/putConsumer(_:timeout:)``). Do not reset it afterwards: what the
/// read model has is not taken in again. ``ProjectionRebuilder`` builds a ``RebuildableProjection`` anew meanwhile.
public struct ProjectionRunner<Database: ProjectionDatabase>: Sendable {
    /// Events of a slot that share a transaction, at most, where they are there at once.
    public var batchEventsMax = 100
    /// How long it waits before it turns to a database again that has failed: at first, and at most.
    public var databaseBackoff: (first: Duration, max: Duration) = (.milliseconds(100), .seconds(5))
    /// How often it looks whether a generation of the projection's version is live, while it waits for that.
    public var versionPause: Duration = .seconds(1)
    /// For how long a handler may be at work on one event: from 1 ms to 1 day, what is beyond counts as the nearest of these.
    /// Then its task is cancelled, the transaction is rolled back, and the event has failed: it is tried again after the
    /// consumer's backoff, up to its `triesMax`. Noticed up to a tenth of the time later, at most 1 s.
    ///
    /// A handler in PostgreSQL that may take longer than 30 s must not be without a statement for so long:
    /// `PostgreSQLReadModels` has the transaction ended then.
    public var handlerTimeout: Duration = .seconds(30)
    /// How long a handler has, once it is cancelled, to return; bounds as for ``handlerTimeout``. After that it is stuck: its
    /// key is parked, so that it does not do the same to the next worker, the runner gives all its slots to others, and
    /// ``run()`` throws a ``StuckHandler`` as soon as the handler returns.
    public var handlerGrace: Duration = .seconds(10)
    /// Called when a handler is stuck, before ``run()`` can throw. Its transaction is open and keeps its locks as long as it
    /// does not return: end the process here, for somebody to start it again. Without that, the runner logs an error and waits.
    public var onStuck: @Sendable (StuckHandler) -> Void = { _ in }
    /// Called when a slot stops, with its number and why: nothing more of it is handled by this worker until the consumer's
    /// definition is put, or a key of the slot is tried again.
    public var onStop: @Sendable (Int, String) -> Void = { _, _ in }

    /// A slot that the server has assigned.
    private struct Assignment: Sendable {
        let slot: ConsumeMessage.Slot
        let events: AsyncStream<[ConsumedEvent]>
        let queue: AsyncStream<[ConsumedEvent]>.Continuation
        /// The server has taken it away.
        let isRevoked = NIOLockedValueBox(false)

        init(_ slot: ConsumeMessage.Slot) {
            self.slot = slot
            (events, queue) = AsyncStream.makeStream()
        }

        func revoke() {
            isRevoked.withLockedValue { $0 = true }
            queue.finish()
        }
    }

    private let projection: any Projection
    private let request: ConsumeRequest
    private let client: MartletClient
    private let database: Database
    private let logger: Logger
    private let progress: ProjectionProgress
    private let past: PastCheck
    /// Of a ``RebuildableProjection``.
    private let generations: GenerationStore?

    /// A runner that does nothing yet.
    /// - Parameter worker: the same each time that it comes; another runner of that name ends this one.
    public init(
        _ projection: any Projection, of consumer: ConsumerID, as worker: WorkerName, client: MartletClient,
        database: Database, logger: Logger = Logger(label: "martlet.projection")
    ) {
        self.projection = projection
        request = ConsumeRequest(consumer, worker: worker, keepsTime: true)
        self.client = client
        self.database = database
        self.logger = logger
        progress = ProjectionProgress(consumer)
        past = PastCheck(client: client, consumer: consumer)
        generations = projection is any RebuildableProjection ? GenerationStore(consumer) : nil
    }

    /// Makes the tables in which the read model's database keeps how far it is, where they are missing, and the first
    /// generation of a ``RebuildableProjection``; ``run()`` does it too.
    /// - Throws: a ``ProjectionDatabaseError`` also where they are there, but not as this version needs them.
    public func prepare() async throws {
        try await ReadModelTables(database: database, retrying: retrying).prepare(projection, generations)
    }

    private var retrying: DatabaseRetrying { DatabaseRetrying(backoff: databaseBackoff, logger: logger) }

    /// Runs until its task is cancelled, and returns then: what is under way is rolled back, and comes again to whoever is next.
    /// - Throws: what a retry cannot repair: `CONSUMER_NOT_FOUND`, `WORKER_REPLACED`, an error of the database that is not
    ///   transient, or `HISTORY_CHANGED`: the server no longer has an event that the read model has taken in. Nothing more is
    ///   taken in then, and the message says what to do. A ``StuckHandler`` where a handler did not return when it was
    ///   cancelled; it has returned by then.
    public func run() async throws {
        // Whatever the cancellation makes fail.
        do { try await follow() } catch { guard Task.isCancelled else { throw error } }
    }

    private func follow() async throws {
        try await prepare()
        try await waitForItsVersion()
        var request = request
        let progress = progress
        request.epochAbove = try await retrying {
            try await database.withTransaction { try await progress.epochMax($0) }
        }
        let consumption = client.consumeHoldingCredit(request)
        let timer = HandlerTimer(timeout: handlerTimeout, grace: handlerGrace)
        // What one slot fails by ends all of them.
        let (failures, failure) = AsyncThrowingStream.makeStream(of: Void.self)
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            group.addTask { for try await _ in failures {} }
            group.addTask { try await watch(timer, consumption) }
            group.addTask { try await dispatch(consumption, timer, failure) }
            try await group.next()
        }
    }

    /// - Throws: ``StuckHandler`` when a handler is stuck.
    private func watch(_ timer: HandlerTimer, _ consumption: Consumption) async throws {
        let (event, time) = try await timer.watch()
        let stuck = StuckHandler(position: event.event.position, key: event.key, slot: event.slot, time: time)
        // Its key has no row of its own yet. Whoever gets the slot makes one, as it finds the key blocked: until then nobody
        // moves the slot, this runner least of all.
        consumption.reject(event.delivery, .park, reason: "\(stuck)")
        logger.error("\(stuck)", metadata: ["consumer": "\(request.consumer.name)"])
        onStuck(stuck)
        throw stuck
    }

    /// Waits while the live generation is of an older version than the projection.
    private func waitForItsVersion() async throws {
        guard let generations, let declared = projection as? any RebuildableProjection else { return }
        var isTold = false
        while true {
            let live = try await retrying { try await database.withTransaction { try await generations.live($0) } }
            guard live.version < declared.version else { return try live.check(projection) }
            if !isTold {
                isTold = true
                logger.notice("waiting for a rebuild: version \(declared.version) of the projection is not live yet")
            }
            try await Task.sleep(for: versionPause)
        }
    }

    /// Divides what comes among the slots' tasks. What waits for them is bounded by the consumption's window: credit goes
    /// back to the server when a slot takes an event out of its queue.
    private func dispatch(
        _ consumption: Consumption, _ timer: HandlerTimer,
        _ failure: AsyncThrowingStream<Void, any Error>.Continuation
    ) async throws {
        try await withThrowingDiscardingTaskGroup { group in
            var assignments: [Int: Assignment] = [:]
            defer { for assignment in assignments.values { assignment.revoke() } }
            for try await item in consumption {
                switch item {
                case .assigned(let slots):
                    // Its own slot is compared when it is claimed. This one is for what others have taken in: with any of it
                    // lost, nothing is to be added.
                    if !slots.isEmpty { try await checkLast() }
                    for slot in slots {
                        let assignment = Assignment(slot)
                        assignments.updateValue(assignment, forKey: slot.number)?.revoke()
                        group.addTask {
                            do { try await project(assignment, consumption, timer) } catch {
                                failure.finish(throwing: error)
                            }
                        }
                    }
                case .revoked(let slots): for slot in slots { assignments.removeValue(forKey: slot)?.revoke() }
                case .events(let events):
                    var parts: [Int: [ConsumedEvent]] = [:]
                    for event in events { parts[event.slot, default: []].append(event) }
                    for (slot, part) in parts {
                        if let assignment = assignments[slot] {
                            assignment.queue.yield(part)
                        } else {
                            consumption.giveBack(part)
                        }
                    }
                case .stopped(let slot, let reason): onStop(slot, reason)
                case .committed, .paused: break
                }
            }
        }
    }

    /// Takes in the events of a slot, until it is revoked or another worker has it.
    private func project(
        _ assignment: Assignment, _ consumption: Consumption, _ timer: HandlerTimer
    ) async throws {
        let slot = assignment.slot
        do {
            var projector = SlotProjector(slot, progress, database, projection, generations, timer)
            let claimed = try await retrying { try await projector.claim() }
            try await past.check(claimed, of: slot.number)
            let blocked = try await blockedKeys(of: slot.number)
            try await retrying {
                try await projector.begin(blocked: blocked, checkpoint: slot.checkpoint.position)
            }
            for await part in assignment.events {
                consumption.giveBack(part)
                for start in stride(from: 0, to: part.count, by: max(1, batchEventsMax)) {
                    let batch = part[start..<min(part.count, start + max(1, batchEventsMax))]
                    try await take(batch, &projector, consumption)
                }
            }
        } catch let fenced as ProjectionProgress.Fenced {
            note(fenced, of: assignment)
            // What still comes of the slot must not hold up the others.
            for await part in assignment.events { consumption.giveBack(part) }
        }
    }

    private func note(_ fenced: ProjectionProgress.Fenced, of assignment: Assignment) {
        let metadata: Logger.Metadata = [
            "consumer": "\(request.consumer.name)", "slot": "\(assignment.slot.number)",
            "epoch": "\(assignment.slot.epoch)",
            "stored_epoch": "\(fenced.storedEpoch.map { "\($0)" } ?? "none")",
        ]
        if assignment.isRevoked.withLockedValue({ $0 }) {
            logger.debug("another worker has the slot", metadata: metadata)
        } else {
            // The server may be about to say so. If it never does, its epochs are behind those of the read model.
            logger.warning(
                """
                the read model has the slot under another epoch than the one that the server assigned, and the server has \
                not taken the slot away: nothing more of it is taken in. If it stays so, restart the runner: it then asks \
                for a higher epoch
                """, metadata: metadata)
        }
    }

    /// Compares the last event of all that the read model has taken in with the server's.
    private func checkLast() async throws {
        let last = try await retrying { try await database.withTransaction { try await progress.last($0) } }
        if let last { try await past.check(last.floor, of: last.slot) }
    }

    private func take(
        _ batch: ArraySlice<ConsumedEvent>, _ projector: inout SlotProjector<Database>, _ consumption: Consumption
    ) async throws {
        var isFirst = true
        var copy = projector
        let outcome = try await retrying {
            if !isFirst { try await copy.reload() }
            isFirst = false
            return try await copy.take(batch)
        }
        projector = copy
        for event in outcome.settled { consumption.acknowledge(event.delivery) }
        for (event, failure) in outcome.failed {
            let rejection: ConsumerRejection =
                switch failure.kind {
                case .retry(let time): .retry(after: time)
                case .park: .park
                case .stop: .stop
                }
            consumption.reject(event.delivery, rejection, reason: failure.reason)
        }
    }

    /// Keys of a slot that are blocked on the server.
    private func blockedKeys(of slot: Int) async throws(MartletError) -> [ConsumerKey] {
        var keys: [ConsumerKey] = []
        // The last place that there could be before the slot's first.
        var after: KeyPlace? =
            slot == 0 ? nil : KeyPlace(slot: slot - 1, key: ConsumerKey(bytes: Array(repeating: 0xFF, count: 256)))
        while true {
            let page = try await client.blockedKeys(ListBlockedKeysRequest(request.consumer, after: after))
            keys += page.filter { $0.place.slot == slot }.map(\.place.key)
            guard let last = page.last, page.count >= ListBlockedKeysRequest.countMax, last.place.slot == slot else {
                return keys
            }
            after = last.place
        }
    }
}
