public import Logging
import NIOConcurrencyHelpers

/// A logger that keeps its lines, with their fields.
public final class CapturedLog: Sendable {
    private let kept = NIOLockedValueBox<[String]>([])

    /// Nothing is kept yet.
    public init() {}

    /// The lines so far.
    public var lines: [String] { kept.withLockedValue { $0 } }

    /// A logger whose lines come here, whatever their level.
    public var logger: Logger {
        let kept = kept
        return Logger(label: "captured") { _ in Handler { line in kept.withLockedValue { $0.append(line) } } }
    }

    private struct Handler: LogHandler {
        let keep: @Sendable (String) -> Void
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        init(_ keep: @escaping @Sendable (String) -> Void) { self.keep = keep }

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let fields = metadata.merging(event.metadata ?? [:]) { $1 }.sorted { $0.key < $1.key }
                .map { "\($0.key)=\($0.value)" }
            keep(([event.level.rawValue] + fields + ["\(event.message)"]).joined(separator: " "))
        }
    }
}
