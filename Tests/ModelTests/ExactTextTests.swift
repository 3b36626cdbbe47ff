import MartletModel
import Testing

/// Names are the same when their bytes are, whatever Swift's `String` says of them.
@Suite struct ExactTextTests {
    private let composed = "Caf\u{E9}"
    private let decomposed = "Cafe\u{301}"

    @Test func canonicallyEqualTextsAreTwoNames() throws {
        #expect(composed == decomposed, "as Swift has it")
        #expect(ExactText(composed) != ExactText(decomposed))
        #expect(ExactText(decomposed) < ExactText(composed) && !(ExactText(composed) < ExactText(decomposed)))
        #expect(Set([ExactText(composed), ExactText(decomposed), ExactText(composed)]).count == 2)
        let types = Set([try #require(EventType(composed)), try #require(EventType(decomposed))])
        #expect(types.count == 2)
    }

    @Test func tagsKeepBothKeysWithTheirValues() {
        var metadata = EventMetadata()
        metadata.tags[ExactText(composed)] = "1"
        metadata.tags[ExactText(decomposed)] = "2"
        #expect(metadata.tags.count == 2)
        #expect(metadata.tags[ExactText(composed)] == "1" && metadata.tags[ExactText(decomposed)] == "2")
    }

    /// A peer can make any number of texts that a `String` hashes alike.
    @Test func equivalentTextsHaveHashesOfTheirOwn() {
        let marks = ["\u{300}", "\u{316}", "\u{334}"]
        var texts: [String] = []
        for a in marks {
            for b in marks where a != b { for c in marks where c != a && c != b { texts.append("x" + a + b + c) } }
        }
        #expect(Set(texts).count == 1, "as Swift has it")
        #expect(Set(texts.map { ExactText($0).hashValue }).count == texts.count)
    }
}
