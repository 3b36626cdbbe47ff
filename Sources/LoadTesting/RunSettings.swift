public import MartletModel

/// What all workloads have in common.
public struct RunSettings: Sendable {
    /// Clients that call at once, each with one call in flight.
    public var clients = 1
    /// Connections that they share; nil: each has its own.
    public var connections: Int?
    /// Seconds before measuring begins.
    public var warmupSeconds = 1.0
    /// Seconds that are measured.
    public var seconds = 5.0
    /// Calls per second, due at fixed times (open loop); nil: each client calls again at once (closed loop).
    public var callsPerSecond: Double?
    /// Payload of an event, in bytes of JSON.
    public var payloadBytes = 256
    /// Where to write; nil: a tenant made for the run.
    public var tenant: TenantID?
    /// Called about once a second, from a task of its own.
    public var onProgress: (@Sendable (RunProgress) -> Void)?

    /// Called while events are written that a run needs before it begins: how many are there so far.
    public var onWritten: (@Sendable (Int) -> Void)?

    /// The default settings.
    public init() {}

    /// Connections that are opened.
    var connectionCount: Int { min(connections ?? clients, clients) }

    /// Checks what every workload needs.
    /// - Throws: ``BenchFailure`` that names the flag, its value and what it may be.
    func validate() throws {
        try require("--clients", clients, in: 1...100_000)
        if let connections { try require("--connections", connections, in: 1...100_000) }
        try require("--payload", payloadBytes, in: 2...(7 << 20))
        guard warmupSeconds >= 0, warmupSeconds <= 86_400 else {
            throw BenchFailure("--warmup is \(warmupSeconds): give 0 to 86400 seconds")
        }
        guard seconds > 0, seconds <= 86_400 else {
            throw BenchFailure("--seconds is \(seconds): give more than 0 and at most 86400")
        }
        if let callsPerSecond {
            guard callsPerSecond > 0, callsPerSecond <= 10_000_000 else {
                throw BenchFailure(
                    "--rate is \(callsPerSecond): give calls per second, above 0 and at most 10000000, or omit it "
                        + "for a closed loop")
            }
        }
    }

    /// The flags as a report names them.
    var parameters: [String: ParameterValue] {
        [
            "clients": .int(clients), "connections": .int(connectionCount), "warmup": .double(warmupSeconds),
            "seconds": .double(seconds), "rate": callsPerSecond.map { .double($0) } ?? .text("closed loop"),
            "payload": .int(payloadBytes),
        ]
    }
}

/// Refuses a flag whose value is out of its range.
func require(_ flag: String, _ value: Int, in range: ClosedRange<Int>) throws {
    guard range.contains(value) else {
        throw BenchFailure("\(flag) is \(value): give \(range.lowerBound) to \(range.upperBound)")
    }
}

/// The progress of a run, about once a second.
public struct RunProgress: Sendable {
    /// What is measured.
    public var workload: String
    /// Seconds measured so far; negative while it warms up.
    public var second: Int
    /// Calls of the last second.
    public var callsPerSecond: Double
    /// Events of the last second.
    public var eventsPerSecond: Double
    /// Deliveries of the last second.
    public var deliveriesPerSecond: Double
    /// 99 % of the last second's calls took at most this long.
    public var p99Micros: UInt64
    /// Calls that are due and not begun.
    public var backlogCalls: UInt64
    /// How far the last subscriber is behind.
    public var lagEvents: UInt64
    /// Calls that failed so far.
    public var errors: UInt64

    /// One line for a terminal.
    public var line: String {
        var parts = [second < 0 ? "\(workload)  warm-up" : "\(workload)  \(second) s"]
        if callsPerSecond > 0 || deliveriesPerSecond == 0 {
            parts.append("\(Figures.count(callsPerSecond)) calls/s  \(Figures.count(eventsPerSecond)) events/s")
            parts.append("p99 \(Figures.time(p99Micros))")
        }
        if deliveriesPerSecond > 0 { parts.append("\(Figures.count(deliveriesPerSecond)) deliveries/s") }
        if lagEvents > 0 { parts.append("lag \(Figures.count(Double(lagEvents))) events") }
        if backlogCalls > 0 { parts.append("\(Figures.count(Double(backlogCalls))) calls are due") }
        if errors > 0 { parts.append("\(Figures.count(Double(errors))) errors") }
        return parts.joined(separator: "  ")
    }
}
