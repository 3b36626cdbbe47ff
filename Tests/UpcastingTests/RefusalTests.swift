import MartletModel
import MartletUpcasting
import NIOCore
import Testing

/// What a registration refuses, with the place and the reason.
@Suite("Refusals")
struct RefusalTests {
    /// The message that a definition is refused with.
    private func refusal(
        _ definition: String, limits: UpcastingLimits = UpcastingLimits(),
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> String {
        let error = #expect(throws: MartletError.self, sourceLocation: sourceLocation) {
            try Sample.set(definition, limits: limits)
        }
        let refusal = try #require(error)
        #expect(refusal.code == .invalidArgument)
        #expect(refusal.reason == .invalidUpcaster)
        #expect(refusal.reason.rawValue == "INVALID_UPCASTER")
        return refusal.message
    }

    private func refusal(operation: String, sourceLocation: SourceLocation = #_sourceLocation) throws -> String {
        let message = try refusal(
            #"{"upcasters":[{"event":"E","from":1,"operations":[{"type":"F"},\#(operation)]}]}"#,
            sourceLocation: sourceLocation)
        let place = "upcasters[0].operations[1]"
        #expect(message.hasPrefix(place), sourceLocation: sourceLocation)
        return String(message.dropFirst(place.count))
    }

    @Test(arguments: [
        (#"{"frobnicate":{}}"#, #": has the unknown member "frobnicate"; known are rename, move"#),
        (#"{}"#, ": must have one member"),
        (#"{"type":"A","remove":{"path":"/a"}}"#, ": must have one member"),
        (#"[]"#, ": must be an object"),
        (#"{"type":"G"}"#, ": a step may change the type only once"),
        (#"{"rename":{"path":"/a","to":7}}"#, ".rename.to: must be a string"),
        (#"{"rename":{"path":"/a"}}"#, #".rename: must have "to""#),
        (
            #"{"rename":{"path":"/a","to":"b","too":1}}"#,
            #".rename: has the unknown member "too"; known are path, to, required"#
        ),
        (#"{"rename":{"path":"/a","path":"/b","to":"c"}}"#, #".rename: has "path" twice"#),
        (#"{"rename":{"path":"/a","\u0070ath":"/b","to":"c"}}"#, #".rename: has "path" twice"#),
        (#"{"rename":{"path":"/a/*","to":"b"}}"#, ".rename.path: must end in the name of a member"),
        (#"{"rename":{"path":"","to":"b"}}"#, ".rename.path: must end in the name of a member"),
        (#"{"rename":{"path":"a","to":"b"}}"#, ".rename.path: must be a JSON Pointer"),
        (#"{"rename":{"path":"/a~2","to":"b"}}"#, ".rename.path: has a ~ that is neither"),
        (#"{"rename":{"path":"/a~","to":"b"}}"#, ".rename.path: has a ~ that is neither"),
        (#"{"rename":{"path":"/a\ud800","to":"b"}}"#, ".rename.path: has a lone surrogate"),
        (#"{"rename":{"path":"/a","to":"\ud800"}}"#, ".rename.to: has a lone surrogate"),
        (#"{"rename":{"path":"/a","to":"b","required":1}}"#, ".rename.required: must be true or false"),
        (#"{"move":{"from":"/a/*","to":"/b"}}"#, ".move.to: has 0 segments *, but the source has 1"),
        (#"{"move":{"from":"/a","to":""}}"#, #".move.to: is the whole payload, which always exists: set "replace""#),
        (#"{"remove":{"path":""}}"#, ".remove.path: is the whole payload"),
        (#"{"remove":"/a"}"#, ".remove: must be an object"),
        (#"{"set":{"path":"/a"}}"#, #".set: must have "value""#),
        (#"{"set":{"path":"/a","value":1,"required":true}}"#, #".set: has the unknown member "required""#),
        (#"{"convert":{"path":"/a","to":"float"}}"#, ".convert.to: must be one of string, integer"),
        (#"{"convert":{"path":"/a","to":"rfc3339"}}"#, #".convert: must have "from""#),
        (#"{"convert":{"path":"/a","to":"string","from":"rfc3339"}}"#, ".convert.from: is only for times"),
        (#"{"convert":{"path":"/a","to":"rfc3339","from":"string"}}"#, ".convert.from: must be rfc3339, epoch"),
        (#"{"map":{"path":"/a","table":[]}}"#, ".map.table: must be an object"),
        (#"{"map":{"path":"/a","table":{"a":1,"\u0061":2}}}"#, #".map.table: has the entry "a" twice"#),
        (#"{"wrap":{"path":"/a","in":"set"}}"#, #".wrap.in: must be "array" or "object""#),
        (#"{"wrap":{"path":"/a","in":"object"}}"#, #".wrap: must have "key""#),
        (#"{"wrap":{"path":"/a","in":"array","key":"k"}}"#, ".wrap.key: is only for objects"),
        (#"{"split":{"path":"/a","separator":"","to":"/b"}}"#, ".split.separator: must not be empty"),
        (#"{"split":{"path":"/a","separator":" "}}"#, #".split: must have either "into""#),
        (#"{"split":{"path":"/a","separator":" ","into":["/b"],"to":"/c"}}"#, #".split: must have either "into""#),
        (#"{"split":{"path":"/a","separator":" ","into":["/b","/b"]}}"#, ".split.into[1]: is listed twice"),
        (#"{"split":{"path":"/a","separator":" ","into":[]}}"#, ".split.into: must have at least one"),
        (#"{"split":{"path":"/a","separator":" ","into":["/b",1]}}"#, ".split.into[1]: must be a string"),
        (#"{"join":{"paths":["/a","/b/*"],"separator":" ","into":"/c"}}"#, ".join.paths[1]: must be the same as"),
        (#"{"join":{"paths":["/a/*"],"separator":" ","into":"/a/*"}}"#, ".join.paths[0]: must not end in *"),
        (#"{"join":{"paths":["/a","/a"],"separator":" ","into":"/c"}}"#, ".join.paths: lists a pointer twice"),
        (#"{"join":{"separator":" ","into":"/c"}}"#, #".join: must have either "paths""#),
        (#"{"type":""}"#, ".type: must be an event type"),
        (#"{"type":null}"#, ".type: must be a string"),
    ])
    func anOperation(operation: String, complaint: String) throws {
        let message = try refusal(operation: operation)
        #expect(message.hasPrefix(complaint), "\(message)")
    }

    @Test(arguments: [
        ("", "the document: is not JSON: at byte 0"),
        ("[]", "the document: must be an object"),
        ("{}", #"the document: must have "upcasters""#),
        (#"{"upcasters":{}}"#, "upcasters: must be an array"),
        (#"{"upcasters":[1]}"#, "upcasters[0]: must be an object"),
        (#"{"upcasters":[{"from":1,"operations":[]}]}"#, #"upcasters[0]: must have either "event" or "snapshot""#),
        (#"{"upcasters":[{"event":"E","snapshot":"s","from":1,"operations":[]}]}"#, "upcasters[0]: must have either"),
        (#"{"upcasters":[{"event":"\u0000","from":1,"operations":[]}]}"#, "upcasters[0].event: must be an event type"),
        (#"{"upcasters":[{"snapshot":"a b","from":1,"operations":[]}]}"#, "upcasters[0].snapshot: must be an aggreg"),
        (#"{"upcasters":[{"event":"E","from":0,"operations":[]}]}"#, "upcasters[0].from: must be a whole number"),
        (#"{"upcasters":[{"event":"E","from":-1,"operations":[]}]}"#, "upcasters[0].from: must be a whole number"),
        (#"{"upcasters":[{"event":"E","from":1.0,"operations":[]}]}"#, "upcasters[0].from: must be a whole number"),
        (#"{"upcasters":[{"event":"E","from":4294967295,"operations":[]}]}"#, "upcasters[0].from: must be a whole"),
        (#"{"upcasters":[{"event":"E","from":"1","operations":[]}]}"#, "upcasters[0].from: must be a whole number"),
        (#"{"upcasters":[{"event":"E","from":1,"operations":[]}]}"#, "upcasters[0].operations: must have at least one"),
        (#"{"upcasters":[{"event":"E","from":1}]}"#, #"upcasters[0]: must have "operations""#),
        (
            #"{"upcasters":[{"snapshot":"s","from":1,"operations":[{"type":"F"}]}]}"#,
            "upcasters[0].operations[0]: a snapshot has no event type"
        ),
    ])
    func aDocument(document: String, complaint: String) throws {
        let message = try refusal(document)
        #expect(message.hasPrefix(complaint), "\(message)")
    }

    /// A document of steps, each written as `A1` (stays) or `A1B` (becomes B).
    private func document(_ steps: String) -> String {
        let list = steps.split(separator: " ").map { step -> String in
            let text = Array(step)
            let number = String(text[1...].prefix { $0.isNumber })
            let type = text.dropFirst(1 + number.count)
            let operation = type.isEmpty ? #"{"remove":{"path":"/x"}}"# : #"{"type":"\#(String(type))"}"#
            return #"{"event":"\#(text[0])","from":\#(number),"operations":[\#(operation)]}"#
        }
        return #"{"upcasters":[\#(list.joined(separator: ","))]}"#
    }

    @Test(arguments: [
        ("A1 A1", "upcasters[1]: is a second step for event A from 1, after upcasters[0]"),
        ("A1 A3", "upcasters[1] (event A from 3): leaves a gap: there is a step from 1 but none from 2"),
        ("A3 A1", "upcasters[0] (event A from 3): leaves a gap"),
        ("A1B B3", "upcasters[1] (event B from 3): leaves a gap"),
        ("A1B A3", "upcasters[1] (event A from 3): leaves a gap"),
        ("A1B B2C C4", "upcasters[2] (event C from 4): leaves a gap"),
        ("A5B B1 B2", "leaves a gap"),
        ("A1C B3C", "leaves a gap: event C arrives at version 2 and at version 4, and there is no step from 2"),
        ("A1B B2A", "upcasters[1] (event B from 2): creates a cycle: its events were A before"),
        ("A1B B2C C3A", "upcasters[2] (event C from 3): creates a cycle"),
        ("A1B B2 B3C C4 C5B", "creates a cycle: its events were B before"),
        ("X3A A1B", "leaves a gap"),
    ])
    func aChain(steps: String, complaint: String) throws {
        let message = try refusal(document(steps))
        #expect(message.contains(complaint), "\(message)")
    }

    @Test(arguments: ["A1 A2 A3", "A1B B2", "A1B B2 B3", "B3 B4 A2B", "A1C B1C C2", "A1A A2", "A7", "A1B A2B B2"])
    func aChainWithoutGapPasses(steps: String) throws {
        let set = try Sample.set(document(steps))
        #expect(set.steps.count == steps.split(separator: " ").count)
    }

    @Test func anOverlongChain() throws {
        let fits = (1...100).map { "A\($0)" }.joined(separator: " ")
        #expect(try Sample.set(document(fits)).steps.count == 100)
        #expect(
            try refusal(document(fits + " A101")).hasPrefix(
                "upcasters[0] (event A from 1): starts a chain of more than 100 steps"))
    }

    @Test func limitsAreNamed() throws {
        func limits(_ change: (inout UpcastingLimits) -> Void) -> UpcastingLimits {
            var limits = UpcastingLimits()
            change(&limits)
            return limits
        }
        let two = document("A1 A2")
        #expect(try refusal(two, limits: limits { $0.stepsMax = 1 }) == "upcasters: has more than 1 steps")
        #expect(try refusal(two, limits: limits { $0.documentBytesMax = 10 }).hasPrefix("the document: has "))
        #expect(try refusal(two, limits: limits { $0.documentDepthMax = 4 }).hasPrefix("the document: nests"))
        #expect(try refusal(two, limits: limits { $0.pointerBytesMax = 1 }).contains("path: must have at most 1 bytes"))
        let deep =
            #"{"upcasters":[{"event":"E","from":1,"operations":[{"remove":{"path":"\#(String(repeating: "/a", count: 33))"}}]}]}"#
        #expect(try refusal(deep).contains("path: must have at most 32 segments"))
        let table =
            #"{"upcasters":[{"event":"E","from":1,"operations":[{"map":{"path":"/a","table":{"1":1,"2":2}}},{"map":{"path":"/a","table":{"1":1,"2":2}}}]}]}"#
        #expect(
            try refusal(table, limits: limits { $0.tableEntriesMax = 3 }).hasPrefix(
                "upcasters[0].operations[1].map.table: tables may have"))
        let merged = limits { $0.stepsMax = 2 }
        let first = try Sample.set(two, limits: merged)
        let error = #expect(throws: MartletError.self) {
            try first.applying(Sample.set(document("B1"), limits: merged))
        }
        #expect(error?.limit?.name == "steps_max")
    }
}
