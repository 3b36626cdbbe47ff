import Logging
import MartletClient
import MartletModel
import NIOConcurrencyHelpers

/// Divides what comes on a runner's stream among tasks, one for each slot that it has of a tenant's consumer.
///
/// What waits for them is bounded by the consumption's window: credit goes back to the server when a slot takes an event out
/// of its queue. What one slot fails by ends the runner.
struct SlotDispatcher<Database: ProjectionDatabase>: Sendable {
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

    /// Slots that ask the server about themselves at a time: thousands may be assigned at once, and the calls of a connection
    /// are bounded.
    private static var questionsMax: Int { 64 }

    private let runner: ProjectionRunner<Database>
    private let consumption: TenantsConsumption
    private let timer: HandlerTimer
    private let failure: AsyncThrowingStream<Void, any Error>.Continuation
    private let questions = Turnstile(places: questionsMax)

    /// - Parameter failure: ends with what a slot fails by.
    init(
        _ runner: ProjectionRunner<Database>, _ consumption: TenantsConsumption, _ timer: HandlerTimer,
        _ failure: AsyncThrowingStream<Void, any Error>.Continuation
    ) {
        self.runner = runner
        self.consumption = consumption
        self.timer = timer
        self.failure = failure
    }

    private var database: Database { runner.database }
    private var retrying: DatabaseRetrying { runner.retrying }

    /// Runs until the stream ends.
    func run() async throws {
        try await withThrowingDiscardingTaskGroup { group in
            var assignments: [TenantID: [Int: Assignment]] = [:]
            defer { for slots in assignments.values { for assignment in slots.values { assignment.revoke() } } }
            for try await item in consumption {
                switch item {
                case .joined(let tenants):
                    runner.logger.debug(
                        "works on the consumers of more tenants",
                        metadata: ["consumer": "\(runner.name)", "tenants": "\(tenants.count)"])
                case .left(let tenant, let error):
                    for assignment in (assignments.removeValue(forKey: tenant) ?? [:]).values { assignment.revoke() }
                    runner.logger.warning(
                        "nothing more of a tenant is taken in until the worker joins its consumer again: \(error)",
                        metadata: ["consumer": "\(runner.name)", "tenant": "\(tenant)"])
                case .of(let tenant, .assigned(let slots)):
                    guard !slots.isEmpty else { break }
                    let assigned = slots.map { Assignment($0) }
                    for assignment in assigned {
                        assignments[tenant, default: [:]].updateValue(assignment, forKey: assignment.slot.number)?
                            .revoke()
                    }
                    let consumer = runner.consumer(of: tenant)
                    group.addTask { await work(on: assigned, of: consumer) }
                case .of(let tenant, .revoked(let slots)):
                    for slot in slots { assignments[tenant]?.removeValue(forKey: slot)?.revoke() }
                    if assignments[tenant]?.isEmpty == true { assignments[tenant] = nil }
                case .of(let tenant, .events(let events)):
                    var parts: [Int: [ConsumedEvent]] = [:]
                    for event in events { parts[event.slot, default: []].append(event) }
                    for (slot, part) in parts {
                        if let assignment = assignments[tenant]?[slot] {
                            assignment.queue.yield(part)
                        } else {
                            consumption.giveBack(part)
                        }
                    }
                case .of(let tenant, .stopped(let slot, let reason)):
                    runner.onStop(SlotID(consumer: ConsumerID(tenant: tenant, name: runner.name), number: slot), reason)
                case .of(_, .committed), .of(_, .paused): break
                }
            }
        }
    }

    /// Works on slots that were assigned together, until they are revoked.
    private func work(on assigned: [Assignment], of consumer: ProjectedConsumer) async {
        // Its own slot is compared when it is claimed. This one is for what others have taken in: with any of it lost, nothing
        // is to be added.
        do { try await checkLast(of: consumer) } catch { return failure.finish(throwing: error) }
        await withDiscardingTaskGroup { group in
            for assignment in assigned {
                group.addTask {
                    do { try await project(assignment, of: consumer) } catch { failure.finish(throwing: error) }
                }
            }
        }
    }

    /// Compares the last event of all that the read model has taken in with the server's.
    private func checkLast(of consumer: ProjectedConsumer) async throws {
        let progress = consumer.progress
        let last = try await retrying { try await database.withTransaction { try await progress.last($0) } }
        if let last { try await questions.pass { try await consumer.past.check(last.floor, of: last.slot) } }
    }

    /// Takes in the events of a slot, until it is revoked or another worker has it.
    private func project(_ assignment: Assignment, of consumer: ProjectedConsumer) async throws {
        let slot = assignment.slot
        do {
            var projector = SlotProjector(slot, consumer, database, runner.projection, timer)
            let claimed = try await retrying { try await projector.claim() }
            let blocked = try await questions.pass {
                try await consumer.past.check(claimed, of: slot.number)
                return try await blockedKeys(of: slot.number, of: consumer)
            }
            try await retrying {
                try await projector.begin(blocked: blocked, checkpoint: slot.checkpoint.position)
            }
            for await part in assignment.events {
                consumption.giveBack(part)
                for start in stride(from: 0, to: part.count, by: max(1, runner.batchEventsMax)) {
                    let batch = part[start..<min(part.count, start + max(1, runner.batchEventsMax))]
                    try await take(batch, &projector)
                }
            }
        } catch let fenced as ProjectionProgress.Fenced {
            note(fenced, of: assignment, of: consumer)
            await passOver(assignment)
        } catch let error as MartletError where error.reason == .consumerNotFound && runner.isOfMany {
            // The stream says the same, and goes on with the other tenants.
            await passOver(assignment)
        }
    }

    /// What still comes of a slot must not hold up the others.
    private func passOver(_ assignment: Assignment) async {
        for await part in assignment.events { consumption.giveBack(part) }
    }

    private func note(_ fenced: ProjectionProgress.Fenced, of assignment: Assignment, of consumer: ProjectedConsumer) {
        let metadata: Logger.Metadata = [
            "tenant": "\(consumer.id.tenant)", "consumer": "\(consumer.id.name)", "slot": "\(assignment.slot.number)",
            "epoch": "\(assignment.slot.epoch)",
            "stored_epoch": "\(fenced.storedEpoch.map { "\($0)" } ?? "none")",
        ]
        if assignment.isRevoked.withLockedValue({ $0 }) {
            runner.logger.debug("another worker has the slot", metadata: metadata)
        } else {
            // The server may be about to say so. If it never does, its epochs are behind those of the read model.
            runner.logger.warning(
                """
                the read model has the slot under another epoch than the one that the server assigned, and the server has \
                not taken the slot away: nothing more of it is taken in. If it stays so, restart the runner: it then asks \
                for a higher epoch
                """, metadata: metadata)
        }
    }

    private func take(_ batch: ArraySlice<ConsumedEvent>, _ projector: inout SlotProjector<Database>) async throws {
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
    private func blockedKeys(
        of slot: Int, of consumer: ProjectedConsumer
    ) async throws(MartletError) -> [ConsumerKey] {
        var keys: [ConsumerKey] = []
        // The last place that there could be before the slot's first.
        var after: KeyPlace? =
            slot == 0 ? nil : KeyPlace(slot: slot - 1, key: ConsumerKey(bytes: Array(repeating: 0xFF, count: 256)))
        while true {
            let page = try await runner.client.blockedKeys(ListBlockedKeysRequest(consumer.id, after: after))
            keys += page.filter { $0.place.slot == slot }.map(\.place.key)
            guard let last = page.last, page.count >= ListBlockedKeysRequest.countMax, last.place.slot == slot else {
                return keys
            }
            after = last.place
        }
    }
}
