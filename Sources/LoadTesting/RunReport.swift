public import FoundationEssentials

/// What a run measured: what `--json` writes and `bench compare` reads. Times are in microseconds unless a name says
/// otherwise.
public struct RunReport: Codable, Hashable, Sendable {
    /// The server that was measured.
    public struct Server: Codable, Hashable, Sendable {
        /// Version of the program.
        public var version = ""
        /// Its storage engine.
        public var engine = ""
    }

    /// Memory of the server's process.
    public struct Memory: Codable, Hashable, Sendable {
        /// When measuring began.
        public var before: UInt64 = 0
        /// The most during the run.
        public var peak: UInt64 = 0
        /// At the end.
        public var after: UInt64 = 0
    }

    /// One second of the run.
    public struct Second: Codable, Hashable, Sendable {
        /// Its number, from 1.
        public var second: Int
        /// Calls that ended in it.
        public var calls: UInt64
        /// Their events.
        public var events: UInt64
        /// 99 % of the calls took at most this long.
        public var p99: UInt64
        /// Deliveries to subscribers.
        public var deliveries: UInt64
        /// 99 % of the deliveries came at most this long after the acknowledgement.
        public var deliveryP99: UInt64
        /// How far the last subscriber was behind what was acknowledged, in events, at its end.
        public var lagEvents: UInt64
        /// Calls that were due and not begun at its end.
        public var backlogCalls: UInt64
        /// Calls that failed in it.
        public var errors: UInt64
        /// Memory of the server at its end.
        public var serverMemoryBytes: UInt64
    }

    /// A figure of one kind of call, where a run mixes several.
    public struct Share: Codable, Hashable, Sendable {
        /// Calls.
        public var calls: UInt64
        /// Their events.
        public var events: UInt64
        /// Their times.
        public var latency: LatencySummary
    }

    /// The format of this report.
    public static let currentFormat = "martlet-bench/1"

    /// Names the format.
    public var format = Self.currentFormat
    /// What was measured: append, load, read, subscribe, catch-up, mixed.
    public var workload: String
    /// When measuring began, in RFC 3339.
    public var startedAt = ""
    /// The server.
    public var server = Server()
    /// The flags that the run was made with, those left out included.
    public var parameters: [String: ParameterValue]
    /// What choices at random were made from, in a run that can be repeated with it.
    public var seed: UInt64?
    /// How long was measured: to the end of the last call that counts.
    public var seconds = 0.0
    /// Calls that succeeded.
    public var calls: UInt64 = 0
    /// Events that they wrote or brought.
    public var events: UInt64 = 0
    /// Calls per second.
    public var callsPerSecond = 0.0
    /// Events per second.
    public var eventsPerSecond = 0.0
    /// Events delivered to subscribers, each to each counted.
    public var deliveries: UInt64 = 0
    /// Deliveries per second.
    public var deliveriesPerSecond = 0.0
    /// Time of a call; in an open loop from when it was due.
    public var latency = LatencySummary()
    /// From the append's acknowledgement to the delivery.
    public var deliveryLatency: LatencySummary?
    /// From the beginning of the commit, as the server's clock tells it, to the delivery by the clock of the load tester:
    /// nil where the two clocks do not agree to a millisecond or so, as on two machines.
    public var commitToDeliveryLatency: LatencySummary?
    /// Share of the deliveries that came before the acknowledgement, and count as 0.
    public var deliveriesBeforeAcknowledgement: Double?
    /// Kinds of calls, where several were mixed.
    public var shares: [String: Share]?
    /// Calls that failed, by reason.
    public var errors: [String: UInt64] = [:]
    /// CPU time of the load tester while it measured.
    public var clientCPUSeconds = 0.0
    /// CPU time of the server in the same time.
    public var serverCPUSeconds = 0.0
    /// Memory of the server.
    public var serverMemoryBytes = Memory()
    /// The run, second by second.
    public var timeline: [Second] = []
    /// Pairs of a percentile and the time, of calls.
    public var percentiles: [[Double]] = []
    /// Pairs of a percentile and the time, of deliveries.
    public var deliveryPercentiles: [[Double]]?
    /// What was counted back, by name.
    public var verified: [String: UInt64] = [:]
    /// What did not come out even; empty for a run whose figures can be trusted.
    public var failures: [String] = []

    init(workload: String, parameters: [String: ParameterValue]) {
        self.workload = workload
        self.parameters = parameters
    }
}

/// Percentiles of times in microseconds.
public struct LatencySummary: Codable, Hashable, Sendable {
    /// Half took at most this long.
    public var p50: UInt64 = 0
    /// 75 %.
    public var p75: UInt64 = 0
    /// 90 %.
    public var p90: UInt64 = 0
    /// 95 %.
    public var p95: UInt64 = 0
    /// 99 %.
    public var p99: UInt64 = 0
    /// 99.9 %.
    public var p999: UInt64 = 0
    /// 99.99 %.
    public var p9999: UInt64 = 0
    /// The longest.
    public var max: UInt64 = 0
    /// The mean.
    public var mean = 0.0
    /// How many there were.
    public var count: UInt64 = 0

    private enum CodingKeys: String, CodingKey {
        case p50, p75, p90, p95, p99, max, mean, count
        case p999 = "p99.9"
        case p9999 = "p99.99"
    }
}

/// The value of a flag.
public enum ParameterValue: Codable, Hashable, Sendable, CustomStringConvertible {
    /// A whole number.
    case int(Int)
    /// Any other number.
    case double(Double)
    /// Text.
    case text(String)

    /// Reads a number or a text.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let value = try? container.decode(Int.self) {
            self = .int(value)
        } else if let value = try? container.decode(Double.self) {
            self = .double(value)
        } else {
            self = .text(try container.decode(String.self))
        }
    }

    /// Writes the number or the text.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .int(let value): try container.encode(value)
        case .double(let value): try container.encode(value)
        case .text(let value): try container.encode(value)
        }
    }

    /// As it was given.
    public var description: String {
        switch self {
        case .int(let value): "\(value)"
        case .double(let value): value == value.rounded() && abs(value) < 1e15 ? "\(Int(value))" : "\(value)"
        case .text(let value): value
        }
    }
}

extension RunReport {
    /// The report as JSON, in a fixed order.
    public func json() throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        return try encoder.encode(self)
    }

    /// Reads a report.
    /// - Throws: ``BenchFailure`` if the bytes are not in this format.
    public static func read(_ bytes: Data, name: String) throws -> RunReport {
        struct Head: Decodable { var format: String? }
        let head = try? JSONDecoder().decode(Head.self, from: bytes)
        guard let format = head?.format else {
            throw BenchFailure("\(name) is not a report of martlet bench: give a file written by --json")
        }
        guard format == currentFormat else {
            throw BenchFailure("\(name) has the format \(format), but this program reads \(currentFormat)")
        }
        do {
            return try JSONDecoder().decode(RunReport.self, from: bytes)
        } catch {
            throw BenchFailure("\(name) has the format \(format) but lacks parts of it: \(error)")
        }
    }
}

/// A run that cannot be made or read; says why, and what to do.
public struct BenchFailure: Error, Hashable, Sendable, CustomStringConvertible {
    /// For a person.
    public var description: String

    /// A failure of that description.
    public init(_ description: String) { self.description = description }
}
