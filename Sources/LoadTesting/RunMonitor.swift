import Foundation
import MartletClient
import MartletModel
import NIOConcurrencyHelpers

/// Watches a run: takes the figures of each second, tells the progress, and knows what client and server used.
final class RunMonitor: Sendable {
    private struct State: Sendable {
        var timeline: [RunReport.Second] = []
        var cpuBefore = 0.0
        var startedAt: Timestamp?
        var errors: UInt64 = 0
        var lastTick: Moment
    }

    let workload: String
    let settings: RunSettings
    let window: RunWindow
    let recorder: Recorder
    let schedule: CallSchedule?
    let deliveries: DeliveryTracker?
    private let sampler: ServerSampler
    private let state: NIOLockedValueBox<State>

    /// - Parameter control: a client that carries none of the calls that are measured.
    init(
        _ workload: String, _ settings: RunSettings, window: RunWindow, callers: Int, control: MartletClient,
        deliveries: DeliveryTracker? = nil
    ) {
        self.workload = workload
        self.settings = settings
        self.window = window
        self.deliveries = deliveries
        recorder = Recorder(callers: callers, measureFrom: window.measureFrom)
        schedule = settings.callsPerSecond.map { CallSchedule(window: window, callsPerSecond: $0) }
        sampler = ServerSampler(control)
        state = NIOLockedValueBox(State(lastTick: window.start))
    }

    /// The loop of the calls that are measured.
    var loop: CallLoop { CallLoop(window: window, recorder: recorder, schedule: schedule) }

    /// Runs `body` and watches it; what is seen goes into ``fill(_:)``.
    func watching<Result: Sendable>(_ body: @escaping @Sendable () async throws -> Result) async throws -> Result {
        let result = try await withThrowingTaskGroup(of: Result?.self) { group in
            group.addTask {
                await self.sampler.watch(self.window)
                return nil
            }
            group.addTask {
                await self.tick()
                return nil
            }
            group.addTask { try await body() }
            defer { group.cancelAll() }
            while let result = try await group.next() {
                if let result { return result }
            }
            throw CancellationError()
        }
        endLastSecond()
        await sampler.sample()
        return result
    }

    private func tick() async {
        var second = -Int(settings.warmupSeconds.rounded(.down))
        while !Task.isCancelled {
            let moment =
                second <= 0
                ? Moment(nanoseconds: window.measureFrom.nanoseconds - UInt64(-second) * 1_000_000_000)
                : window.measureFrom + Double(second)
            do { try await RunWindow.sleep(until: moment) } catch { return }
            take(second: second)
            second += 1
        }
    }

    private func take(second: Int) {
        let now = Moment.now()
        let calls = recorder.takeInterval()
        let delivered = deliveries?.takeInterval() ?? DeliveryTracker.Interval()
        let backlog = schedule?.backlog(at: now) ?? 0
        let lag = deliveries?.lagEvents ?? 0
        let (seconds, errors) = state.withLockedValue { state in
            let seconds = max(0.001, now.seconds(since: state.lastTick))
            state.lastTick = now
            if second <= 0 {
                state.cpuBefore = OwnUsage.cpuSeconds()
                state.startedAt = .now()
            } else {
                state.errors += calls.errors
                state.timeline.append(
                    RunReport.Second(
                        second: second, calls: calls.calls, events: calls.events, p99: calls.latencies.p99,
                        deliveries: delivered.deliveries, deliveryP99: delivered.latencies.p99, lagEvents: lag,
                        backlogCalls: backlog, errors: calls.errors, serverMemoryBytes: sampler.residentBytes))
            }
            return (seconds, state.errors)
        }
        guard let onProgress = settings.onProgress else { return }
        onProgress(
            RunProgress(
                workload: workload, second: second,
                callsPerSecond: Double(calls.calls) / seconds, eventsPerSecond: Double(calls.events) / seconds,
                deliveriesPerSecond: Double(delivered.deliveries) / seconds, p99Micros: calls.latencies.p99,
                backlogCalls: backlog, lagEvents: lag, errors: errors))
    }

    /// The last second, where most of it has passed.
    private func endLastSecond() {
        let now = Moment.now()
        let (last, count) = state.withLockedValue { ($0.lastTick, $0.timeline.count) }
        if now > window.measureFrom, now.seconds(since: last) >= 0.5 { take(second: count + 1) }
    }

    /// Puts into a report what was seen.
    func fill(_ report: inout RunReport) {
        let totals = recorder.totals()
        let seen = state.withLockedValue { $0 }
        report.startedAt = (seen.startedAt ?? .now()).description
        let end = max(totals.lastEnd, deliveries?.lastDelivery ?? totals.lastEnd)
        report.seconds = rounded(max(0.001, end.seconds(since: window.measureFrom)))
        report.calls = totals.calls
        report.events = totals.events
        report.callsPerSecond = rounded(Double(totals.calls) / report.seconds)
        report.eventsPerSecond = rounded(Double(totals.events) / report.seconds)
        report.latency = totals.latencies.summary
        report.percentiles = totals.latencies.curve
        report.errors = Dictionary(
            totals.errors.map { ($0.key.rawValue, $0.value) }, uniquingKeysWith: +)
        report.timeline = seen.timeline
        report.clientCPUSeconds = rounded(OwnUsage.cpuSeconds() - seen.cpuBefore)
        deliveries?.fill(&report)
        sampler.fill(&report)
        if totals.calls == 0, deliveries == nil {
            report.failures.append("no call succeeded in the measured time: see the errors, or measure longer")
        }
    }
}
