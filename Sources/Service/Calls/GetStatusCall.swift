import MartletAccess
import MartletModel
import MartletStorage
import NIOConcurrencyHelpers
import NIOCore

/// Answers what the server counts, and whether storage answers a read within two seconds.
///
/// A principal that is bound to tenants is told of the server's health only: the rest is other tenants' activity.
final class GetStatusCall: CallWork {
    private static let storageMillis: Int64 = 2_000

    private let handle: CallHandle
    private var timeout: Scheduled<Void>?
    private var number: UInt64?
    private var isEnded = false

    init(_ handle: CallHandle) { self.handle = handle }

    func start() {
        let bound = NIOLoopBound(self, eventLoop: handle.eventLoop)
        timeout = handle.eventLoop.scheduleTask(in: .milliseconds(Self.storageMillis)) {
            bound.value.finish(
                StorageProbe.Finding(complaint: "storage did not answer within \(Self.storageMillis) ms"))
        }
        number = handle.service.probe.ask { finding in
            bound.eventLoop.execute { bound.value.finish(finding) }
        }
    }

    func pump() {}

    func cancel() {
        isEnded = true
        timeout?.cancel()
        timeout = nil
        if let number { handle.service.probe.forget(number) }
    }

    private func finish(_ finding: StorageProbe.Finding) {
        guard !isEnded else { return }
        handle.answer(.serverStatus(status(finding)))
    }

    private func status(_ finding: StorageProbe.Finding) -> ServerStatus {
        let service = handle.service
        var status = ServerStatus()
        let now = service.clock()
        status.serverVersion = service.serverVersion
        status.storageEngine = service.store.engineName
        status.schemaVersion = service.store.schemaVersion
        status.uptimeMicros = UInt64(clamping: now.microseconds - service.startedAt.microseconds)
        status.serverTime = now
        status.isDraining = service.counters.isDraining
        status.storageReady = finding.complaint.isEmpty
        status.storageMessage = finding.complaint
        guard AccessTable.statusView(of: handle.calls.principal) == .whole else { return status }
        status.connections = UInt64(clamping: service.counters.connectionCount)
        status.subscriptions = UInt64(clamping: service.counters.subscriptionCount)
        status.waitingAppendBytes = UInt64(clamping: service.store.waitingAppendBytes)
        status.eventsAppended = service.store.committedEventCount
        status.eventsDelivered = service.counters.deliveredEventCount
        status.snapshotsSkipped = service.counters.snapshotsSkippedCount
        status.upcastFailures = service.counters.upcastFailureCount
        status.processCPUMicros = finding.usage.cpuMicros
        status.residentBytes = finding.usage.residentBytes
        status.residentPeakBytes = finding.usage.residentPeakBytes
        return status
    }
}

/// Whether storage answers, and what the process uses. All who ask at about the same time share one look, on a storage
/// thread: asking costs the server one read in ``freshMillis``, however many ask.
final class StorageProbe: Sendable {
    struct Finding {
        var usage = ProcessUsage()
        /// What is wrong with storage; empty where it answered.
        var complaint = ""
    }

    private static let freshMillis: Int64 = 100

    private struct State {
        var last: (finding: Finding, at: NIODeadline)?
        /// Whether a look is under way, and who waits for it.
        var isLooking = false
        var waiting: [UInt64: @Sendable (Finding) -> Void] = [:]
        var nextNumber: UInt64 = 1
    }

    private let store: EventStore
    private let uptime: @Sendable () -> NIODeadline
    private let state = NIOLockedValueBox(State())

    init(store: EventStore, uptime: @escaping @Sendable () -> NIODeadline) {
        self.store = store
        self.uptime = uptime
    }

    /// - Parameter completion: called once, from any thread or before this returns, unless ``forget(_:)`` comes first.
    /// - Returns: names who asks.
    func ask(completion: @escaping @Sendable (Finding) -> Void) -> UInt64 {
        let now = uptime()
        let (number, known, isFirst) = state.withLockedValue { state -> (UInt64, Finding?, Bool) in
            let number = state.nextNumber
            state.nextNumber += 1
            if let last = state.last, now - last.at < .milliseconds(Self.freshMillis) {
                return (number, last.finding, false)
            }
            state.waiting[number] = completion
            defer { state.isLooking = true }
            return (number, nil, !state.isLooking)
        }
        if let known { completion(known) }
        if isFirst { look() }
        return number
    }

    /// Whoever asked waits no longer.
    func forget(_ number: UInt64) { _ = state.withLockedValue { $0.waiting.removeValue(forKey: number) } }

    private func look() {
        // Any tenant will do: what counts is that storage answers.
        store.read(for: EventStore.serverOwner) { reader throws(StorageError) in
            _ = try reader.head(of: EventStore.serverOwner)
            return ProcessUsage.now()
        } completion: { [state, uptime] result in
            var finding = Finding()
            switch result {
            case .success(let usage): finding.usage = usage
            case .failure(let error): finding = Finding(usage: ProcessUsage.now(), complaint: error.message)
            }
            let waiting = state.withLockedValue { state in
                // What is wrong is looked at anew by the next who asks.
                state.last = finding.complaint.isEmpty ? (finding, uptime()) : nil
                state.isLooking = false
                defer { state.waiting = [:] }
                return state.waiting
            }
            for completion in waiting.values { completion(finding) }
        }
    }
}
