public import Logging
public import MartletClient
public import MartletModel

/// Builds a projection's tables anew while the old ones are in use, switches to them, and compares the two.
///
///     let rebuilder = ProjectionRebuilder(Balances(), of: consumer, client: client, database: readModels)
///     try await rebuilder.rebuild()
///
/// It runs beside the projection's runners, in the same process or another one. What it builds is kept in the database with
/// how far it has come: after a crash, or an error, the same call goes on there.
///
/// Events up to where the consumer had settled everything when the build began are replays (``ProjectedEvent/isReplay``):
/// what a handler does besides writing to its tables was done before. Of later ones, and of those that the live generation
/// lacks, it may have been done: ``ProjectedEvent/mayBeRepeated`` is set, as it is for all of them.
///
/// A read model over many tenants (``ProjectionRunner/init(_:ofAll:in:as:client:database:logger:)``) is built of the events of
/// all tenants that the live generation has anything of, one tenant after the other, and switched once for all of them.
public struct ProjectionRebuilder<Database: ProjectionDatabase>: Sendable {
    /// Events that share a transaction, at most.
    public var batchEventsMax = 200
    /// So many events behind the live generation it may be to switch, of all tenants together: they are taken in while that one
    /// waits.
    public var switchEventsMax = 200
    /// Events that are taken in in a second, at most; nil is no bound.
    public var eventsPerSecondMax: Double?
    /// The part of the time in which it works: with 0.25, it rests three times as long as each transaction has taken.
    public var timeShare = 1.0
    /// How often an event is tried. One that fails with `.park` or `.stop` is tried once.
    public var triesMax: UInt32 = 3
    /// After a switch, the old generation stays for ``switchBack()``, and one that was kept before is dropped.
    public var keepsOld = false
    /// Positions of events that count as taken in: those that somebody has skipped and that still fail.
    public var skipped: [TenantID: Set<Position>] = [:]
    /// Tenants of a read model over many whose events are not taken in any more, because their consumer was deleted: the next
    /// generation has no rows of them, and if their consumer comes back, all that it has is taken in anew.
    public var leftOut: Set<TenantID> = []
    /// How long it waits before it turns to a database again that has failed: at first, and at most.
    public var databaseBackoff: (first: Duration, max: Duration) = (.milliseconds(100), .seconds(5))
    /// Called after each transaction.
    public var onProgress: @Sendable (RebuildProgress) -> Void = { _ in }

    let projection: any RebuildableProjection
    let scope: ProjectionScope
    let client: MartletClient
    let database: Database
    let logger: Logger
    let store: GenerationStore
    private let clock: any _Concurrency.Clock<Duration>

    private init(
        _ projection: any RebuildableProjection, _ scope: ProjectionScope, _ client: MartletClient,
        _ database: Database,
        _ clock: any _Concurrency.Clock<Duration>, _ logger: Logger
    ) {
        self.projection = projection
        self.scope = scope
        self.client = client
        self.database = database
        self.clock = clock
        self.logger = logger
        store = GenerationStore(scope: scope)
    }

    /// A rebuilder that does nothing yet.
    /// - Parameter clock: what pauses and rates are measured by.
    public init(
        _ projection: any RebuildableProjection, of consumer: ConsumerID, client: MartletClient, database: Database,
        clock: any _Concurrency.Clock<Duration> = ContinuousClock(),
        logger: Logger = Logger(label: "martlet.projection")
    ) {
        self.init(projection, .one(consumer), client, database, clock, logger)
    }

    /// A rebuilder of a read model over the consumers that many tenants have under one name; it does nothing yet.
    /// - Parameters:
    ///   - client: of a principal that may use all tenants of which the read model has anything.
    ///   - clock: what pauses and rates are measured by.
    public init(
        _ projection: any RebuildableProjection, ofAll consumer: ConsumerName, client: MartletClient,
        database: Database,
        clock: any _Concurrency.Clock<Duration> = ContinuousClock(),
        logger: Logger = Logger(label: "martlet.projection")
    ) {
        self.init(projection, .all(consumer), client, database, clock, logger)
    }

    var retrying: DatabaseRetrying { DatabaseRetrying(backoff: databaseBackoff, logger: logger) }

    /// Builds the next generation from the first event on, and switches to it.
    ///
    /// Goes on with one that an earlier call of this version has begun; a second call takes it over from the first.
    /// - Returns: the number of the generation, which is live.
    /// - Throws: a ``ProjectionRebuildError``, of the kind `.event` for an event that fails although the live generation has
    ///   it, `.tenant` for a tenant whose consumer was deleted; what a ``ProjectionRunner`` throws.
    @discardableResult
    public func rebuild() async throws -> Int64 { try await replace(.rebuild) }

    /// Has the generation that the last switch kept (``keepsOld``) take in what has come since, and switches to it.
    /// - Returns: its number.
    /// - Throws: as ``rebuild()``; also where none of this version was kept.
    @discardableResult
    public func switchBack() async throws -> Int64 { try await replace(.back) }

    private func replace(_ state: GenerationStore.State) async throws -> Int64 {
        var build = try await begin(state)
        var pace = makePace()
        while true {
            guard try await catchUp(&build, &pace) <= switchEventsMax else { continue }
            switch try await retrying({ try await GenerationSwitch(build: build, rebuilder: self).run() }) {
            case .done:
                await dropUnneeded()
                return build.generation.number ?? 0
            case .behind: continue
            }
        }
    }

    /// Drops what an earlier ``rebuild()`` or ``switchBack()`` has built and not switched to, and what a switch has kept.
    public func abandon() async throws {
        try await prepare()
        try await retrying {
            try await database.withTransaction { transaction in
                let live = try await store.lockLive(transaction)
                for row in try await store.rows(transaction) where row.generation != live.generation {
                    try await store.drop(row, transaction)
                }
            }
        }
    }

    /// Drops all tables and views of the projection, and all that is stored of its progress: after the server has lost events
    /// that the read model contains. Stop the projection's runners before, and reset the consumer afterwards.
    public func deleteEverything() async throws {
        try await prepare()
        try await retrying {
            try await database.withTransaction { transaction in
                let live = try await store.lockLive(transaction)
                _ = try await store.slots(locks: true, transaction)
                try await store.hide(live.tables, transaction)
                for row in try await store.rows(transaction) { try await store.drop(row, transaction) }
                try await store.deleteLive(transaction)
                try await store.deleteProgress(transaction)
            }
        }
    }

    func prepare() async throws {
        try await ReadModelTables(database: database, retrying: retrying).prepare(projection, store)
    }

    func makePace() -> RebuildPace {
        RebuildPace(clock, eventsPerSecondMax: eventsPerSecondMax, timeShare: timeShare)
    }

    // MARK: Building

    /// Begins with a generation, or goes on with one.
    func begin(_ state: GenerationStore.State) async throws -> GenerationBuild<Database> {
        try await prepare()
        return try await retrying {
            try await database.withTransaction { transaction in
                let live = try await store.lockLive(transaction)
                if state == .verify { try live.check(projection) }
                let rows = try await store.rows(transaction)
                var known: GenerationStore.Row?
                for row in rows where row.generation != live.generation {
                    let isWanted =
                        row.version == projection.version
                        && (row.state == state || state == .back && row.state == .kept)
                    if isWanted {
                        known = row
                    } else if row.state != .kept {
                        try await store.drop(row, transaction)
                    }
                }
                if known == nil, state == .back {
                    throw ProjectionRebuildError(
                        .nothingKept,
                        "no generation of version \(projection.version) of \(store.projection) was kept: rebuild instead"
                    )
                }
                var row =
                    known
                    ?? GenerationStore.Row(
                        generation: ProjectionGeneration((rows.compactMap(\.generation.number).max() ?? 0) + 1),
                        state: state, version: projection.version, tables: projection.tables.map(\.name))
                if known == nil {
                    try await store.make(row.generation, of: projection, transaction)
                    try await store.insert(row, transaction)
                } else if row.state == .kept {
                    try await store.forgetReplays(of: row.generation, transaction)
                }
                row.state = state
                let owner = try await store.own(row.generation, as: state, transaction)
                return GenerationBuild(row: row, owner: owner)
            }
        }
    }

    /// Takes in what there is of each tenant, at first, and then what the live generation has by now.
    /// - Returns: how many events that were.
    func catchUp(_ build: inout GenerationBuild<Database>, _ pace: inout RebuildPace) async throws -> Int {
        let new = try await join(&build, &pace)
        let (row, owner) = (build.row, build.owner)
        // One look at all tenants: most of them have nothing new.
        let (ends, keys) = try await retrying {
            try await database.withTransaction { transaction in
                try await store.lock(row.generation, owner: owner, transaction)
                let live = try await store.live(transaction)
                let parts = try await store.parts(of: row.generation, transaction)
                let lives = try await store.parts(of: live.generation, transaction)
                let slots = try await store.slots(transaction)
                var ends: [TenantID: Position] = [:]
                for tenant in Set(lives.keys).union(slots.keys) {
                    let end = (lives[tenant] ?? .none).end(slots[tenant] ?? []).position
                    if end > (parts[tenant] ?? .none).place.position { ends[tenant] = end }
                }
                return (ends, Set(try await store.keys(of: row.generation, transaction).keys))
            }
        }
        var count = 0
        for builder in build.builders {
            if builder.isVerification {
                guard let end = ends[builder.tenant] else { continue }
                count += try await catchUp(builder, to: end, &pace)
            } else if new.contains(builder.tenant) || ends[builder.tenant] != nil {
                count += try await catchUp(builder, to: nil, &pace)
            }
        }
        guard count <= switchEventsMax else { return count }
        for builder in build.builders where keys.contains(builder.tenant) || new.contains(builder.tenant) {
            try await catchUpKeys(builder, &pace)
        }
        return count
    }

    /// Takes in events up to a position; nil is the tenant's head.
    /// - Returns: how many events that were.
    private func catchUp(
        _ builder: GenerationBuilder<Database>, to end: Position?, _ pace: inout RebuildPace
    ) async throws -> Int {
        let place = try await retrying {
            try await database.withTransaction { try await builder.lock($0) }
        }
        if let end, end <= place.position { return 0 }
        let stream = try await builder.source.read(
            after: place, of: builder.generation, to: end.map { .position($0) } ?? .head)
        var count = 0
        let size = max(1, batchEventsMax)
        var waiting: [RecordedEvent] = []
        func take() async throws {
            let began = pace.now
            let reached = try await self.take(waiting[...], builder, pace).position
            onProgress(
                pace.progress(
                    builder, at: reached, end: end ?? stream.view.head.position, events: waiting.count))
            count += waiting.count
            try await pace.rest(events: waiting.count, began: began)
            waiting.removeAll(keepingCapacity: true)
        }
        for try await event in stream {
            waiting.append(event)
            if waiting.count == size { try await take() }
        }
        if !waiting.isEmpty { try await take() }
        return count
    }

    /// Takes events in: together; where one of them fails, those before it, that one alone, and those after it.
    private func take(
        _ events: ArraySlice<RecordedEvent>, _ builder: GenerationBuilder<Database>, _ pace: RebuildPace
    ) async throws -> Checkpoint {
        var place = Checkpoint.start
        var (rest, attempt) = (events, UInt32(1))
        var failed: Int?
        while let start = rest.indices.first {
            let end = failed.map { $0 == start ? $0 + 1 : $0 } ?? events.endIndex
            let part = rest[..<end]
            do {
                place = try await retrying { try await builder.take(part, attempt: attempt) }
            } catch let failure as GenerationBuilder<Database>.Failure {
                let index = part.firstIndex { $0.position == failure.event.position } ?? start
                if index != failed {
                    failed = index
                    continue
                }
                if attempt < triesMax, case .retry(let time) = failure.failure.kind {
                    attempt += 1
                    try await pace.pause(time ?? .milliseconds(100))
                    continue
                }
                place = try await retrying { try await builder.passOver(failure) }
            }
            if end != failed { failed = nil }
            (rest, attempt) = (rest[end...], 1)
        }
        return place
    }

    /// Takes in what is behind of keys that no longer wait for an event that the live generation lacks, too.
    private func catchUpKeys(_ builder: GenerationBuilder<Database>, _ pace: inout RebuildPace) async throws {
        let keys = try await retrying {
            try await database.withTransaction { transaction in
                try await builder.keysBehind(try await builder.live(transaction), transaction)
            }
        }
        for key in keys.keys.sorted(by: { $0.bytes.lexicographicallyPrecedes($1.bytes) }) {
            let began = pace.now
            do {
                try await retryingEvents(pace) { tries in
                    try await database.withTransaction { transaction in
                        let place = try await builder.lock(transaction)
                        try await builder.catchUp(
                            key, to: place, try await builder.live(transaction), tries: tries, transaction)
                    }
                }
            } catch let failure as GenerationBuilder<Database>.Failure {
                // It may wait in the live generation by now; then it is not behind any more.
                let isWaiting = try await retrying {
                    try await database.withTransaction { transaction in
                        try await builder.keysBehind(try await builder.live(transaction), transaction)[key] == nil
                    }
                }
                guard isWaiting else { throw failure.error }
            }
            try await pace.rest(events: 1, began: began)
        }
    }

    /// Does a transaction with many events again when one of them fails, up to ``triesMax`` times for each event.
    /// - Parameter body: gets how often events have failed.
    func retryingEvents<Result: Sendable>(
        _ pace: RebuildPace, _ body: @Sendable ([Position: UInt32]) async throws -> Result
    ) async throws -> Result {
        var tries: [Position: UInt32] = [:]
        while true {
            do {
                let before = tries
                return try await retrying { try await body(before) }
            } catch let failure as GenerationBuilder<Database>.Failure {
                let count = tries[failure.event.position, default: 0] + 1
                guard count < triesMax, case .retry(let time) = failure.failure.kind else { throw failure }
                tries[failure.event.position] = count
                try await pace.pause(time ?? .milliseconds(100))
            }
        }
    }

    /// Drops generations that nobody needs. One that stays, because readers hold its tables, goes the next time.
    func dropUnneeded() async {
        do {
            try await database.withTransaction { transaction in
                if let statement = database.lockTimeoutStatement { try await transaction.execute(statement) }
                for row in try await store.rows(transaction) where row.state == .dropped {
                    try await store.drop(row, transaction)
                }
            }
        } catch {
            logger.warning("the old generation's tables are not dropped yet: \(error)")
        }
    }
}
