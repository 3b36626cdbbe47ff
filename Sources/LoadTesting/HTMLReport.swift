/// A run as one HTML page that needs nothing else: no script, no font, no other file.
public struct HTMLReport: Sendable {
    let report: RunReport

    /// The page of that run.
    public init(_ report: RunReport) { self.report = report }

    /// The page.
    public var html: String {
        let title = "martlet bench \(report.workload)"
        return """
            <!doctype html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta name="color-scheme" content="light dark">
            <title>\(Self.escaped(title))</title>
            <style>
            \(Self.style)
            </style>
            </head>
            <body>
            <main>
            <h1>\(Self.escaped(title))</h1>
            <p class="quiet">Martlet \(Self.escaped(report.server.version)) on \
            \(Self.escaped(report.server.engine)), \(Self.escaped(report.startedAt)), \
            \(Figures.plain(report.seconds)) s measured</p>
            \(verdict)
            \(tiles)
            <section>
            <h2>Time by percentile</h2>
            <p class="quiet">\(latencyNote)</p>
            \(percentilePlot.legend)
            \(percentilePlot.svg)
            \(latencyTable)
            </section>
            \(overTime)
            <section>
            <h2>The run</h2>
            \(facts)
            </section>
            </main>
            </body>
            </html>

            """
    }

    /// Text as it may stand in an element or an attribute.
    static func escaped(_ text: String) -> String {
        var result = ""
        for character in text {
            switch character {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            default: result.append(character)
            }
        }
        return result
    }

    // MARK: Parts

    private var verdict: String {
        guard report.failures.isEmpty else {
            let items = report.failures.map { "<li>\(Self.escaped($0))</li>" }.joined()
            return "<div class=\"bad\"><strong>These figures cannot be trusted.</strong><ul>\(items)</ul></div>"
        }
        let counted = report.verified.sorted { $0.key < $1.key }
            .map { "\(Self.escaped($0.key)) \(Figures.count(Double($0.value)))" }.joined(separator: ", ")
        return "<p class=\"good\">Verified, and in order: \(counted).</p>"
    }

    private var tiles: String {
        var tiles: [(String, String)] = []
        if report.calls > 0 {
            tiles += [
                (Figures.count(report.eventsPerSecond), "events a second"),
                (Figures.rate(report.callsPerSecond), "calls a second"),
                (Figures.time(report.latency.p50), "half of the calls"),
                (Figures.time(report.latency.p99), "99 % of the calls"),
            ]
        }
        if report.deliveries > 0 { tiles.append((Figures.count(report.deliveriesPerSecond), "deliveries a second")) }
        if let delivery = report.deliveryLatency, delivery.count > 0 {
            tiles.append((Figures.time(delivery.p99), "99 % of the deliveries"))
        }
        let errors = report.errors.values.reduce(0, +)
        tiles.append((Figures.count(Double(errors)), errors == 1 ? "error" : "errors"))
        return "<div class=\"tiles\">"
            + tiles.map { "<div><b>\(Self.escaped($0.0))</b><span>\($0.1)</span></div>" }.joined() + "</div>"
    }

    private var latencyNote: String {
        var text =
            report.parameters["rate"].map { $0.description == "closed loop" } ?? true
            ? "A closed loop: each client calls again when its last call is done. "
            : "An open loop: the time of a call is measured from when it was due. "
        if report.deliveryLatency != nil {
            text += "The time of a delivery is measured from the acknowledgement of the append"
            if let early = report.deliveriesBeforeAcknowledgement, early > 0 {
                text += "; \(Figures.plain(rounded(early * 100, digits: 1))) % came before it and count as 0"
            }
            text += "."
        }
        return text
    }

    private var percentilePlot: SVGPlot {
        func points(_ curve: [[Double]]) -> [(x: Double, y: Double)] {
            // 0 nines, 1 nine, 2 nines: each tenth of what is left gets as much room as the one before.
            curve.filter { $0.count == 2 && $0[0] < 100 }.map { (x: Self.nines($0[0]), y: $0[1]) }
        }
        func notes(_ curve: [[Double]]) -> [String] {
            curve.filter { $0.count == 2 && $0[0] < 100 }
                .map { "\(Figures.plain(rounded($0[0], digits: 5))) %: \(Figures.time($0[1]))" }
        }
        let all: [(String, [[Double]])] = [
            ("calls", report.percentiles), ("deliveries", report.deliveryPercentiles ?? []),
        ]
        let series = all.map { SVGPlot.Series(name: $0.0, points: points($0.1), notes: notes($0.1)) }
        let most = series.flatMap(\.points).map(\.x).max() ?? 1
        let ticks = ["0", "50", "90", "99", "99.9", "99.99", "99.999", "99.9999"].compactMap { text in
            Double(text).map { (x: Self.nines($0), label: "\(text) %") }
        }.filter { $0.x <= most + 0.001 }
        return SVGPlot(
            series: series, xTicks: ticks,
            xLabel: "share of the calls or deliveries that took at most this long", yLabel: { Figures.time($0) },
            scale: .logarithmic)
    }

    private static func nines(_ percentile: Double) -> Double {
        var rest = max(1e-9, 1 - percentile / 100)
        var nines = 0.0
        while rest <= 0.1 {
            rest *= 10
            nines += 1
        }
        // Between two tenths the share itself is drawn, which a reader can follow without a table of logarithms.
        return nines + (1 - rest) / 0.9
    }

    private var latencyTable: String {
        var rows: [(String, LatencySummary)] = [("call", report.latency)]
        rows += (report.shares ?? [:]).sorted { $0.key < $1.key }.map { ("call: \($0.key)", $0.value.latency) }
        if let delivery = report.deliveryLatency { rows.append(("delivery", delivery)) }
        if let times = report.commitToDeliveryLatency { rows.append(("commit to delivery", times)) }
        let head = ["", "count", "p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99", "max", "mean"]
        let body = rows.filter { $0.1.count > 0 }.map { name, times in
            let values = [
                times.p50, times.p75, times.p90, times.p95, times.p99, times.p999, times.p9999, times.max,
            ].map { Figures.time($0) }
            let cells = [Figures.count(Double(times.count))] + values + [Figures.time(times.mean)]
            return "<tr><th>\(Self.escaped(name))</th>" + cells.map { "<td>\($0)</td>" }.joined() + "</tr>"
        }
        return "<div class=\"wide\"><table><thead><tr>" + head.map { "<th>\($0)</th>" }.joined()
            + "</tr></thead><tbody>" + body.joined() + "</tbody></table></div>"
    }
}
