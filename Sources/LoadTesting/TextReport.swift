extension RunReport {
    /// The report for a terminal.
    public var text: String {
        var lines = ["\(workload)  martlet \(server.version) on \(server.engine)  \(startedAt)"]
        lines.append(
            "  " + parameters.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" }.joined(separator: ", "))
        if let seed { lines.append("  seed \(seed)") }
        lines.append("")
        if calls > 0 {
            lines.append(
                Self.row(
                    "calls",
                    "\(Figures.count(Double(calls))) in \(Figures.plain(seconds)) s, "
                        + "\(Figures.rate(callsPerSecond)) a second"))
            lines.append(
                Self.row("events", "\(Figures.count(Double(events))), \(Figures.count(eventsPerSecond)) a second"))
            lines.append(Self.row("time of a call", latency.text))
        }
        for (name, share) in (shares ?? [:]).sorted(by: { $0.key < $1.key }) {
            lines.append(
                Self.row(
                    "  \(name)",
                    "\(Figures.count(Double(share.calls))) calls, "
                        + "\(Figures.count(Double(share.events))) events, \(share.latency.text)"))
        }
        if deliveries > 0 {
            lines.append(
                Self.row(
                    "deliveries",
                    "\(Figures.count(Double(deliveries))) in \(Figures.plain(seconds)) s, "
                        + "\(Figures.count(deliveriesPerSecond)) a second"))
        }
        if let deliveryLatency, deliveryLatency.count > 0 {
            lines.append(Self.row("acknowledged to delivered", deliveryLatency.text))
            if let early = deliveriesBeforeAcknowledgement, early > 0 {
                lines.append(
                    Self.row(
                        "",
                        "\(Figures.plain(rounded(early * 100, digits: 2))) % came before the acknowledgement, "
                            + "and count as 0"))
            }
        }
        if let times = commitToDeliveryLatency, times.count > 0 {
            lines.append(Self.row("committed to delivered", times.text))
        }
        if let lag = timeline.map(\.lagEvents).max(), lag > 0 {
            lines.append(Self.row("largest lag", "\(Figures.count(Double(lag))) events, at the end of a second"))
        }
        if let backlog = timeline.map(\.backlogCalls).max(), backlog > 0 {
            lines.append(
                Self.row("largest backlog", "\(Figures.count(Double(backlog))) calls were due but had no free client"))
        }
        lines.append(
            Self.row(
                "errors",
                errors.isEmpty
                    ? "none"
                    : errors.sorted { $0.key < $1.key }
                        .map { "\($0.key) \(Figures.count(Double($0.value)))" }.joined(separator: ", ")))
        lines.append(
            Self.row(
                "CPU",
                "server \(Figures.plain(serverCPUSeconds)) s, "
                    + "this program \(Figures.plain(clientCPUSeconds)) s"))
        lines.append(
            Self.row(
                "memory of the server",
                "\(Figures.bytes(serverMemoryBytes.before)) before, "
                    + "\(Figures.bytes(serverMemoryBytes.peak)) at most, \(Figures.bytes(serverMemoryBytes.after)) after"
            ))
        lines.append(
            Self.row(
                "verified",
                verified.sorted { $0.key < $1.key }
                    .map { "\($0.key) \(Figures.count(Double($0.value)))" }.joined(separator: ", ")))
        for failure in failures { lines.append(Self.row("FAILED", failure)) }
        return lines.joined(separator: "\n")
    }

    private static func row(_ name: String, _ value: String) -> String {
        "  " + name + String(repeating: " ", count: max(2, 28 - name.count)) + value
    }
}

extension LatencySummary {
    /// The percentiles for a terminal.
    var text: String {
        guard count > 0 else { return "none" }
        return [
            ("p50", p50), ("p75", p75), ("p90", p90), ("p95", p95), ("p99", p99), ("p99.9", p999), ("p99.99", p9999),
            ("max", max),
        ].map { "\($0) \(Figures.time($1))" }.joined(separator: ", ")
    }
}
