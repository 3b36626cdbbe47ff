import Foundation
import Logging
import MartletModel

/// Listens for commits by other processes on a thread of its own; each second without news, and after a
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

    init(listener: any StorageListener, logger: Logger, onNews: @escaping @Sendable (StorageNews) -> Void) {
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
    }
}
