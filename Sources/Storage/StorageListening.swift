import Foundation
import Logging
import MartletModel

/// Listens for commits by other processes on a thread of its own; each second without news, and after a
/// failure, it reports ``StorageNews/unknown``, so that a lost notification costs a second and no event.
final class StorageListening: @unchecked Sendable {
    private static let pollMillis = 1_000

    // Guarded by `condition`.
    private var isRunning = false
    private var isStopped = false
    private var onStopped: [@Sendable () -> Void] = []

    private let condition = NSCondition()
    private let listener: any StorageListener
    private let logger: Logger
    private let onNews: @Sendable (StorageNews) -> Void

    init(listener: any StorageListener, logger: Logger, onNews: @escaping @Sendable (StorageNews) -> Void) {
        self.listener = listener
        self.logger = logger
        self.onNews = onNews
    }

    func start() {
        condition.withLock { isRunning = true }
        let thread = Thread { [self] in listen() }
        thread.name = "listen"
        thread.stackSize = 1 << 20
        thread.start()
    }

    func stop() async {
        await withCheckedContinuation { continuation in
            let wasRunning = condition.withLock {
                isStopped = true
                condition.broadcast()
                guard isRunning else { return false }
                onStopped.append { continuation.resume() }
                return true
            }
            if wasRunning { listener.interrupt() } else { continuation.resume() }
        }
    }

    private func listen() {
        while !condition.withLock({ isStopped }) {
            do throws(StorageError) {
                let news = try listener.wait(atMost: Self.pollMillis)
                onNews(news == .moved([:]) ? .unknown : news)
            } catch {
                logger.warning("cannot hear of other servers' commits", metadata: ["error": "\(error)"])
                condition.withLock {
                    if !isStopped {
                        _ = condition.wait(until: Date().addingTimeInterval(Double(Self.pollMillis) / 1000))
                    }
                }
                onNews(.unknown)
            }
        }
        let callbacks = condition.withLock {
            isRunning = false
            defer { onStopped = [] }
            return onStopped
        }
        for callback in callbacks { callback() }
    }
}
