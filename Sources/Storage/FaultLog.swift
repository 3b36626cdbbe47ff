import Foundation
import Logging

/// Tells the log of storage that fails: who runs the server finds there what peers are not told.
///
/// Peers choose how often calls fail. Of each message and kind, the same text goes out once a second, and other texts a
/// few times; what was left out is counted.
///
/// `@unchecked Sendable`: the lock guards what is recent.
final class FaultLog: @unchecked Sendable {
    private struct Key: Hashable {
        var message: String
        var kind: StorageError.Kind
    }

    private struct Recent {
        var since: ContinuousClock.Instant
        var text: String
        var lines = 1
        var omitted = 0
    }

    private static let linesMax = 5
    private static let window = Duration.seconds(1)

    private let logger: Logger
    private let lock = NSLock()
    /// As many as there are messages and kinds.
    private var recent: [Key: Recent] = [:]

    init(_ logger: Logger) { self.logger = logger }

    /// - Parameter calls: how many calls failed with it.
    func note(_ message: String, _ error: StorageError, calls: Int = 1, now: ContinuousClock.Instant = .now) {
        let key = Key(message: message, kind: error.kind)
        let omitted = lock.withLock { () -> Int? in
            guard var last = recent[key], now - last.since < Self.window else {
                let omitted = recent[key]?.omitted ?? 0
                recent[key] = Recent(since: now, text: error.description)
                return omitted
            }
            defer { recent[key] = last }
            guard last.text != error.description, last.lines < Self.linesMax else {
                last.omitted += 1
                return nil
            }
            last.text = error.description
            last.lines += 1
            return 0
        }
        guard let omitted else { return }
        var metadata: Logger.Metadata = ["calls": "\(calls)", "error": "\(error)", "kind": "\(error.kind)"]
        if omitted > 0 { metadata["omitted"] = "\(omitted)" }
        logger.warning("\(message)", metadata: metadata)
    }
}
