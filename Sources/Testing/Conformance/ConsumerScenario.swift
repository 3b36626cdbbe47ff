import MartletModel
import NIOCore

// Short ways to say things of consumers.

extension Scenario {
    func consumer(_ name: String = "balances", of tenant: TenantID? = nil) -> ConsumerID {
        .named(name, of: tenant ?? self.tenant)
    }

    /// A definition whose slots try again at once.
    func eager(slots: Int = 1, _ change: (inout SlotSettings) -> Void = { _ in }) -> ConsumerDefinition {
        var definition = ConsumerDefinition(slotCount: slots)
        definition.delivery.backoffMin = .milliseconds(1)
        definition.delivery.backoffMax = .milliseconds(1)
        change(&definition.delivery)
        return definition
    }

    @discardableResult
    func define(
        _ definition: ConsumerDefinition, start: SubscriptionStart = .after(.start),
        expected: ExpectedDefinition = .any, named name: String = "balances", of tenant: TenantID? = nil
    ) async throws(MartletError) -> PutConsumerReceipt {
        try await subject.putConsumer(
            PutConsumerRequest(consumer(name, of: tenant), definition, start: start, expected: expected))
    }

    func description() async throws(MartletError) -> ConsumerDescription { try await subject.consumer(consumer()) }

    @discardableResult
    func reset(
        to start: SubscriptionStart, isPreview: Bool = false
    ) async throws(MartletError) -> ResetConsumerReceipt {
        try await subject.resetConsumer(ResetConsumerRequest(consumer(), start: start, isPreview: isPreview))
    }

    func blockedKeys(after place: KeyPlace? = nil) async throws(MartletError) -> [ListedKey] {
        try await subject.blockedKeys(ListBlockedKeysRequest(consumer(), after: place))
    }

    func unblock(_ place: KeyPlace, skipping position: UInt64? = nil) async throws(MartletError) -> Int {
        let key = UnblockKeysRequest.Key(place, skipping: position.map { Position($0) })
        return try await subject.unblockKeys(UnblockKeysRequest(consumer(), keys: [key]))
    }

    @discardableResult
    func reached(_ position: UInt64, within timeout: Duration? = nil) async throws(MartletError) -> Position {
        try await subject.awaitConsumer(
            AwaitConsumerRequest(consumer(), position: Position(position)), timeout: timeout ?? patience)
    }

    func worker(
        _ name: String = "a", of consumer: String = "balances", tenant: TenantID? = nil, epochAbove: UInt64 = 0
    ) -> ClauseWorker {
        guard let name = WorkerName(name) else { preconditionFailure("a valid name of a worker") }
        let id = self.consumer(consumer, of: tenant)
        return ClauseWorker(
            subject.consume(ConsumeRequest(id, worker: name, epochAbove: epochAbove)), patience: patience)
    }

    /// Appends an event to each of the aggregates, one after the other.
    func fill(_ aggregates: [AggregateName], tenant: TenantID? = nil) async throws {
        for aggregate in aggregates { try await append(try events(1), to: aggregate, tenant: tenant) }
    }

    /// One aggregate for each slot, in their order.
    func aggregates(slots count: Int) -> [AggregateName] {
        (0..<count).map { number in
            while true {
                let made = aggregate()
                if made.key.slot(of: count) == number { return made }
            }
        }
    }

    /// Waits until it is so.
    func until(_ what: String, _ isSo: () async throws -> Bool) async throws {
        let deadline = ContinuousClock.now + patience
        while try await !isSo() {
            try require(ContinuousClock.now < deadline, "it has not come to be in \(patience): \(what)")
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    /// Waits until what is stored has come to that position, which it must not go beyond.
    func checkpoint(is position: UInt64) async throws {
        try await until("the checkpoint is \(position)") {
            let found = try await description().checkpoint.position
            try require(found <= Position(position), "the checkpoint is \(found), expected at most \(position)")
            return found == Position(position)
        }
    }
}

extension AggregateName {
    /// The key of its events, where they are ordered by aggregate.
    var key: ConsumerKey { ConsumerKey(.aggregate, aggregate: self) { _ in nil } }
}

extension [WorkerEvent] {
    var positions: [UInt64] { map(\.event.position.rawValue) }
    var attempts: [UInt32] { map(\.delivery.attempt) }
}

/// A worker of a clause: takes items when it is told to, and keeps what it has.
actor ClauseWorker {
    private nonisolated let worker: any ConformanceWorker
    private let patience: Duration
    /// The slots that it has.
    private(set) var slots: [Int: ConsumeMessage.Slot] = [:]
    /// What is stored of slots, one after the other.
    private(set) var commits: [Int: [Checkpoint]] = [:]
    private(set) var stopped: [Int: String] = [:]
    private(set) var isPaused = false
    private var ready: [WorkerEvent] = []
    private var lastDelivery: UInt64 = 0

    init(_ worker: any ConformanceWorker, patience: Duration) {
        self.worker = worker
        self.patience = patience
    }

    /// Takes one item. Events are kept until they are taken.
    @discardableResult
    func next() async throws -> WorkerItem {
        let (worker, patience) = (worker, patience)
        let item = try await withThrowingTaskGroup(of: WorkerItem?.self) { group in
            group.addTask { try await worker.next() }
            group.addTask {
                try await Task.sleep(for: patience)
                throw ConformanceFailure("nothing came for a worker in \(patience)")
            }
            defer { group.cancelAll() }
            return try await group.next() ?? nil
        }
        guard let item else { throw CancellationError() }
        switch item {
        case .assigned(let new): for slot in new { slots[slot.number] = slot }
        case .revoked(let lost):
            for number in lost { slots[number] = nil }
            ready.removeAll { lost.contains($0.delivery.slot) }
        case .events(let events):
            for event in events {
                try requireEqual(event.delivery.number, lastDelivery + 1, "the number of a delivery")
                lastDelivery += 1
                try require(slots[event.delivery.slot] != nil, "an event came of a slot that the worker does not have")
            }
            ready += events
        case .committed(let slot, let checkpoint): commits[slot, default: []].append(checkpoint)
        case .stopped(let slot, let reason): stopped[slot] = reason
        case .paused(let isPaused): self.isPaused = isPaused
        }
        return item
    }

    /// The next so many events, as soon as they are there.
    func take(_ count: Int) async throws -> [WorkerEvent] {
        while ready.count < count { try await next() }
        defer { ready.removeFirst(count) }
        return Array(ready.prefix(count))
    }

    /// The next events, at least one, as many as are there.
    func takeAll() async throws -> [WorkerEvent] {
        while ready.isEmpty { try await next() }
        defer { ready = [] }
        return ready
    }

    /// Whether events have come that were not taken.
    var hasEvents: Bool { !ready.isEmpty }

    /// Takes items until it has so many slots.
    func hold(slots count: Int) async throws {
        while slots.count != count { try await next() }
    }

    /// Takes items until slots are assigned, from whenever it is called.
    func assigned() async throws -> [ConsumeMessage.Slot] {
        while true { if case .assigned(let slots) = try await next() { return slots } }
    }

    /// Takes items until what is stored of a slot has come to that position, which it must not go beyond.
    /// - Parameter quietly: no event must come meanwhile.
    func committed(to position: UInt64, slot: Int = 0, quietly: Bool = false) async throws {
        while commits[slot]?.last?.position != Position(position) {
            try require(!quietly || ready.isEmpty, "events came that must not: \(ready.positions)")
            let last = commits[slot]?.last?.position ?? .start
            try require(last < Position(position), "\(last) is stored, expected at most \(position)")
            try await next()
        }
    }

    /// Forgets what was stored of slots.
    func forgetCommits() { commits = [:] }

    /// Takes items until it has come to be so.
    func until(_ isSo: @Sendable (isolated ClauseWorker) -> Bool) async throws {
        while !isSo(self) { try await next() }
    }

    /// Takes items until the stream ends.
    func end() async throws -> MartletError {
        while true {
            do { try await next() } catch let error as MartletError { return error }
        }
    }

    nonisolated func say(_ reply: WorkerReply) { worker.say(reply) }

    nonisolated func acknowledge(_ events: [WorkerEvent]) {
        for event in events { say(.acknowledge(event.delivery.number, upTo: false)) }
    }

    nonisolated func acknowledge(upTo event: WorkerEvent) { say(.acknowledge(event.delivery.number, upTo: true)) }

    nonisolated func reject(_ event: WorkerEvent, _ failure: WorkerReply.Failure, reason: String = "as told") {
        say(.reject(event.delivery.number, failure, reason: reason))
    }

    func leave() async { await worker.leave() }
}
