/// A line plot as SVG, drawn with the classes of ``HTMLReport``'s style sheet, so that it follows the reader's colours.
struct SVGPlot {
    /// One line.
    struct Series {
        var name: String
        /// Rising in x.
        var points: [(x: Double, y: Double)]
        /// What a reader sees who points at a value; empty for none.
        var notes: [String] = []
    }

    /// How values become heights.
    enum Scale { case linear, logarithmic }

    private static let size = (width: 760.0, height: 260.0)
    private static let margin = (left: 74.0, right: 16.0, top: 12.0, bottom: 40.0)

    var series: [Series]
    var xTicks: [(x: Double, label: String)]
    var xLabel: String
    var yLabel: (Double) -> String
    var scale = Scale.linear
    /// Points are marked, where they are few enough to tell apart.
    var marksPoints = true

    /// The element; a sentence where there is nothing to draw.
    var svg: String {
        let drawn = series.filter { $0.points.count > 0 }
        guard !drawn.isEmpty else { return "<p class=\"quiet\">Nothing was measured here.</p>" }
        let all = drawn.flatMap(\.points)
        let x = (
            min: min(all.map(\.x).min() ?? 0, xTicks.map(\.x).min() ?? .infinity),
            max: max(all.map(\.x).max() ?? 1, xTicks.map(\.x).max() ?? -.infinity)
        )
        let ticks = yTicks(all.map(\.y))
        let (low, high) = (ticks.first ?? 0, ticks.last ?? 1)
        func left(_ value: Double) -> Double {
            let share = x.max > x.min ? (value - x.min) / (x.max - x.min) : 0.5
            return Self.margin.left + share * (Self.size.width - Self.margin.left - Self.margin.right)
        }
        func top(_ value: Double) -> Double {
            let (a, b, v) =
                scale == .linear
                ? (low, high, value) : (log2(low), log2(high), log2(max(value, low)))
            let share = b > a ? (v - a) / (b - a) : 0
            let height = Self.size.height - Self.margin.top - Self.margin.bottom
            return Self.margin.top + (1 - min(max(share, 0), 1)) * height
        }
        let bottom = Self.size.height - Self.margin.bottom
        let right = Self.size.width - Self.margin.right
        var parts = [
            "<svg viewBox=\"0 0 \(Int(Self.size.width)) \(Int(Self.size.height))\" role=\"img\">"
        ]
        for tick in ticks {
            let y = number(top(tick))
            parts.append(
                "<line class=\"grid\" x1=\"\(number(Self.margin.left))\" x2=\"\(number(right))\" y1=\"\(y)\" y2=\"\(y)\"/>"
            )
            parts.append(text(Self.margin.left - 8, top(tick) + 4, "end", yLabel(tick)))
        }
        for tick in xTicks {
            let place = number(left(tick.x))
            parts.append(
                "<line class=\"tick\" x1=\"\(place)\" x2=\"\(place)\" y1=\"\(number(bottom))\" y2=\"\(number(bottom + 4))\"/>"
            )
            // The last label ends where the plot does.
            let anchor = left(tick.x) > right - 24 ? "end" : "middle"
            parts.append(text(min(left(tick.x), right), bottom + 17, anchor, tick.label))
        }
        parts.append(text((Self.margin.left + right) / 2, Self.size.height - 6, "middle", xLabel))
        for (index, line) in drawn.enumerated() {
            let path = line.points.map { "\(number(left($0.x))),\(number(top($0.y)))" }.joined(separator: " ")
            parts.append("<polyline class=\"line s\(index + 1)\" points=\"\(path)\"/>")
            guard marksPoints, line.points.count <= 120 else { continue }
            for (point, note) in zip(line.points, line.notes) {
                parts.append(
                    "<circle class=\"dot s\(index + 1)\" cx=\"\(number(left(point.x)))\" cy=\"\(number(top(point.y)))\" r=\"2.5\">"
                        + "<title>\(HTMLReport.escaped(note))</title></circle>")
            }
        }
        parts.append("</svg>")
        return parts.joined(separator: "\n")
    }

    /// The names of the lines, with their colours.
    var legend: String {
        let drawn = series.filter { $0.points.count > 0 }
        guard drawn.count > 1 else { return "" }
        let names = drawn.enumerated().map { index, line in
            "<span class=\"key s\(index + 1)\">\(HTMLReport.escaped(line.name))</span>"
        }
        return "<p class=\"legend\">" + names.joined() + "</p>"
    }

    private func text(_ x: Double, _ y: Double, _ anchor: String, _ value: String) -> String {
        "<text x=\"\(number(x))\" y=\"\(number(y))\" text-anchor=\"\(anchor)\">\(HTMLReport.escaped(value))</text>"
    }

    private func number(_ value: Double) -> String { Figures.plain(rounded(value, digits: 1)) }

    private func yTicks(_ values: [Double]) -> [Double] {
        let high = max(values.max() ?? 1, 1)
        switch scale {
        case .linear:
            let step = Self.niceStep(high / 4)
            return (0...Int((high / step).rounded(.up))).map { Double($0) * step }
        case .logarithmic:
            var tick = 1.0
            while tick * 10 <= max(1, values.filter { $0 > 0 }.min() ?? 1) { tick *= 10 }
            var ticks = [tick]
            while tick < high {
                tick *= 10
                ticks.append(tick)
            }
            return ticks.count > 1 ? ticks : ticks + [tick * 10]
        }
    }

    /// The next of 1, 2, 5, 10, 20 … that is at least so large.
    private static func niceStep(_ least: Double) -> Double {
        var step = 1.0
        while step * 10 <= least { step *= 10 }
        for factor in [1.0, 2, 5, 10] where step * factor >= least { return step * factor }
        return step * 10
    }
}

/// The binary logarithm, for whoever has no C library's.
private func log2(_ value: Double) -> Double {
    guard value > 0 else { return -1_074 }
    var exponent = Double(value.exponent)
    var significand = value.significand
    var bit = 0.5
    for _ in 0..<40 {
        significand *= significand
        if significand >= 2 {
            significand /= 2
            exponent += bit
        }
        bit /= 2
    }
    return exponent
}
