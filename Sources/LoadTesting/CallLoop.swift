import MartletModel
import NIOConcurrencyHelpers

/// One of many who call at once; each has one call in flight at a time.
protocol Caller: Sendable {
    /// The event loop of its connection: what calls there changes no threads.
    var executor: any TaskExecutor { get }

    /// Carries out one call.
    /// - Returns: how many events it wrote or brought.
    mutating func call() async throws(MartletError) -> Int
}

/// Lets callers call until the end of the window: each one's next call right after the last (closed loop), or
/// all together at a rate (open loop).
struct CallLoop: Sendable {
    /// How long an open loop still works off its backlog after the end.
    static let backlogSecondsMax = 10.0
    /// A caller whose call failed waits that long, so that a server that refuses everything is not asked in a spin.
    private static let pauseAfterFailure = Duration.milliseconds(10)

    let window: RunWindow
    let recorder: Recorder
    /// nil: closed loop.
    let schedule: CallSchedule?

    /// - Returns: the callers as they are at the end, with what they counted.
    func run<C: Caller>(_ callers: [C]) async throws -> [C] {
        guard let schedule else { return try await runAll(callers) }
        return try await schedule.pacing { try await runAll(callers) }
    }

    private func runAll<C: Caller>(_ callers: [C]) async throws -> [C] {
        try await withThrowingTaskGroup(of: C.self) { group in
            for (index, caller) in callers.enumerated() {
                group.addTask(executorPreference: caller.executor) {
                    var caller = caller
                    try await RunWindow.sleep(until: window.start)
                    if let schedule {
                        try await open(&caller, index, schedule)
                    } else {
                        try await closed(&caller, index)
                    }
                    return caller
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
    }

    private func closed<C: Caller>(_ caller: inout C, _ index: Int) async throws {
        while true {
            let begun = Moment.now()
            guard begun < window.end else { return }
            let isDone = try await attempt(&caller, index, countedFrom: begun)
            if !isDone { try await Task.sleep(for: Self.pauseAfterFailure) }
        }
    }

    private func open<C: Caller>(_ caller: inout C, _ index: Int, _ schedule: CallSchedule) async throws {
        let giveUpAt = window.end + Self.backlogSecondsMax
        while let due = await schedule.next() {
            let now = Moment.now()
            guard now < giveUpAt else {
                recorder.failed(caller: index, begun: due, ended: now, reason: .notStarted)
                continue
            }
            _ = try await attempt(&caller, index, countedFrom: due)
        }
    }

    private func attempt<C: Caller>(_ caller: inout C, _ index: Int, countedFrom begun: Moment) async throws -> Bool {
        do throws(MartletError) {
            let events = try await caller.call()
            recorder.succeeded(caller: index, begun: begun, ended: .now(), events: events)
            return true
        } catch {
            if Task.isCancelled { throw CancellationError() }
            recorder.failed(caller: index, begun: begun, ended: .now(), reason: error.reason)
            return false
        }
    }
}
