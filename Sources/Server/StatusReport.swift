import FoundationEssentials
import MartletModel
import MartletStorage
import NIOCore

/// Answers GetStatus: what the server counts, and whether storage answers a read within two seconds.
enum StatusReport {
    private static let storageMillis: Int64 = 2_000

    /// - Parameter answer: called once, on the call's event loop.
    static func make(shared: ServerShared, context: CallContext, answer: @escaping (ServerStatus) -> Void) {
        var status = ServerStatus()
        let now = shared.clock()
        status.serverVersion = shared.serverVersion
        status.storageEngine = shared.store.engineName
        status.schemaVersion = shared.store.schemaVersion
        status.uptimeMicros = UInt64(clamping: now.microseconds - shared.startedAt.microseconds)
        status.serverTime = now
        status.connections = UInt64(clamping: shared.counters.connectionCount)
        status.subscriptions = UInt64(clamping: shared.counters.subscriptionCount)
        status.waitingAppendBytes = UInt64(clamping: shared.store.waitingAppendBytes)
        status.eventsAppended = shared.store.committedEventCount
        status.eventsDelivered = shared.counters.deliveredEventCount
        status.isDraining = shared.counters.isDraining
        status.snapshotsSkipped = shared.counters.snapshotsSkippedCount
        status.upcastFailures = shared.counters.upcastFailureCount
        let usage = ProcessUsage.now()
        status.processCPUMicros = usage.cpuMicros
        status.residentBytes = usage.residentBytes
        status.residentPeakBytes = usage.residentPeakBytes

        var isAnswered = false
        let finish = { (message: String) in
            guard !isAnswered else { return }
            isAnswered = true
            status.storageReady = message.isEmpty
            status.storageMessage = message
            answer(status)
        }
        let bound = NIOLoopBound(finish, eventLoop: context.eventLoop)
        let timeout = context.eventLoop.scheduleTask(in: .milliseconds(storageMillis)) {
            bound.value("storage did not answer within \(storageMillis) ms")
        }
        // Any tenant will do: what counts is that storage answers.
        let probe = EventStore.serverOwner
        context.read(for: probe, { reader throws(StorageError) in try reader.head(of: probe) }) { result in
            timeout.cancel()
            switch result {
            case .success: finish("")
            case .failure(let error): finish(error.message)
            }
        }
    }
}
