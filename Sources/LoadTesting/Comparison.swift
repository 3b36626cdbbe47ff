/// Two runs side by side.
public struct Comparison: Sendable {
    private let a: RunReport
    private let b: RunReport

    /// Compares two runs; `b` is measured against `a`.
    public init(_ a: RunReport, _ b: RunReport) {
        self.a = a
        self.b = b
    }

    /// What differs in how the runs were made: name, value of the first, value of the second.
    public var differences: [(name: String, a: String, b: String)] {
        var all: [(String, String, String)] = [
            ("workload", a.workload, b.workload), ("engine", a.server.engine, b.server.engine),
            ("version", a.server.version, b.server.version),
        ]
        for name in Set(a.parameters.keys).union(b.parameters.keys).sorted() {
            all.append((name, a.parameters[name]?.description ?? "-", b.parameters[name]?.description ?? "-"))
        }
        return all.filter { $0.1 != $0.2 }.map { (name: $0.0, a: $0.1, b: $0.2) }
    }

    /// The comparison for a terminal.
    public var text: String {
        var lines: [String] = []
        let differences = differences
        if differences.isEmpty {
            lines.append("same workload, engine, version and parameters")
        } else {
            lines.append("DIFFERENT RUNS: the ratios show the effect of these differences, not which run is better")
            for difference in differences {
                lines.append("  \(difference.name): \(difference.a) against \(difference.b)")
            }
        }
        for (name, report) in [("A", a), ("B", b)] where !report.failures.isEmpty {
            lines.append("\(name) CANNOT BE TRUSTED: \(report.failures.joined(separator: "; "))")
        }
        lines.append("")
        lines.append(Self.row("", "A", "B", "B / A"))
        lines.append(Self.row("measured at", a.startedAt.shortTime, b.startedAt.shortTime, ""))
        for figure in figures where figure.a != 0 || figure.b != 0 {
            let ratio = figure.a > 0 ? Figures.plain(rounded(figure.b / figure.a, digits: 2)) : "-"
            lines.append(Self.row(figure.name, figure.show(figure.a), figure.show(figure.b), ratio))
        }
        return lines.joined(separator: "\n")
    }

    private struct Figure {
        var name: String
        var a: Double
        var b: Double
        var show: (Double) -> String
    }

    private var figures: [Figure] {
        func figure(
            _ name: String, _ value: (RunReport) -> Double, _ show: @escaping (Double) -> String = Figures.count
        ) -> Figure {
            Figure(name: name, a: value(a), b: value(b), show: show)
        }
        func times(_ name: String, _ summary: (RunReport) -> LatencySummary?) -> [Figure] {
            let parts: [(String, (LatencySummary) -> UInt64)] = [
                ("p50", \.p50), ("p90", \.p90), ("p99", \.p99), ("p99.9", \.p999), ("p99.99", \.p9999), ("max", \.max),
            ]
            return parts.map { part, value in
                figure("\(name) \(part)", { summary($0).map { Double(value($0)) } ?? 0 }, Figures.time)
            }
        }
        func perEvent(_ seconds: Double, _ report: RunReport) -> Double {
            let events = max(report.events, report.deliveries)
            return events > 0 ? seconds * 1e6 / Double(events) : 0
        }
        return [
            figure("calls / s", { $0.callsPerSecond }, Figures.rate), figure("events / s") { $0.eventsPerSecond },
            figure("deliveries / s") { $0.deliveriesPerSecond },
        ] + times("call", { $0.latency }) + times("delivery", { $0.deliveryLatency })
            + times("from commit", { $0.commitToDeliveryLatency }) + [
                figure("errors") { $0.errors.values.reduce(0) { $0 + Double($1) } },
                figure("server CPU", { $0.serverCPUSeconds }, { "\(Figures.plain(rounded($0, digits: 2))) s" }),
                figure("server CPU per event", { perEvent($0.serverCPUSeconds, $0) }, Figures.fineTime),
                figure("tester CPU per event", { perEvent($0.clientCPUSeconds, $0) }, Figures.fineTime),
                figure("server memory, peak", { Double($0.serverMemoryBytes.peak) }, { Figures.bytes(UInt64($0)) }),
            ]
    }

    private static func row(_ name: String, _ a: String, _ b: String, _ ratio: String) -> String {
        func pad(_ text: String, _ width: Int) -> String {
            String(repeating: " ", count: max(1, width - text.count)) + text
        }
        return "  " + name + String(repeating: " ", count: max(1, 24 - name.count)) + pad(a, 16) + pad(b, 16)
            + pad(ratio, 10)
    }
}

extension Figures {
    /// A short time with its unit, with a fraction: `2.35 µs`.
    static func fineTime(_ micros: Double) -> String {
        micros < 1_000 ? "\(threeDigits(micros)) µs" : time(micros)
    }
}

extension String {
    /// Month, day and time of an RFC 3339 text, to the second.
    fileprivate var shortTime: String { dropFirst(5).prefix(14).split(separator: "T").joined(separator: " ") }
}
