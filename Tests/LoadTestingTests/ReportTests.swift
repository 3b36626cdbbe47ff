import Foundation
import Testing

@testable import MartletLoadTesting

@Suite struct ReportTests {
    private func report() -> RunReport {
        var latencies = Latencies()
        for micros in 1...1_000 { latencies.record(UInt64(micros) * 10) }
        var report = RunReport(
            workload: "append", parameters: ["clients": .int(3), "rate": .text("closed loop"), "seconds": .double(2.5)])
        report.server.engine = "sqlite"
        report.calls = 1_000
        report.callsPerSecond = 400
        report.latency = latencies.summary
        report.percentiles = latencies.curve
        report.errors = ["APPEND_QUEUE_FULL": 2]
        report.timeline = (1...3).map {
            RunReport.Second(
                second: $0, calls: 300, events: 300, p99: 9_000, deliveries: 0, deliveryP99: 0, lagEvents: 0,
                backlogCalls: 0, errors: 1, serverMemoryBytes: 1 << 24)
        }
        report.verified = ["stored": 1_000]
        return report
    }

    @Test func countsPercentiles() {
        let summary = report().latency
        #expect(summary.count == 1_000)
        #expect((4_990...5_010).contains(summary.p50))
        #expect((9_895...9_910).contains(summary.p99))
        #expect(summary.max >= 10_000)
        #expect((4_990...5_020).contains(summary.mean))
        let curve = report().percentiles
        #expect(curve.map { $0[0] } == curve.map { $0[0] }.sorted())
        #expect(curve.map { $0[1] } == curve.map { $0[1] }.sorted())
        #expect(curve.last?[0] == 100)
    }

    @Test func writesAndReadsJSON() throws {
        let report = report()
        let bytes = try report.json()
        #expect(try RunReport.read(bytes, name: "a.json") == report)
        let object = try #require(try JSONSerialization.jsonObject(with: bytes) as? [String: Any])
        #expect(object["format"] as? String == "martlet-bench/1")
        let latency = try #require(object["latency"] as? [String: Any])
        #expect(Set(latency.keys) == ["p50", "p75", "p90", "p95", "p99", "p99.9", "p99.99", "max", "mean", "count"])
        #expect((object["parameters"] as? [String: Any])?["clients"] as? Int == 3)
    }

    @Test(arguments: ["", "[]", "{}", #"{"format":"martlet-bench/2"}"#, #"{"format":"martlet-bench/1"}"#])
    func refusesOtherFiles(_ text: String) {
        let error = #expect(throws: BenchFailure.self) { _ = try RunReport.read(Data(text.utf8), name: "a.json") }
        #expect(error?.description.hasPrefix("a.json ") == true)
    }

    @Test func comparesAndNamesDifferences() {
        let a = report()
        var b = a
        #expect(Comparison(a, b).differences.isEmpty)
        #expect(Comparison(a, b).text.hasPrefix("same workload"))
        b.parameters["clients"] = .int(4)
        b.callsPerSecond = 600
        b.failures = ["one is missing"]
        let text = Comparison(a, b).text
        #expect(text.hasPrefix("DIFFERENT RUNS"))
        #expect(text.contains("clients: 3 against 4"))
        #expect(text.contains("B CANNOT BE TRUSTED: one is missing"))
        let line = text.split(separator: "\n").first { $0.contains("calls / s") }
        #expect(line?.split(separator: " ").suffix(3) == ["400", "600", "1.5"])
    }

    @Test func plotsWithoutAnythingFromElsewhere() {
        var report = report()
        report.failures = ["<script>alert(1)</script>"]
        let html = HTMLReport(report).html
        #expect(html.contains("<svg"))
        #expect(html.contains("polyline"))
        #expect(html.contains("prefers-color-scheme: dark"))
        #expect(html.contains("&lt;script&gt;"))
        for forbidden in ["<script", "http:", "https:", "@import", "url(", " src=", "NaN", "inf "] {
            #expect(!html.contains(forbidden), "\(forbidden)")
        }
    }

    @Test func figuresAreReadable() {
        #expect(Figures.count(1_234_567) == "1,234,567")
        #expect(Figures.count(999) == "999")
        #expect(Figures.time(UInt64(850)) == "850 µs")
        #expect(Figures.time(UInt64(1_250)) == "1.25 ms")
        #expect(Figures.time(UInt64(12_340_000)) == "12.3 s")
        #expect(Figures.bytes(3 << 20) == "3 MiB")
    }
}
