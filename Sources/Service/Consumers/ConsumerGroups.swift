import DequeModule
import FoundationEssentials
import MartletModel
import MartletStorage
import NIOConcurrencyHelpers
import NIOCore

/// The workers that are connected to this server, by consumer: tells the storage of them, and them which slots they have.
///
/// One command a consumer is under way at a time, for all of its workers. What a worker gives back waits for the next one.
/// Leases of many consumers are renewed in one go: see ``tendIfDue(_:now:)``.
final class ConsumerGroups: Sendable {
    /// What a worker is told.
    enum News: Sendable {
        /// How the group is.
        case view(GroupView, GroupView.Worker)
        /// The worker has no place.
        case refused(GroupView.Refusal)
        /// The consumer is not there, or cannot be used.
        case failed(MartletError)
    }

    /// A slot that delivers nothing more to a worker.
    struct Stop: Sendable {
        let slot: Int
        /// The one under which the slot has stopped: what lets it go on gives it a higher one.
        let epoch: UInt64
        /// At most ``BlockedKey/reasonBytesMax`` bytes.
        let reason: String
    }

    typealias Listener = @Sendable (News) -> Void

    private struct Member {
        var worker: GroupTending.Worker
        let listener: Listener
        /// Slots of the worker that have stopped. Their memory is on the account of the worker's call.
        var stops: [Int: Stop] = [:]
        /// A command that names it is under way, was carried out or may have been.
        var mayBeStored = false
    }

    private struct Group {
        var members: [UUID: Member] = [:]
        /// Sessions that are over and may be stored, and slots that were given back, since the last command.
        var leaving: [UUID] = []
        var returned: [GroupTending.Returned] = []
        var isTending = false
        /// Something happened while a command was under way.
        var isDue = false
        var lastTended: NIODeadline?

        /// No more are told of than the storage can have at a time: the leases of those that left first are over first.
        mutating func leave(_ sessions: [UUID], countMax: Int) {
            leaving += sessions
            leaving.removeFirst(max(0, leaving.count - countMax))
        }
    }

    private struct State {
        var groups: [ConsumerID: Group] = [:]
        /// Groups in the order in which they were tended. An entry is over when its group has been tended again, or is gone.
        var tended: Deque<(id: ConsumerID, at: NIODeadline)> = []

        mutating func note(_ id: ConsumerID, tendedAt now: NIODeadline) {
            groups[id]?.lastTended = now
            tended.append((id, now))
            if tended.count > 2 * groups.count + 16 { tended.removeAll { groups[$0.id]?.lastTended != $0.at } }
        }

        /// Takes groups that were last tended by that time, the longest ago first, until they have that many workers.
        mutating func take(tendedBy time: NIODeadline, workersMax: Int) -> [ConsumerID] {
            var (taken, workers): ([ConsumerID], Int) = ([], 0)
            while workers < workersMax, let first = tended.first {
                if let group = groups[first.id], group.lastTended == first.at {
                    guard first.at <= time else { break }
                    if !group.isTending {
                        taken.append(first.id)
                        workers += group.members.count
                    }
                }
                tended.removeFirst()
            }
            return taken
        }
    }

    private let store: EventStore
    private let limits: Limits
    /// Names this server among those on the same storage.
    private let server = UUID()
    private let state = NIOLockedValueBox(State())

    init(store: EventStore, limits: Limits) {
        self.store = store
        self.limits = limits
    }

    /// How often a group is tended: often enough that a lease outlives two commands that fail.
    var interval: TimeAmount { .milliseconds(max(1, Int64(limits.consumerLeaseMillis) / 3)) }

    /// Adds a worker. Its listener is called from any thread, until the worker leaves and perhaps once after that.
    func join(_ worker: GroupTending.Worker, of id: ConsumerID, now: NIODeadline, _ listener: @escaping Listener) {
        state.withLockedValue {
            $0.groups[id, default: Group()].members[worker.session] = Member(worker: worker, listener: listener)
        }
        tend(id, now: now)
    }

    /// The worker is gone: its slots are free.
    func leave(_ session: UUID, of id: ConsumerID, now: NIODeadline) {
        let wasThere = state.withLockedValue { state in
            guard let member = state.groups[id]?.members.removeValue(forKey: session) else { return false }
            if member.mayBeStored { state.groups[id]?.leave([session], countMax: limits.workersPerConsumerMax) }
            return true
        }
        if wasThere { tend(id, now: now) }
    }

    /// A worker gives slots back.
    func giveBack(_ slots: [GroupTending.Returned], of id: ConsumerID, now: NIODeadline) {
        state.withLockedValue { $0.groups[id]?.returned += slots }
        tend(id, now: now)
    }

    /// A slot of a worker has stopped; it is known until the worker loses the slot or leaves.
    func stopped(_ stop: Stop, _ session: UUID, of id: ConsumerID) {
        state.withLockedValue { $0.groups[id]?.members[session]?.stops[stop.slot] = stop }
    }

    /// A worker has lost a slot that had stopped.
    func forgetStop(of slot: Int, _ session: UUID, of id: ConsumerID) {
        state.withLockedValue { _ = $0.groups[id]?.members[session]?.stops.removeValue(forKey: slot) }
    }

    /// The slots that have stopped, of all workers on this server. Some may go on under a higher epoch by now.
    func stops(of id: ConsumerID) -> [Stop] {
        state.withLockedValue { $0.groups[id]?.members.values.flatMap(\.stops.values) ?? [] }
    }

    /// About so many workers are tended in one go: appends of their tenants wait while that commit is under way.
    private static let togetherMax = 128

    /// Tends the group if that was not done for a while. Those that were tended half as long ago come along: so groups get into
    /// step with each other, and a thousand of them take a few commits each ``interval``. None waits for another one.
    func tendIfDue(_ id: ConsumerID, now: NIODeadline) {
        let commands = state.withLockedValue { state -> [EventStore.Writing] in
            guard let last = state.groups[id]?.lastTended, now >= last + interval else { return [] }
            let halfAgo = now - .nanoseconds(interval.nanoseconds / 2)
            let others = state.take(tendedBy: halfAgo, workersMax: Self.togetherMax).filter { $0 != id }
            return ([id] + others).compactMap { command($0, &state, now) }
        }
        store.write(commands)
    }

    /// Tends the group, now or when the command that is under way is over.
    func tend(_ id: ConsumerID, now: NIODeadline) {
        guard let command = state.withLockedValue({ command(id, &$0, now) }) else { return }
        store.write([command])
    }

    /// What tends the group; nil where a command is under way, after which it is tended again.
    private func command(_ id: ConsumerID, _ state: inout State, _ now: NIODeadline) -> EventStore.Writing? {
        guard var group = state.groups[id] else { return nil }
        guard !group.isTending else {
            state.groups[id]?.isDue = true
            return nil
        }
        let tending = GroupTending(
            server: server, workers: group.members.values.map(\.worker), leaving: group.leaving,
            returned: group.returned, leaseMicros: Int64(limits.consumerLeaseMillis) * 1_000,
            workersMax: limits.workersPerConsumerMax)
        let new = Set(group.members.filter { !$0.value.mayBeStored }.keys)
        for session in new { group.members[session]?.mayBeStored = true }
        group.isTending = true
        group.isDue = false
        group.leaving = []
        group.returned = []
        state.groups[id] = group
        state.note(id, tendedAt: now)
        return (
            .change(.consumer(ConsumerChange(.tend(tending), of: id))),
            { [self] result in tended(id, tending, new: new, result, since: now) }
        )
    }

    /// - Parameter new: sessions that no command named before this one.
    private func tended(
        _ id: ConsumerID, _ tending: GroupTending, new: Set<UUID>, _ result: Result<WriteOutcome, MartletError>,
        since: NIODeadline
    ) {
        var told: [(Listener, News)] = []
        let isDue = state.withLockedValue { state -> Bool in
            guard var group = state.groups[id] else { return false }
            group.isTending = false
            switch result {
            case .success(.consumer(.tended(let view))): told = Self.told(view, &group)
            case .success(let outcome):
                let error = outcome.refusal ?? .unexpectedOutcome
                told = group.members.values.map { ($0.listener, .failed(error)) }
            case .failure(let error):
                if error.reason != .outcomeUnknown {
                    // Nobody needs to be told that those are over.
                    for session in new { group.members[session]?.mayBeStored = false }
                    group.leaving.removeAll { new.contains($0) }
                }
                // Said again with the next command. Whose time is over meanwhile is fenced off.
                let later = group.leaving
                group.leaving = tending.leaving
                group.leave(later, countMax: limits.workersPerConsumerMax)
                group.returned += tending.returned
            }
            let isOver = group.members.isEmpty && (group.leaving.isEmpty || !result.isSuccess)
            state.groups[id] = isOver ? nil : group
            return !isOver && group.isDue
        }
        for (listener, news) in told { listener(news) }
        if isDue { tend(id, now: since) }
    }

    private static func told(_ view: GroupView, _ group: inout Group) -> [(Listener, News)] {
        var told: [(Listener, News)] = []
        for worker in view.workers {
            guard let member = group.members[worker.session] else { continue }
            group.members[worker.session]?.worker.isNew = false
            told.append((member.listener, .view(view, worker)))
        }
        for (session, refusal) in view.refused {
            guard let member = group.members.removeValue(forKey: session) else { continue }
            told.append((member.listener, .refused(refusal)))
        }
        return told
    }
}

extension Result {
    fileprivate var isSuccess: Bool { if case .success = self { true } else { false } }
}
