import Foundation
import MartletModel
import MartletTesting
import MartletUpcasting
import Testing

@Suite("Documentation")
struct DocumentationTests {
    /// Every example of the page does what it says: the operations in the text before a block, on each of its lines.
    @Test func examplesHold() throws {
        let page = try ManualPage("UPCASTING").text
        var operations: [String] = []
        var isInside = false
        var examples = 0
        for line in page.split(separator: "\n", omittingEmptySubsequences: false) {
            if line.hasPrefix("```") {
                if isInside { operations = [] }
                isInside.toggle()
            } else if isInside, let arrow = line.range(of: "→") {
                let before = line[..<arrow.lowerBound].trimmingCharacters(in: .whitespaces)
                let after = line[arrow.upperBound...].trimmingCharacters(in: .whitespaces)
                let became = try Sample.step(operations.joined(separator: ",")).became(before)
                #expect(became == .payload(after), "\(line)")
                examples += 1
            } else if !isInside {
                if line.hasPrefix("#") { operations = [] }
                operations += line.split(separator: "`").map(String.init).filter {
                    $0.hasPrefix("{\"") && $0.hasSuffix("}}")
                }
            }
        }
        #expect(examples >= 14)
    }

    @Test func theExampleOfADocumentIsAccepted() throws {
        let page = try ManualPage("UPCASTING").text
        let start = try #require(page.range(of: "```json\n")).upperBound
        let end = try #require(page.range(of: "\n```", range: start..<page.endIndex)).lowerBound
        #expect(try Sample.set(String(page[start..<end])).steps.count == 2)
    }

    /// Times against another calendar: the one that writes recorded-at.
    @Test func timesAgreeWithAnotherCalendar() throws {
        let seed = SplitMix.seed()
        print("times: seed \(seed)")
        var random = SplitMix(state: seed)
        let there = try Sample.step(#"{"convert":{"path":"/t","to":"epoch-micros"}}"#)
        let back = try Sample.step(#"{"convert":{"path":"/t","to":"rfc3339","from":"epoch-micros"}}"#)
        for _ in 0..<2_000 {
            // From 1583 on: the other calendar is the Julian one before.
            let micros = Int64.random(in: -12_212_553_600_000_000...253_402_300_799_999_999, using: &random)
            let text = Timestamp(microseconds: micros).description
            #expect(try there.became(#"{"t":"\#(text)"}"#) == .payload(#"{"t":\#(micros)}"#), "seed \(seed)")
            guard case .payload(let written) = try back.became(#"{"t":\#(micros)}"#) else {
                Issue.record("seed \(seed): \(micros) is no time")
                continue
            }
            #expect(try there.became(written) == .payload(#"{"t":\#(micros)}"#), "seed \(seed)")
            if micros % 1_000 != 0 { #expect(written == #"{"t":"\#(text)"}"#, "seed \(seed)") }
        }
    }
}
