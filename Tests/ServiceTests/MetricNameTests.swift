import Foundation
import MartletTesting
import Testing

@testable import MartletService

/// Docs/OPERATIONS.md names each metric, and none that does not exist.
@Suite struct MetricNameTests {
    @Test func thePageHasARowOfEachMetric() throws {
        let page = try ManualPage("OPERATIONS").text
        let rows = page.split(separator: "\n").filter { $0.hasPrefix("| `martlet_") }
            .map { $0.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) } }
        let names = rows.compactMap { $0.first?.trimmingCharacters(in: ["`"]) }
        #expect(names.sorted() == MetricName.allCases.map(\.rawValue).sorted())
        for row in rows { #expect(row.count >= 3 && row.allSatisfy { !$0.isEmpty }, "\(row)") }
    }

    @Test func namesSayWhatTheyAre() {
        for name in MetricName.allCases.map(\.rawValue) {
            #expect(name.wholeMatch(of: /martlet(_[a-z]+)+/) != nil, "\(name)")
        }
    }
}
