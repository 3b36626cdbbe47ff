import MartletStorage
import NIOConcurrencyHelpers
public import NIOCore
import Synchronization

/// Is told when a server's ``ServingState`` changes. Used on its event loop.
public protocol HealthWatcher: AnyObject {
    /// The state has changed, perhaps several times, and perhaps back: ``ServerHealth/state`` is what it is now. It may
    /// come after ``ServerHealth/forget(_:on:)``.
    func healthChanged()
}

/// What a server can do right now, and who is told of changes. Nothing is done while nothing changes: a state that lasts
/// costs neither a timer nor a look at the watchers.
public final class ServerHealth: Sendable {
    /// Watchers that are told in one turn of their event loop.
    private static let watchersPerTurn = 128

    private struct Inner {
        var isDraining = false
        var standings: [StorageUse: StorageStanding] = [:]
        var loops: [ObjectIdentifier: LoopWatchers] = [:]
        /// Where pauses are waited for, and how a probe is made; nil before the start, and after the end.
        var driver: Driver?
        var timers: [StorageUse: Scheduled<Void>] = [:]

        var state: ServingState {
            var state = ServingState()
            state.isDraining = isDraining
            if standings[.reads]?.isWell == false { state.storage.remove(.reads) }
            if standings[.writes]?.isWell == false { state.storage.remove(.writes) }
            return state
        }
    }

    private struct Driver {
        var eventLoop: any EventLoop
        var probe: @Sendable (StorageUse) -> Void
    }

    /// What follows from a finding.
    private struct Step {
        var driver: Driver
        var action: StorageStanding.Action?
        var told: [LoopWatchers]
    }

    private let inner = NIOLockedValueBox(Inner())
    /// Uses whose calls are no news while they work: most calls look no further.
    private let quietReads = Atomic<Bool>(true)
    private let quietWrites = Atomic<Bool>(true)

    init() {}

    /// What the server can do right now.
    public var state: ServingState { inner.withLockedValue { $0.state } }

    /// Begins to look into what fails; until then all is taken to be well.
    ///
    /// - Parameter probe: finds out whether the storage can be used, and tells ``note(_:)``.
    func start(on eventLoop: any EventLoop, probe: @escaping @Sendable (StorageUse) -> Void) {
        inner.withLockedValue { $0.driver = Driver(eventLoop: eventLoop, probe: probe) }
    }

    /// Looks into nothing any more.
    func stop() {
        let timers = inner.withLockedValue { inner in
            inner.driver = nil
            defer { inner.timers = [:] }
            return inner.timers.values
        }
        for timer in timers { timer.cancel() }
    }

    // MARK: What is found out

    /// Takes note of what a call or a probe has found out; from any thread.
    func note(_ finding: StorageFinding) {
        switch finding {
        case .worked(let use):
            switch use {
            case .reads where quietReads.load(ordering: .relaxed): return
            case .writes where quietWrites.load(ordering: .relaxed): return
            default: break
            }
            step(use) { standing in
                standing.worked()
                return nil
            }
        case .failed(let use, let kind):
            guard kind.concernsWholeStorage else { return }
            step(use) { $0.failed(isFull: kind == .full) }
        case .probed(let use, let kind):
            step(use) { $0.probed(kind?.concernsWholeStorage == true ? .failed : .well) }
        case .probeRefused(let use): step(use) { $0.probed(.refused) }
        }
    }

    private func step(_ use: StorageUse, _ event: (inout StorageStanding) -> StorageStanding.Action?) {
        let step = inner.withLockedValue { inner -> Step? in
            guard let driver = inner.driver else { return nil }
            let before = inner.state
            var standing = inner.standings[use] ?? StorageStanding()
            let action = event(&standing)
            inner.standings[use] = standing
            switch use {
            case .reads: quietReads.store(standing.isQuiet, ordering: .relaxed)
            case .writes: quietWrites.store(standing.isQuiet, ordering: .relaxed)
            }
            return Step(driver: driver, action: action, told: inner.state == before ? [] : Array(inner.loops.values))
        }
        guard let step else { return }
        for watchers in step.told { watchers.tell(Self.watchersPerTurn) {} }
        carryOut(step.action, use, step.driver)
    }

    private func carryOut(_ action: StorageStanding.Action?, _ use: StorageUse, _ driver: Driver) {
        switch action {
        case nil: break
        case .probe: driver.probe(use)
        case .pause(let time):
            let timer = driver.eventLoop.scheduleTask(in: time) { [weak self] in
                guard let self else { return }
                step(use) { $0.pauseEnded() }
            }
            let isStopped = inner.withLockedValue { inner -> Bool in
                guard inner.driver != nil else { return true }
                inner.timers[use] = timer
                return false
            }
            if isStopped { timer.cancel() }
        }
    }

    // MARK: The end

    /// No calls are to be begun any more.
    ///
    /// - Returns: when every watcher has been told.
    func startDraining(on eventLoop: any EventLoop) -> EventLoopFuture<Void> {
        let loops = inner.withLockedValue { inner -> [LoopWatchers] in
            defer { inner.isDraining = true }
            return inner.isDraining ? [] : Array(inner.loops.values)
        }
        let told = loops.map { watchers -> EventLoopFuture<Void> in
            let promise = eventLoop.makePromise(of: Void.self)
            watchers.tell(Self.watchersPerTurn) { promise.succeed() }
            return promise.futureResult
        }
        return EventLoopFuture.andAllComplete(told, on: eventLoop)
    }

    // MARK: Watchers

    /// How many are told on the event loop that this is called on.
    func watcherCount(on eventLoop: any EventLoop) -> Int { watchers(of: eventLoop).count }

    /// Tells a watcher of changes from now on; on its event loop. It reads ``state`` afterwards, so that it misses none.
    public func watch(_ watcher: any HealthWatcher, on eventLoop: any EventLoop) {
        watchers(of: eventLoop).insert(watcher)
    }

    /// Tells a watcher no more; on its event loop.
    public func forget(_ watcher: any HealthWatcher, on eventLoop: any EventLoop) {
        watchers(of: eventLoop).remove(watcher)
    }

    private func watchers(of eventLoop: any EventLoop) -> LoopWatchers {
        inner.withLockedValue { inner in
            let id = ObjectIdentifier(eventLoop)
            if let known = inner.loops[id] { return known }
            let made = LoopWatchers(eventLoop)
            inner.loops[id] = made
            return made
        }
    }
}

/// The watchers of one event loop.
private final class LoopWatchers: Sendable {
    private let eventLoop: any EventLoop
    private let watchers: NIOLoopBoundBox<[ObjectIdentifier: any HealthWatcher]>

    /// Those of the event loop that this is called on.
    init(_ eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
        watchers = NIOLoopBoundBox([:], eventLoop: eventLoop)
    }

    var count: Int { watchers.value.count }

    func insert(_ watcher: any HealthWatcher) { watchers.value[ObjectIdentifier(watcher)] = watcher }

    func remove(_ watcher: any HealthWatcher) { watchers.value[ObjectIdentifier(watcher)] = nil }

    /// Tells all that are there when their event loop comes to it, a few in each of its turns; from any thread.
    func tell(_ countPerTurn: Int, whenDone done: @escaping @Sendable () -> Void) {
        eventLoop.execute { [self] in tell(Array(watchers.value.values)[...], countPerTurn, done) }
    }

    private func tell(
        _ left: ArraySlice<any HealthWatcher>, _ countPerTurn: Int, _ done: @escaping @Sendable () -> Void
    ) {
        for watcher in left.prefix(countPerTurn) { watcher.healthChanged() }
        let rest = NIOLoopBound(left.dropFirst(countPerTurn), eventLoop: eventLoop)
        guard !rest.value.isEmpty else { return done() }
        eventLoop.execute { [self] in tell(rest.value, countPerTurn, done) }
    }
}
