import Foundation
import Martlet

/// Shows each second how far the consumers are: on a terminal always in the same lines.
struct Watch {
    private let settings: Settings
    private let client: MartletClient
    /// How far each consumer was when it was looked at last, and when that was.
    private var last: [BankConsumer: (position: Position, at: ContinuousClock.Instant)] = [:]

    init(_ settings: Settings, _ client: MartletClient) {
        self.settings = settings
        self.client = client
    }

    mutating func run() async throws {
        let isTerminal = isatty(STDOUT_FILENO) == 1
        print(Self.line("consumer", "events/s", "positions behind", "oldest unsettled", "workers", "blocked keys"))
        var isFirst = true
        while true {
            let start = ContinuousClock.now
            var lines: [String] = []
            for consumer in BankConsumer.allCases { lines.append(try await line(consumer)) }
            // On a terminal, up to the first line again.
            if isTerminal, !isFirst { print("\u{1B}[\(lines.count)A", terminator: "") }
            for line in lines { print(isTerminal ? "\u{1B}[2K\(line)" : line) }
            // They are to be seen at once, also where they go to a file.
            fflush(nil)
            isFirst = false
            try await Task.sleep(until: start + .seconds(1))
        }
    }

    private mutating func line(_ consumer: BankConsumer) async throws -> String {
        let description = try await client.consumer(try consumer.id(settings))
        let (now, position) = (ContinuousClock.now, description.settledTo)
        var rate = "-"
        if let last = last.updateValue((position, now), forKey: consumer) {
            let count = try await count(description.definition.filter, after: last.position, to: position)
            rate = "\(Int((Double(count) / ((now - last.at) / .seconds(1))).rounded()))"
        }
        var age = "-"
        if let oldest = description.oldest {
            let micros = Timestamp.now().microseconds - oldest.recordedAt.microseconds
            age = String(format: "%.2f s", Double(max(0, micros)) / 1e6)
        }
        return Self.line(
            consumer.rawValue, rate, "\(description.positionsBehind)", age, "\(description.workers.count)",
            "\(description.blockedKeyCount)")
    }

    /// Positions count the events of all consumers; a consumer's own ones are counted by its filter.
    private func count(_ filter: EventFilter, after: Position, to: Position) async throws -> Int {
        guard to > after else { return 0 }
        var count = 0
        let events = try await client.tenant(settings.tenant).read(after: after, upTo: .position(to), where: filter)
        for try await _ in events { count += 1 }
        return count
    }

    private static func line(_ name: String, _ figures: String...) -> String {
        name.padding(toLength: 18, withPad: " ", startingAt: 0)
            + figures.map { String(repeating: " ", count: max(2, 18 - $0.count)) + $0 }.joined()
    }
}
