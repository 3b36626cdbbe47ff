public import Logging
public import MartletClient
public import MartletModel

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
///
/// A runner can also take in the events of the consumers that many tenants have under one name, on one stream
/// (``init(_:ofAll:in:as:client:database:logger:)``). For each tenant it takes the same steps in the same rows: runners over one
/// tenant and over all can share a read model, and hand over to one another. Not so with a ``RebuildableProjection``: its
/// tables are those of one tenant, or of all.
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
    /// Called when a slot stops, with the reason: nothing more of it is handled by this worker until the consumer's definition is
    /// put, or a key of the slot is tried again.
    public var onStop: @Sendable (SlotID, String) -> Void = { _, _ in }

    /// Whose consumers of the name it works on.
    private enum Tenants: Sendable {
        case one(TenantID)
        /// All that the client may use, where there are none.
        case many(Set<TenantID>)
    }

    let projection: any Projection
    /// The consumer's name, or that of the consumers.
    let name: ConsumerName
    private let tenants: Tenants
    private let worker: WorkerName
    let client: MartletClient
    let database: Database
    let logger: Logger

    private init(
        _ projection: any Projection, _ name: ConsumerName, _ tenants: Tenants, _ worker: WorkerName,
        _ client: MartletClient, _ database: Database, _ logger: Logger
    ) {
        self.projection = projection
        self.name = name
        self.tenants = tenants
        self.worker = worker
        self.client = client
        self.database = database
        self.logger = logger
    }

    /// A runner that does nothing yet.
    /// - Parameter worker: the same each time that it comes; another runner of that name ends this one.
    public init(
        _ projection: any Projection, of consumer: ConsumerID, as worker: WorkerName, client: MartletClient,
        database: Database, logger: Logger = Logger(label: "martlet.projection")
    ) {
        self.init(projection, consumer.name, .one(consumer.tenant), worker, client, database, logger)
    }

    /// A runner over the consumers that many tenants have under one name, also over those that are put later; it does nothing
    /// yet.
    ///
    /// A tenant whose consumer is deleted, or cannot be worked on, is logged as a warning, and the runner goes on with the
    /// others. ``ProjectedEvent/tenant`` says whose event a handler gets.
    /// - Parameters:
    ///   - tenants: at most ``MartletModel/Limits/tenantsPerStreamMax``; empty means all that the client may use. Runners over
    ///     other tenants share the tables.
    ///   - worker: the same each time that it comes; another runner of that name ends this one.
    public init(
        _ projection: any Projection, ofAll consumer: ConsumerName, in tenants: Set<TenantID> = [],
        as worker: WorkerName, client: MartletClient, database: Database,
        logger: Logger = Logger(label: "martlet.projection")
    ) {
        self.init(projection, consumer, .many(tenants), worker, client, database, logger)
    }

    /// Makes the tables in which the read model's database keeps how far it is, where they are missing, and the first
    /// generation of a ``RebuildableProjection``; ``run()`` does it too.
    /// - Throws: a ``ProjectionDatabaseError`` also where they are there, but not as this version needs them; a
    ///   ``ProjectionRebuildError`` for a ``RebuildableProjection`` over all tenants whose tables are those of one, and the other
    ///   way round.
    public func prepare() async throws {
        try await ReadModelTables(database: database, retrying: retrying).prepare(projection, generations)
    }

    var retrying: DatabaseRetrying { DatabaseRetrying(backoff: databaseBackoff, logger: logger) }

    /// Whether it works on the consumers of many tenants.
    var isOfMany: Bool { if case .many = tenants { true } else { false } }

    /// What it takes in of a tenant.
    func consumer(of tenant: TenantID) -> ProjectedConsumer {
        ProjectedConsumer(ConsumerID(tenant: tenant, name: name), generations, client)
    }

    private var scope: ProjectionScope {
        switch tenants {
        case .one(let tenant): .one(ConsumerID(tenant: tenant, name: name))
        case .many: .all(name)
        }
    }

    /// The generations of a ``RebuildableProjection``; nil for another one.
    private var generations: GenerationStore? {
        projection is any RebuildableProjection ? GenerationStore(scope: scope) : nil
    }

    /// Runs until its task is cancelled, and returns then: what is under way is rolled back, and comes again to whoever is next.
    /// - Throws: what a retry cannot repair: `CONSUMER_NOT_FOUND`, `WORKER_REPLACED`, an error of the database that is not
    ///   transient, or `HISTORY_CHANGED`: the server no longer has an event that the read model has taken in. Nothing more is
    ///   taken in then, of no tenant, and the message says what to do. A ``StuckHandler`` where a handler did not return when it was
    ///   cancelled; it has returned by then.
    public func run() async throws {
        // Whatever the cancellation makes fail.
        do { try await follow() } catch { guard Task.isCancelled else { throw error } }
    }

    private func follow() async throws {
        try await prepare()
        try await waitForItsVersion()
        let consumption = try await consume()
        let timer = HandlerTimer(timeout: handlerTimeout, grace: handlerGrace)
        // What one slot fails by ends all of them.
        let (failures, failure) = AsyncThrowingStream.makeStream(of: Void.self)
        let dispatcher = SlotDispatcher(self, consumption, timer, failure)
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            group.addTask { for try await _ in failures {} }
            group.addTask { try await watch(timer, consumption) }
            group.addTask { try await dispatcher.run() }
            try await group.next()
        }
    }

    /// The stream, under higher epochs than the read model has.
    private func consume() async throws -> TenantsConsumption {
        let scope = scope
        let epoch = try await retrying {
            try await database.withTransaction { try await ProjectionProgress.epochMax(in: scope, $0) }
        }
        switch tenants {
        case .one(let tenant):
            return client.consumeHoldingCredit(
                ConsumeRequest(
                    ConsumerID(tenant: tenant, name: name), worker: worker, epochAbove: epoch, keepsTime: true)
            ).ofTenant
        case .many(let tenants):
            return client.consumeHoldingCredit(
                ConsumeTenantsRequest(name, of: tenants, worker: worker, epochAbove: epoch, keepsTime: true))
        }
    }

    /// - Throws: ``StuckHandler`` when a handler is stuck.
    private func watch(_ timer: HandlerTimer, _ consumption: TenantsConsumption) async throws {
        let (event, tenant, time) = try await timer.watch()
        let stuck = StuckHandler(
            tenant: tenant, position: event.event.position, key: event.key, slot: event.slot, time: time)
        // Its key has no row of its own yet. Whoever gets the slot makes one, as it finds the key blocked: until then nobody
        // moves the slot, this runner least of all.
        consumption.reject(event.delivery, .park, reason: "\(stuck)")
        logger.error("\(stuck)", metadata: ["consumer": "\(name)"])
        onStuck(stuck)
        throw stuck
    }

    /// Waits while the live generation is of an older version than the projection.
    private func waitForItsVersion() async throws {
        guard let generations, let declared = projection as? any RebuildableProjection else {
            return
        }
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
}
