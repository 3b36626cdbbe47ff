import Foundation
import Logging
import MartletModel
import NIOCore

/// Listens for commits by other processes on a thread of its own; each second, whatever else is heard, and after a
/// failure, it reports ``StorageNews/unknown``, so that a lost notification costs a second and no event.
final class StorageListening: @unchecked Sendable {
    private static let pollMillis = 1_000

    // Guarded by `condition`.
    private var isStopped = false

    private let condition = NSCondition()
    private let threads = WorkThreads()
    private let listener: any StorageListener
    private let logger: Logger
    private let onNews: @Sendable (StorageNews) -> Void
    private let onFault: @Sendable (StorageError.Kind) -> Void

    private let uptime: @Sendable () -> NIODeadline

    init(
        listener: any StorageListener, logger: Logger, uptime: @escaping @Sendable () -> NIODeadline = { .now() },
        onNews: @escaping @Sendable (StorageNews) -> Void,
        onFault: @escaping @Sendable (StorageError.Kind) -> Void = { _ in }
    ) {
        self.onFault = onFault
        self.uptime = uptime
        self.listener = listener
        self.logger = logger
        self.onNews = onNews
    }

    func start() { threads.start(name: "listen") { [self] in listen() } }

    func stop() async {
        condition.withLock {
            isStopped = true
            condition.broadcast()
        }
        // Where it does not wait right now, its next wait ends at once.
        listener.interrupt()
        await threads.waitForEnd()
    }

    private func listen() {
        var polledAt = uptime()
        while !condition.withLock({ isStopped }) {
            do throws(StorageError) {
                let sincePoll = Int((uptime() - polledAt).nanoseconds / 1_000_000)
                let news = try listener.wait(atMost: max(1, Self.pollMillis - sincePoll))
                if news != .moved([:]) { onNews(news) }
                // What one tenant's news say is nothing about the others.
                if news == .moved([:]) || uptime() - polledAt >= .milliseconds(Int64(Self.pollMillis)) {
                    polledAt = uptime()
                    onNews(.unknown)
                }
            } catch {
                onFault(error.kind)
                logger.warning("cannot listen for other servers' commits", metadata: ["error": "\(error)"])
                condition.withLock {
                    if !isStopped {
                        _ = condition.wait(until: Date().addingTimeInterval(Double(Self.pollMillis) / 1000))
                    }
                }
                onNews(.unknown)
            }
        }
    }
}
