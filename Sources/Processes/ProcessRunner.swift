public import Logging
public import MartletClient
import MartletEventSourcing
public import MartletModel

/// Runs the instances of a process: works on a consumer, and does what the manager plans for each of its events, once.
///
///     let runner = ProcessRunner(Transfers(), of: consumer, as: worker, client: client)
///     try await runner.run()
///
/// Put the consumer before, with a filter that lets in what the process reacts to and its own aggregates
/// (``ProcessManager/filter(reactingTo:)``). Start as many runners as there is work for, in one program or in several, each
/// with a worker's name of its own. One that is stopped or killed at any moment is replaced by the others, or by itself when
/// it comes again.
///
/// Resetting the consumer has the manager plan for old events again, in the states of today.
public struct ProcessRunner<Manager: ProcessManager>: Sendable {
    /// How often an event is planned for in a row, when others write to the same aggregates in between; then the event fails,
    /// and is tried again as the consumer says.
    public var plansMax = 100
    /// How long it waits in between, and before it turns to a server again that cannot be reached.
    public var backoff = Backoff(initial: .milliseconds(5), max: .seconds(1))
    /// Called when a slot stops, with its number and why.
    public var onStop: @Sendable (Int, String) -> Void = { _, _ in }

    private enum Outcome {
        case settled
        case failed(PlanFailure)
        /// It comes again.
        case takenBack
        /// Another worker has the slot.
        case fenced
    }

    private let manager: Manager
    private let request: ConsumeRequest
    private let client: MartletClient
    private let logger: Logger
    private let repositories: Repositories
    private let filter = ConsumerFilter()

    /// A runner that does nothing yet.
    /// - Parameter worker: the same each time that it comes; another runner of that name ends this one.
    public init(
        _ manager: Manager, of consumer: ConsumerID, as worker: WorkerName, client: MartletClient,
        logger: Logger = Logger(label: "martlet.process", factory: { _ in SwiftLogNoOpLogHandler() })
    ) {
        self.manager = manager
        request = ConsumeRequest(consumer, worker: worker, keepsTime: true)
        self.client = client
        self.logger = logger
        repositories = Repositories(client: client, tenant: consumer.tenant, logger: logger)
    }

    /// Runs until its task is cancelled, and returns then: what is under way is appended or comes again.
    /// - Throws: what a retry cannot repair: `CONSUMER_NOT_FOUND`, `WORKER_REPLACED`, `HISTORY_CHANGED`, a defect of the
    ///   schema of the process's state.
    public func run() async throws {
        // Whatever the cancellation makes fail.
        do { try await follow() } catch { guard Task.isCancelled else { throw error } }
    }

    private func follow() async throws {
        _ = try repositories.repository(of: Manager.State.self)
        let consumption = client.consumeHoldingCredit(request)
        // What one slot fails by ends all of them.
        let (failures, failure) = AsyncThrowingStream.makeStream(of: Void.self)
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            group.addTask { for try await _ in failures {} }
            group.addTask { try await dispatch(consumption, failure) }
            try await group.next()
        }
    }

    /// Divides what comes among the slots' tasks.
    private func dispatch(
        _ consumption: Consumption, _ failure: AsyncThrowingStream<Void, any Error>.Continuation
    ) async throws {
        try await withThrowingDiscardingTaskGroup { group in
            var mailboxes: [Int: SlotMailbox] = [:]
            defer { for mailbox in mailboxes.values { mailbox.revoke() } }
            for try await item in consumption {
                switch item {
                case .assigned(let slots):
                    for slot in slots {
                        let mailbox = SlotMailbox(slot)
                        mailboxes.updateValue(mailbox, forKey: slot.number)?.revoke()
                        group.addTask {
                            do { try await work(on: mailbox, consumption) } catch { failure.finish(throwing: error) }
                        }
                    }
                case .revoked(let slots): for slot in slots { mailboxes.removeValue(forKey: slot)?.revoke() }
                case .events(let events):
                    var parts: [Int: [ConsumedEvent]] = [:]
                    for event in events { parts[event.slot, default: []].append(event) }
                    for (slot, part) in parts {
                        if let mailbox = mailboxes[slot] {
                            mailbox.put { $0.events += part }
                        } else {
                            consumption.giveBack(part)
                        }
                    }
                case .committed(let slot, let checkpoint):
                    mailboxes[slot]?.put { $0.committed = checkpoint.position }
                case .stopped(let slot, let reason):
                    if let mailbox = mailboxes[slot] { consumption.giveBack(mailbox.stop()) }
                    onStop(slot, reason)
                case .paused: break
                }
            }
        }
    }

    /// Handles the events of a slot, one after the other, until it is revoked.
    private func work(on mailbox: SlotMailbox, _ consumption: Consumption) async throws {
        var order = SlotOrder(checkpoint: mailbox.slot.checkpoint.position)
        for await _ in mailbox.wakeUps {
            empty(mailbox, into: &order, consumption)
            while !mailbox.isRevoked, let next = order.next() {
                switch next {
                case .passOver(let event): consumption.giveBack([event])
                case .handle(let event):
                    switch try await handle(event, mailbox) {
                    case .settled: consumption.acknowledge(event.delivery)
                    case .takenBack: break
                    case .fenced: order.lose()
                    case .failed(let failure):
                        logger.warning(
                            "an event cannot be planned for",
                            metadata: [
                                "consumer": "\(request.consumer.name)", "position": "\(event.event.position)",
                                "reason": "\(failure.reason)",
                            ])
                        order.reject(event)
                        consumption.reject(event.delivery, failure.rejection, reason: failure.reason)
                    }
                    consumption.giveBack([event])
                }
                empty(mailbox, into: &order, consumption)
            }
        }
        // What it still has must not hold up other slots.
        consumption.giveBack(order.stop() + mailbox.take().events)
    }

    private func empty(_ mailbox: SlotMailbox, into order: inout SlotOrder, _ consumption: Consumption) {
        let content = mailbox.take()
        if content.hasStopped { consumption.giveBack(order.stop()) }
        if let committed = content.committed { order.note(committed: committed) }
        order.add(content.events)
    }

    /// Plans for an event and appends what is planned, until it is known what has become of it.
    private func handle(_ consumed: ConsumedEvent, _ mailbox: SlotMailbox) async throws -> Outcome {
        var (conflicts, failures) = (0, 0)
        while !mailbox.isRevoked {
            do {
                return try await react(to: consumed)
            } catch {
                // It must not count as a failure of the event.
                try Task.checkCancellation()
                guard let error = error as? MartletError else {
                    return .failed(error as? PlanFailure ?? PlanFailure(.retry(), "\(error)"))
                }
                switch error.reason {
                case .eventSettled: return .settled
                case .eventTakenBack: return .takenBack
                case .fenced: return .fenced
                case .historyChanged: throw error
                case .versionConflict:
                    conflicts += 1
                    guard conflicts < plansMax else { return .failed(PlanFailure(.retry(), error.description)) }
                default:
                    // Whether it is stored or not: if it is, the checkpoint says so next time.
                    guard error.isRetryable || error.code == .deadlineExceeded else {
                        return .failed(PlanFailure(.retry(), error.description))
                    }
                }
            }
            failures += 1
            try await Task.sleep(for: backoff.delay(afterFailures: failures, random: .random(in: 0..<1)))
        }
        return .fenced
    }

    private func react(to consumed: ConsumedEvent) async throws -> Outcome {
        let event = ProcessEvent(consumed.event, repositories.types)
        var reaction = Reaction(to: event, repositories, repositories.types, now: .now())
        try await reaction.plan(by: manager)
        let parts = reaction.parts
        guard !parts.isEmpty else { return .settled }
        try await checkFilter(reaction.schedules)
        let receipt = try await client.append(
            parts, tenant: request.consumer.tenant, checkpoint: consumed.checkpoint(of: request.consumer.name),
            schedules: reaction.schedules)
        await reaction.saveSnapshots(receipt, repositories)
        return .settled
    }

    /// Time-outs come back through the consumer, unless its filter keeps them out.
    private func checkFilter(_ schedules: [NewScheduleChange]) async throws {
        for case .set(let schedule) in schedules {
            let known = try await filter.value(client, request.consumer, isAnew: false)
            if known.matches(schedule.aggregate, schedule.event.type) { continue }
            let filter = try await filter.value(client, request.consumer, isAnew: true)
            guard filter.matches(schedule.aggregate, schedule.event.type) else {
                throw PlanFailure(
                    .park,
                    "the filter of consumer \(request.consumer.name) keeps out the time-out \(schedule.event.type) of "
                        + "\(schedule.aggregate.type): put the consumer with a filter that lets it in")
            }
        }
    }
}
