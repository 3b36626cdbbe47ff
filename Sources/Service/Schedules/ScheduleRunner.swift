import FoundationEssentials
import Logging
import MartletModel
import MartletStorage
import NIOConcurrencyHelpers
import NIOCore

/// Appends events whose time has come.
///
/// It looks for them when the first that it knows of is due, and once a second, as other servers set some too. Those of
/// another server it leaves to that one for a moment. Of two servers that append the same event, the decision lets one.
///
/// What it holds is bounded: so many bytes, and events of so many tenants at a time. A tenant whose events are on their way is not looked
/// at again until they are there, so that one that is locked, or has a million events due at once, holds up no other.
final class ScheduleRunner: Sendable {
    /// It looks that often at least.
    private static let poll = TimeAmount.seconds(1)
    /// A tenant whose events could not be written is left alone for so long.
    private static let rest = TimeAmount.seconds(1)
    /// So long the server that has set a schedule has for itself once it is due.
    private static let patienceMicros: Int64 = 100_000
    /// Tenants that have events on their way, or rest.
    private static let busyTenantsMax = 1_024
    private static let tenantsPerLook = 64
    private static let countPerTenantMax = 64
    private static let bytesPerLook = 4 << 20
    /// It looks for no more while so much is on its way.
    private static let bytesMax = 16 << 20

    private struct State {
        var eventLoop: (any EventLoop)?
        /// When it looks next by itself.
        var timer: (at: Timestamp, task: Scheduled<Void>)?
        var isLooking = false
        /// Something may have become due while it looked.
        var looksAgain = false
        /// Of each tenant, how many events are on their way.
        var busy: [TenantID: Int] = [:]
        /// What those events hold.
        var bytes = 0
        /// When something was logged last, and how much was not since.
        var logged: (at: Timestamp, omitted: Int)?
    }

    private let store: EventStore
    private let logger: Logger
    private let counters: ScheduleCounters
    private let state = NIOLockedValueBox(State())

    init(store: EventStore, logger: Logger, counters: ScheduleCounters) {
        self.store = store
        self.logger = logger
        self.counters = counters
    }

    /// Begins.
    func start(on eventLoop: any EventLoop) {
        state.withLockedValue { $0.eventLoop = eventLoop }
        look()
    }

    /// Looks no more; what is on its way goes on.
    func stop() {
        let timer = state.withLockedValue { state in
            state.eventLoop = nil
            return state.timer.take()
        }
        timer?.task.cancel()
    }

    /// A schedule is set that is due then.
    func note(_ due: Timestamp) { arm(due) }

    /// Looks at that moment, if not before.
    private func arm(_ time: Timestamp) {
        let now = store.clock()
        let old = state.withLockedValue { state -> Scheduled<Void>? in
            guard let eventLoop = state.eventLoop else { return nil }
            if let timer = state.timer, timer.at <= time { return nil }
            let wait = max(0, min(time.microseconds - now.microseconds, Self.poll.nanoseconds / 1_000))
            let task = eventLoop.scheduleTask(in: .microseconds(wait)) { self.timerFired() }
            defer { state.timer = (Timestamp(microseconds: now.microseconds + wait), task) }
            return state.timer?.task
        }
        old?.cancel()
    }

    private func timerFired() {
        state.withLockedValue { $0.timer = nil }
        look()
    }

    private func look() {
        let except = state.withLockedValue { state -> Set<TenantID>? in
            guard state.eventLoop != nil else { return nil }
            guard !state.isLooking, state.busy.count < Self.busyTenantsMax, state.bytes < Self.bytesMax else {
                state.looksAgain = true
                return nil
            }
            state.isLooking = true
            state.looksAgain = false
            return Set(state.busy.keys)
        }
        guard let except else { return }
        let question = DueQuestion(
            now: store.clock(), patienceMicros: Self.patienceMicros, tenantsMax: Self.tenantsPerLook,
            countPerTenantMax: Self.countPerTenantMax, bytesMax: Self.bytesPerLook, except: except)
        store.read(for: EventStore.serverOwner) { reader throws(StorageError) in
            try reader.dueSchedules(question)
        } completion: { [self] result in
            looked(result)
        }
    }

    private func looked(_ result: Result<DueSchedules, MartletError>) {
        let found = (try? result.get()) ?? DueSchedules()
        let (looksAgain, isOver) = state.withLockedValue { state in
            for one in found.schedules {
                state.busy[one.tenant, default: 0] += 1
                state.bytes += one.schedule.contentBytes
            }
            for id in found.damaged.keys { state.busy[id.tenant, default: 0] += 1 }
            state.isLooking = false
            // There may be more of other tenants.
            return (state.looksAgain || !found.schedules.isEmpty, state.eventLoop == nil)
        }
        guard !isOver else { return }
        for one in found.schedules { append(one) }
        for (id, event) in found.damaged { park(id, event) }
        let now = store.clock()
        let poll = Timestamp(microseconds: now.microseconds + Self.poll.nanoseconds / 1_000)
        if looksAgain, case .success = result { look() } else { arm(min(found.next ?? poll, poll)) }
    }

    private func append(_ one: DueSchedules.Schedule) {
        let schedule = one.schedule
        var request = AppendRequest(
            tenant: one.tenant,
            aggregates: [AggregateAppend(aggregate: schedule.aggregate, expected: .any, events: [schedule.event])])
        request.heldBytes = schedule.event.body.storageCapacity
        request.firing = ScheduleFiring(
            schedule.key, due: schedule.due, latenessMillisMax: schedule.latenessMillisMax)
        store.write(.append(request)) { [self] result in
            state.withLockedValue { $0.bytes -= schedule.contentBytes }
            switch result {
            case .success(.firing(.parked(let reason))):
                counters.park()
                let id = ScheduleID(tenant: one.tenant, key: schedule.key)
                noteParked(id, event: schedule.event.id, isDamaged: false, reason)
            case .success(.appended(let receipt)):
                // A replay was appended before: by another server, or by this one, which did not hear of it.
                if !receipt.replayed { counters.fire(due: schedule.due, at: receipt.recordedAt) }
            case .success(.firing(.gone)): break
            case .success(let outcome):
                logger.error("the decision on a schedule is unexpected", metadata: ["outcome": "\(outcome)"])
            case .failure: return done(one.tenant, after: Self.rest)
            }
            done(one.tenant)
        }
    }

    /// Logs that a schedule is parked, at most once a second, however many are.
    private func noteParked(_ id: ScheduleID, event: UUID, isDamaged: Bool, _ reason: String) {
        let now = store.clock()
        let omitted = state.withLockedValue { state -> Int? in
            if let logged = state.logged, abs(now.microseconds - logged.at.microseconds) < 1_000_000 {
                state.logged?.omitted += 1
                return nil
            }
            defer { state.logged = (now, 0) }
            return state.logged?.omitted ?? 0
        }
        guard let omitted else { return }
        logger.log(
            level: isDamaged ? .error : .warning, "a schedule is parked: its event is not appended",
            metadata: [
                "tenant": "\(id.tenant)", "schedule": "\(id.key)", "event": "\(event)", "reason": "\(reason)",
                "omitted": "\(omitted)",
            ])
    }

    /// A schedule is not what was set: nothing is appended by it.
    private func park(_ id: ScheduleID, _ event: UUID) {
        let reason = "it is damaged: set it again"
        noteParked(id, event: event, isDamaged: true, reason)
        let change = SchedulesChange(
            .park(id.key, event: event, reason: reason), of: id.tenant, countMax: .max)
        store.write(.change(.schedules(change))) { [self] result in
            if case .failure = result { return done(id.tenant, after: Self.rest) }
            counters.park()
            done(id.tenant)
        }
    }

    /// An event of the tenant is there, or is not to come.
    private func done(_ tenant: TenantID, after rest: TimeAmount? = nil) {
        if let rest, let eventLoop = state.withLockedValue({ $0.eventLoop }) {
            eventLoop.scheduleTask(in: rest) { self.done(tenant) }
            return
        }
        let isFree = state.withLockedValue { state in
            guard let count = state.busy[tenant], count > 1 else {
                state.busy[tenant] = nil
                return true
            }
            state.busy[tenant] = count - 1
            return false
        }
        if isFree { look() }
    }
}
