import MartletModel
import MartletUpcasting
import NIOCore
import Testing

/// Steps that follow each other, also through changes of the type.
@Suite("Chains")
struct ChainTests {
    static let definition = #"""
        {"upcasters": [
          {"event": "Placed", "from": 2, "operations": [{"set": {"path": "/c", "value": 3}}]},
          {"event": "OrderPlaced", "from": 1, "operations": [
            {"rename": {"path": "/a", "to": "b"}}, {"type": "Placed"}]},
          {"event": "Placed", "from": 3, "operations": [{"type": "OrderAccepted"}]},
          {"event": "Renamed", "from": 1, "operations": [{"type": "RenamedTwice"}]},
          {"event": "RenamedTwice", "from": 2, "operations": [{"type": "Final"}]},
          {"snapshot": "order", "from": 1, "operations": [{"remove": {"path": "/x"}}]},
          {"snapshot": "order", "from": 2, "operations": [{"default": {"path": "/y", "value": []}}]}
        ]}
        """#

    let set: UpcasterSet

    init() throws { set = try Sample.set(Self.definition) }

    @Test func aChainIsAppliedToItsEnd() throws {
        let (outcome, payload) = try set.upcast(#"{"a":1}"#, type: "OrderPlaced")
        #expect(outcome == .upcast(Upcast(subject: .event(try Sample.event("OrderAccepted")), schemaVersion: 4)))
        #expect(payload == #"{"b":1,"c":3}"#)
    }

    @Test(arguments: [
        (UInt32(1), nil, #"{"a":1}"#), (2, "Placed", #"{"b":1}"#), (3, "Placed", #"{"b":1,"c":3}"#),
        (4, "OrderAccepted", #"{"b":1,"c":3}"#), (9, "OrderAccepted", #"{"b":1,"c":3}"#),
    ])
    func aChainStopsAtATarget(target: UInt32, type: String?, expected: String) throws {
        let (outcome, payload) = try set.upcast(#"{"a":1}"#, type: "OrderPlaced", atMost: target)
        let placed = try Sample.event("OrderPlaced")
        let delivered = set.delivered(event: placed, schemaVersion: 1, atMost: target)
        #expect(delivered.type.text == type ?? "OrderPlaced")
        #expect(delivered.schemaVersion == min(target, 4))
        #expect(set.deliveredType(of: placed, schemaVersion: 1, atMost: target) == delivered.type)
        if let type {
            #expect(
                outcome == .upcast(Upcast(subject: .event(try Sample.event(type)), schemaVersion: min(target, 4))))
            #expect(payload == expected)
        } else {
            #expect(outcome == .unchanged)
        }
    }

    @Test func whatNoStepConcernsStays() throws {
        #expect(try set.upcast("{", type: "Other").outcome == .unchanged)
        #expect(try set.upcast("{", type: "OrderPlaced", from: 2).outcome == .unchanged)
        #expect(try set.upcast("{", type: "OrderPlaced", from: 0).outcome == .unchanged)
        #expect(try set.upcast("{", type: "OrderAccepted", from: 4).outcome == .unchanged)
        #expect(try set.upcast("{", type: "OrderPlaced", from: .max).outcome == .unchanged)
        #expect(try UpcasterSet.empty.upcast("{").outcome == .unchanged)
        #expect(set.concerns(event: try Sample.event("Placed"), schemaVersion: 3))
        #expect(!set.concerns(event: try Sample.event("Placed"), schemaVersion: 1))
        #expect(!set.concerns(event: try Sample.event("order"), schemaVersion: 1))
    }

    @Test func snapshotsHaveChainsOfTheirOwn() throws {
        let order = AggregateType("order")
        #expect(set.concerns(snapshot: order, schemaVersion: 1))
        #expect(!set.concerns(snapshot: order, schemaVersion: 3))
        #expect(set.latestVersion(of: order) == 3)
        var output = ByteBuffer()
        let outcome = set.upcast(
            snapshot: order, schemaVersion: 1, contentType: "application/vnd.order+json",
            payload: ByteBuffer(string: #"{"x":1}"#), outputBytesMax: 100, to: &output)
        #expect(outcome == .upcast(Upcast(subject: .snapshot(order), schemaVersion: 3)))
        #expect(String(buffer: output) == #"{"y":[]}"#)
    }

    @Test func theGraphIsAskedForTypesAndVersions() throws {
        func types(_ names: String...) throws -> Set<EventType> { try Set(names.map(Sample.event)) }
        #expect(set.latestVersion(of: try Sample.event("OrderAccepted")) == 4)
        #expect(set.latestVersion(of: try Sample.event("Placed")) == nil)
        #expect(set.storedTypes(deliveredAs: try types("Final")) == (try types("Final", "RenamedTwice", "Renamed")))
        #expect(set.storedTypes(deliveredAs: try types("Placed")) == (try types("Placed", "OrderPlaced")))
        #expect(set.storedTypes(deliveredAs: try types("OrderPlaced", "X")) == (try types("OrderPlaced", "X")))
        #expect(set.storedTypes(deliveredAs: []) == [])
    }

    /// Each stored type is taken once, however many of the wanted types it leads to: what a filter costs does not grow with
    /// the product of both.
    @Test func storedTypesAreTakenOnce() throws {
        let (sources, chain) = (900, 98)
        var steps = (0..<sources).map { #"{"event":"s\#($0)","from":1,"operations":[{"type":"T1"}]}"# }
        steps += (1..<chain).map { #"{"event":"T\#($0)","from":\#($0 + 1),"operations":[{"type":"T\#($0 + 1)"}]}"# }
        let set = try UpcasterSet(
            definition: ByteBuffer(string: #"{"upcasters":[\#(steps.joined(separator: ","))]}"#))
        func cost(_ types: Set<EventType>) -> Duration {
            (0..<20).map { _ in ContinuousClock().measure { _ = set.storedTypes(deliveredAs: types) } }.min() ?? .zero
        }
        let all = try Set((1...chain).map { try Sample.event("T\($0)") })
        let stored = set.storedTypes(deliveredAs: all)
        #expect(stored.count == sources + chain && all.isSubset(of: stored))
        let (one, many) = (cost([try Sample.event("T\(chain)")]), cost(all))
        #expect(many < one * 10, "\(many) for \(chain) types that share their sources, \(one) for one of them")
    }

    @Test func aChainOfTypesOnlyCopiesAnyPayload() throws {
        let (outcome, payload) = try set.upcast("\u{1}no JSON ", type: "Renamed", contentType: "image/png")
        #expect(outcome == .upcast(Upcast(subject: .event(try Sample.event("Final")), schemaVersion: 3)))
        #expect(payload == "\u{1}no JSON ")
        guard case .failed = try set.upcast("abc", type: "Renamed", outputBytesMax: 2).outcome else {
            Issue.record("a payload beyond its bound is delivered")
            return
        }
    }

    @Test func aFailureNamesStepOperationAndPath() throws {
        let set = try Sample.set(
            #"""
            {"upcasters":[{"event":"E","from":1,"operations":[{"type":"F"}]},
            {"event":"F","from":2,"operations":[{"set":{"path":"/x","value":1}},
              {"convert":{"path":"/l/*/m/*/n","to":"integer"}}]}]}
            """#)
        let payload = #"{"l":[{},{"m":{"secret":{"n":1},"private":{"n":"hidden"}}}]}"#
        guard case .failed(let failure) = try set.upcast(payload).outcome else {
            Issue.record("it did not fail")
            return
        }
        #expect(failure.subject == .event(try Sample.event("F")))
        #expect(failure.fromVersion == 2)
        #expect(failure.operation == 1)
        #expect(failure.pointer == "/l/1/m/*/n")
        for secret in ["secret", "private", "hidden"] { #expect(!failure.description.contains(secret)) }
        #expect(failure.description.hasPrefix("event F from 2, operations[1] at /l/1/m/*/n: is not a whole number"))
    }

    @Test func aFailureNamesTheElementBelowNamesWithCombiningMarks() throws {
        let set = try Sample.step("{\"convert\":{\"path\":\"/\u{301}l/*/\u{301}n\",\"to\":\"integer\"}}")
        guard case .failed(let failure) = try set.upcast("{\"\u{301}l\":[{},{\"\u{301}n\":\"x\"}]}").outcome else {
            Issue.record("it did not fail")
            return
        }
        // Strings are equal to Swift whatever their composition.
        #expect(Array(failure.pointer.utf8) == Array("/\u{301}l/1/\u{301}n".utf8))
    }

    @Test func aPayloadThatIsNotJSONFails() throws {
        let set = try Sample.step(#"{"remove":{"path":"/a"}}"#)
        #expect(try set.became(#"{"a":1"#) == .failed("the payload is not JSON: at byte 6, the text ends too early"))
        guard case .failed(let failure) = try set.upcast("{}", contentType: "text/plain").outcome else {
            Issue.record("text was upcast")
            return
        }
        #expect(failure.operation == nil)
        #expect(failure.description == "event E from 1: the content type is not JSON")
    }

    // MARK: Documents

    @Test func theCanonicalDocumentRoundTrips() throws {
        let rows = [
            OperationTests.rename, OperationTests.move, OperationTests.copy, OperationTests.remove, OperationTests.set,
            OperationTests.setDefault, OperationTests.convert, OperationTests.convertTime, OperationTests.map,
            OperationTests.wrap, OperationTests.unwrap, OperationTests.split, OperationTests.join,
            OperationTests.paths,
        ].joined()
        for row in rows {
            let document = String(buffer: try Sample.step(row.operation + #", {"type":"\"é\""}"#).definition())
            #expect(String(buffer: try Sample.set(document).definition()) == document)
            #expect(
                document.contains(row.operation) || !row.operation.allSatisfy(\.isASCII) || row.operation.contains(" ")
                    || row.operation.contains("\\u"))
        }
        let document = String(buffer: set.definition())
        #expect(String(buffer: try Sample.set(document).definition()) == document)
        #expect(document.hasPrefix(#"{"upcasters":[{"event":"OrderPlaced","from":1,"operations":[{"rename":{"#))
        #expect(set.steps.map(\.fromVersion) == [1, 2, 3, 1, 2, 1, 2])
        #expect(set.steps[0].newType?.text == "Placed")
        #expect(set.steps[0].operationCount == 2)
        #expect(String(buffer: UpcasterSet.empty.definition()) == #"{"upcasters":[]}"#)
        #expect(try Sample.set(#"{"upcasters":[]}"#).isEmpty)
    }

    @Test func stepsAreReplacedAndRemoved() throws {
        let other = try Sample.set(
            #"""
            {"upcasters":[{"event":"Placed","from":2,"operations":[{"set":{"path":"/c","value":4}}]},
            {"event":"New","from":7,"operations":[{"remove":{"path":"/a"}}]}]}
            """#)
        let merged = try set.applying(other)
        #expect(merged.steps.count == 8)
        #expect(try merged.upcast(#"{"a":1}"#, type: "OrderPlaced").payload == #"{"b":1,"c":4}"#)
        #expect(String(buffer: try set.applying(.empty).definition()) == String(buffer: set.definition()))
        #expect(
            String(buffer: try UpcasterSet.empty.applying(set).definition()) == String(buffer: set.definition()))

        let order = UpcasterSubject.snapshot(AggregateType("order"))
        #expect(try merged.removing(order).steps.count == 6)
        #expect(try merged.removing(order, from: 2).steps.count == 7)
        #expect(try merged.removing(order, from: 9).steps.count == 8)
        let gap = #expect(throws: MartletError.self) { try merged.removing(.event(Sample.event("Placed")), from: 2) }
        #expect(gap?.reason == .invalidUpcaster)
        #expect(gap?.message.hasPrefix("event ") == true)
        let gapAfterMerge = try Sample.set(
            #"{"upcasters":[{"event":"New","from":2,"operations":[{"type":"Placed"}]}]}"#)
        #expect(throws: MartletError.self) {
            try set.applying(
                Sample.set(#"{"upcasters":[{"event":"Placed","from":5,"operations":[{"remove":{"path":"/a"}}]}]}"#))
        }
        #expect(try set.applying(gapAfterMerge).latestVersion(of: Sample.event("OrderAccepted")) == 4)
    }
}
