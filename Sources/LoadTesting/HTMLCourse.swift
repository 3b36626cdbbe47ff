extension HTMLReport {
    /// What happened second by second.
    var overTime: String {
        guard report.timeline.count > 1 else { return "" }
        var parts = [
            section(
                "Events over time",
                [("events a second", \.events), ("deliveries a second", \.deliveries)],
                { Figures.count($0) }),
            section(
                "99 % of a second's calls and deliveries",
                [("calls", \.p99), ("deliveries", \.deliveryP99)], { Figures.time($0) }),
        ]
        if report.timeline.contains(where: { $0.lagEvents > 0 }) {
            parts.append(
                section(
                    "Lag of the last subscriber", [("events behind", \.lagEvents)], { Figures.count($0) }))
        }
        if report.timeline.contains(where: { $0.backlogCalls > 0 }) {
            parts.append(
                section(
                    "Calls that were due but had no free client", [("calls", \.backlogCalls)],
                    { Figures.count($0) }))
        }
        if report.timeline.contains(where: { $0.errors > 0 }) {
            parts.append(section("Errors", [("errors a second", \.errors)], { Figures.count($0) }))
        }
        parts.append(
            section(
                "Memory of the server, MiB", [("resident", { ($0.serverMemoryBytes + 1 << 19) >> 20 })],
                { Figures.count($0) }))
        return parts.joined(separator: "\n")
    }

    private func section(
        _ title: String, _ lines: [(String, (RunReport.Second) -> UInt64)], _ label: @escaping (Double) -> String
    ) -> String {
        let series = lines.map { name, value in
            SVGPlot.Series(
                name: name,
                points: report.timeline.map { (x: Double($0.second), y: Double(value($0))) },
                notes: report.timeline.map { "second \($0.second): \(label(Double(value($0))))" })
        }.filter { line in line.points.contains { $0.y > 0 } }
        let last = report.timeline.last?.second ?? 1
        let step = max(1, (last + 9) / 10)
        let plot = SVGPlot(
            series: series,
            xTicks: stride(from: step, through: last, by: step).map { (x: Double($0), label: "\($0)") },
            xLabel: "seconds", yLabel: label)
        return """
            <section>
            <h2>\(Self.escaped(title))</h2>
            \(plot.legend)
            \(plot.svg)
            </section>
            """
    }

    /// Parameters, errors, and what was used.
    var facts: String {
        var rows = report.parameters.sorted { $0.key < $1.key }.map { ("--\($0.key)", $0.value.description) }
        rows += report.errors.sorted { $0.key < $1.key }.map { ("error \($0.key)", Figures.count(Double($0.value))) }
        rows += [
            ("CPU of the server", "\(Figures.plain(report.serverCPUSeconds)) s"),
            ("CPU of the load tester", "\(Figures.plain(report.clientCPUSeconds)) s"),
            (
                "memory of the server",
                "\(Figures.bytes(report.serverMemoryBytes.before)) before, "
                    + "\(Figures.bytes(report.serverMemoryBytes.peak)) at most, "
                    + "\(Figures.bytes(report.serverMemoryBytes.after)) after"
            ),
        ]
        return "<table class=\"facts\"><tbody>"
            + rows.map { "<tr><th>\(Self.escaped($0.0))</th><td>\(Self.escaped($0.1))</td></tr>" }.joined()
            + "</tbody></table>"
    }

    /// Colours by variables: the dark ones replace the light ones where the reader prefers them.
    static let style = """
        :root { --ground: #fcfcfb; --panel: #f1f1ee; --ink: #1d1f21; --soft: #5c6166; --rule: #d9d9d4;
          --s1: #1f5fb4; --s2: #b4531f; --good: #1d6b3a; --bad: #9d1c1c; --badground: #fbe9e7; }
        @media (prefers-color-scheme: dark) {
          :root { --ground: #16181a; --panel: #202326; --ink: #e6e6e3; --soft: #a0a5aa; --rule: #373b3f;
            --s1: #7fb2f0; --s2: #f0a36c; --good: #7fcf9a; --bad: #ff9a8f; --badground: #3a1d1b; } }
        body { margin: 0; background: var(--ground); color: var(--ink);
          font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
        main { max-width: 880px; margin: 0 auto; padding: 28px 20px 60px; }
        h1 { font-size: 24px; margin: 0 0 2px; }
        h2 { font-size: 16px; margin: 34px 0 6px; }
        .quiet { color: var(--soft); margin: 2px 0 8px; }
        .good { color: var(--good); }
        .bad { color: var(--bad); background: var(--badground); padding: 10px 16px; border-radius: 6px; }
        .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(104px, 1fr)); gap: 10px; margin: 16px 0; }
        .tiles div { background: var(--panel); border-radius: 6px; padding: 10px 12px; }
        .tiles b { display: block; font-size: 20px; font-variant-numeric: tabular-nums; }
        .tiles span { color: var(--soft); font-size: 13px; }
        svg { width: 100%; height: auto; display: block; }
        svg text { fill: var(--soft); font-size: 12px; font-variant-numeric: tabular-nums; }
        .grid { stroke: var(--rule); } .tick { stroke: var(--soft); }
        .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
        .line.s1 { stroke: var(--s1); } .line.s2 { stroke: var(--s2); }
        .dot.s1 { fill: var(--s1); } .dot.s2 { fill: var(--s2); }
        .legend { margin: 0 0 4px; font-size: 13px; }
        .key { margin-right: 18px; }
        .key::before { content: ""; display: inline-block; width: 18px; height: 3px; margin-right: 6px;
          vertical-align: middle; background: currentColor; }
        .key.s1 { color: var(--s1); } .key.s2 { color: var(--s2); }
        .wide { overflow-x: auto; }
        table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; margin-top: 8px; }
        th, td { text-align: right; padding: 4px 9px; border-bottom: 1px solid var(--rule); white-space: nowrap; }
        th:first-child, .facts td { text-align: left; white-space: normal; }
        """
}
