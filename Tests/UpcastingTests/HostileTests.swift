import FoundationEssentials
import Glibc
import MartletModel
import MartletUpcasting
import NIOCore
import Testing

/// Definitions and payloads made to cost much: refused or failed, in little time and memory.
@Suite("Hostile input", .serialized)
struct HostileTests {
    /// Of processor time; sanitizers multiply what work takes.
    static let secondsMax = (isDebug ? 20.0 : 1.0) * (isSanitized ? 10 : 1)
    #if DEBUG
        private static let isDebug = true
    #else
        private static let isDebug = false
    #endif
    private static let isSanitized = (["__tsan_init", "__asan_init"] as [String])
        .contains { unsafe dlsym(nil, $0) != nil }
    static let memoryBytesMax = 256 << 20

    /// The most memory that the process has had so far.
    private static func peakBytes() throws -> Int {
        let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
        let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") })
        return try #require(Int(line.filter(\.isNumber))) << 10
    }

    /// What the calling thread has taken of the processor so far: how busy the machine is does not matter.
    private static var processorSeconds: Double {
        var time = timespec()
        guard unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0 else { return .nan }
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Runs `body` and holds it to the bounds; prints what it cost.
    private func bounded<Result>(
        _ name: String, sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Result
    ) throws -> Result {
        // Sets the peak back to what is in use now.
        try Data("5".utf8).write(to: URL(filePath: "/proc/self/clear_refs"))
        let before = try Self.peakBytes()
        let start = Self.processorSeconds
        let result = try body()
        let spent = Self.processorSeconds - start
        let memory = try Self.peakBytes() - before
        print("hostile: \(name): \((spent * 1000).rounded()) ms, \(memory >> 20) MiB more")
        #expect(spent < Self.secondsMax, sourceLocation: sourceLocation)
        #expect(memory < Self.memoryBytesMax, sourceLocation: sourceLocation)
        return result
    }

    private func refusal(
        _ name: String, _ document: String, limits: UpcastingLimits = UpcastingLimits(),
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> String {
        let definition = ByteBuffer(string: document)
        let error = try bounded(name, sourceLocation: sourceLocation) {
            #expect(throws: MartletError.self, sourceLocation: sourceLocation) {
                try UpcasterSet(definition: definition, limits: limits)
            }
        }
        return try #require(error).message
    }

    private func document(_ operations: String) -> String {
        #"{"upcasters":[{"event":"E","from":1,"operations":[\#(operations)]}]}"#
    }

    /// The same text many times, which is soon made.
    private func repeated(_ count: Int, _ text: String) -> String {
        String(repeating: text + ",", count: count - 1) + text
    }

    private func repeated(_ count: Int, _ text: (Int) -> String) -> String {
        (0..<count).map(text).joined(separator: ",")
    }

    /// A set of 100 steps of 100 operations each.
    private func long(_ operation: (Int) -> String) throws -> UpcasterSet {
        let steps = repeated(100) { step in
            #"{"event":"E","from":\#(step + 1),"operations":[\#(repeated(100) { operation(step * 100 + $0) })]}"#
        }
        var limits = UpcastingLimits()
        limits.documentBytesMax = 16 << 20
        return try Sample.set(#"{"upcasters":[\#(steps)]}"#, limits: limits)
    }

    // MARK: Definitions

    @Test func definitions() throws {
        var wide = UpcastingLimits()
        wide.documentBytesMax = 64 << 20
        let remove = #"{"remove":{"path":"/a"}}"#

        let large = document(repeated(400_000, remove))
        #expect(large.utf8.count > 9 << 20)
        #expect(try refusal("a 10 MB definition", large).hasPrefix("the document: has"))
        let million = document(repeated(1_000_000, remove))
        #expect(try refusal("a million operations", million, limits: wide).contains("more than 100 operations"))
        let steps = repeated(50_000) { #"{"event":"E","from":\#($0 + 1),"operations":[\#(remove)]}"# }
        #expect(
            try refusal("50,000 steps", #"{"upcasters":[\#(steps)]}"#, limits: wide).contains("1000 steps"))
        let table = document(#"{"map":{"path":"/a","table":{\#(repeated(100_000) { "\"\($0)\":1" })}}}"#)
        #expect(try refusal("a table of 100,000 entries", table, limits: wide).contains("10000 entries"))
        let deep = document(
            #"{"set":{"path":"/a","value":\#(String(repeating: "[", count: 10_000))\#(String(repeating: "]", count: 10_000))}}"#
        )
        #expect(try refusal("10,000 levels", deep).contains("nested deeper than 512"))
        let deeper = document(
            #"{"set":{"path":"/a","value":\#(String(repeating: "[", count: 200))\#(String(repeating: "]", count: 200))}}"#
        )
        #expect(try refusal("200 levels", deeper).contains("206 levels deep, at most 128"))
        let pointer = document(#"{"remove":{"path":"\#(String(repeating: "/*", count: 500_000))"}}"#)
        #expect(try refusal("a pointer of a million bytes", pointer).contains("at most 1024 bytes"))
        let members = document(#"{\#(repeated(80_000) { "\"x\($0)\":1" })}"#)
        #expect(try refusal("80,000 unknown members", members).contains("has the unknown member"))
        let largest = try bounded("the largest set that fits") {
            try Sample.set(
                #"{"upcasters":[\#(repeated(1_000) { #"{"event":"E\#($0 / 100)","from":\#($0 % 100 + 1),"operations":[\#(repeated(30, remove))]}"# })]}"#
            )
        }
        #expect(largest.steps.count == 1_000)
    }

    // MARK: Payloads

    private func failure(
        _ name: String, _ set: UpcasterSet, _ payload: String, outputBytesMax: Int = 8 << 20,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> String {
        let payload = ByteBuffer(string: payload)
        var output = ByteBuffer()
        let outcome = try bounded(name, sourceLocation: sourceLocation) {
            set.upcast(
                event: try Sample.event("E"), schemaVersion: 1, contentType: Sample.json, payload: payload,
                outputBytesMax: outputBytesMax, to: &output)
        }
        #expect(output.readableBytes == 0 || outcome.isUpcast, sourceLocation: sourceLocation)
        switch outcome {
        case .failed(let failure): return failure.complaint
        case .unchanged: return "unchanged"
        case .upcast: return "upcast to \(output.readableBytes) bytes"
        }
    }

    @Test func payloads() throws {
        let remove = try Sample.step(#"{"remove":{"path":"/a"}}"#)
        let nested = String(repeating: "[", count: 10_000) + String(repeating: "]", count: 10_000)
        #expect(try failure("10,000 levels", remove, nested).contains("nested deeper than 512"))
        let each = try Sample.step(#"{"set":{"path":"/l/*/x","value":1}}"#)
        let million = #"{"l":[\#(repeated(1_000_000, "{}"))]}"#
        #expect(try failure("* over a million elements", each, million).contains("more than 200000 values"))
        let many = #"{"l":[\#(repeated(90_000, "{}"))]}"#
        #expect(try failure("* over 90,000 elements", each, many) == "upcast to 720007 bytes")
        let index = try Sample.step(#"{"remove":{"path":"/l/999999999"}}"#)
        #expect(try failure("an index far away", index, many).hasPrefix("upcast"))
        let stars = try Sample.step(#"{"move":{"from":"/*/*/*/*/*/*/*/*","to":"/x/*/*/*/*/*/*/*/*"}}"#)
        func tree(_ depth: Int) -> String { depth == 0 ? "1" : "[\(repeated(4) { _ in tree(depth - 1) })]" }
        #expect(try failure("eight stars", stars, #"{"x":0,"y":\#(tree(8))}"#).contains("leads through"))

        let duplicates = #"{"l":{\#(repeated(150_000, #""k":{}"#))}}"#
        #expect(try failure("150,000 members of one name", each, duplicates) == "upcast to 19 bytes")
        let escaped = #"{"l":{\#(repeated(150_000, #""\u006b":{}"#))}}"#
        #expect(try failure("150,000 escaped members", each, escaped) == "upcast to 24 bytes")

        let digits = String(repeating: "9", count: 4 << 20)
        let integer = try Sample.step(#"{"convert":{"path":"/a","to":"integer"}}"#)
        #expect(try failure("4 MiB of digits", integer, #"{"a":\#(digits)}"#).hasPrefix("upcast"))
        #expect(try failure("4 MiB of exponent", integer, #"{"a":1e\#(digits)}"#).contains("not a whole number"))
        #expect(
            try failure("4 MiB of zeros", integer, #"{"a":0.\#(String(repeating: "0", count: 4 << 20))}"#).hasPrefix(
                "upcast to 7"))
        let time = try Sample.step(#"{"convert":{"path":"/a","to":"rfc3339","from":"epoch-micros"}}"#)
        #expect(try failure("a time of 4 MiB", time, #"{"a":\#(digits)}"#).contains("not a time"))
        let split = try Sample.step(#"{"split":{"path":"/a","separator":",","to":"/a"}}"#)
        let commas = #"{"a":"\#(String(repeating: ",", count: 4 << 20))"}"#
        #expect(try failure("4 million parts", split, commas).contains("more than 200000 values"))
        let overlap = try Sample.step(
            #"{"split":{"path":"/a","separator":"\#(String(repeating: "a", count: 255))b","to":"/a"}}"#)
        #expect(
            try failure("a separator that nearly fits", overlap, #"{"a":"\#(String(repeating: "a", count: 4 << 20))"}"#)
                .contains("bytes of work"))
    }

    @Test func chainsThatBlowAPayloadUp() throws {
        let double = try long { #"{"copy":{"from":"","to":"/c\#($0)"}}"# }
        #expect(try failure("10,000 doublings of the whole", double, #"{"a":1}"#).contains("more than 200000 values"))
        let spread = try long { #"{"copy":{"from":"/a","to":"/c\#($0 % 50)","replace":true}}"# }
        let large = #"{"a":["\#(String(repeating: "x", count: 1 << 20))"]}"#
        #expect(try failure("10,000 copies of a MiB", spread, large).contains("more than 8388608 bytes"))
        let open = try long {
            #"{"copy":{"from":"/a","to":"/b"}},{"set":{"path":"/b/-","value":1}},{"remove":{"path":"/b"}}"#
                .split(separator: "},{").map(String.init)[$0 % 3].wrapped($0 % 3)
        }
        #expect(try failure("3,333 openings of a MiB", open, large).contains("bytes of work"))
        let join = try long {
            $0 % 2 == 0
                ? #"{"copy":{"from":"/a","to":"/b"}}"# : #"{"join":{"paths":["/a","/b"],"separator":"","into":"/a"}}"#
        }
        #expect(try failure("5,000 doublings of a string", join, #"{"a":"xx"}"#).contains("bytes of new text"))
        let wrap = try long { _ in #"{"wrap":{"path":"/a","in":"array"}}"# }
        #expect(try failure("10,000 wraps", wrap, #"{"a":1}"#).contains("nests deeper than 512"))
        let constant = String(repeating: "x", count: 500_000)
        let set = try Sample.step(#"{"set":{"path":"/l/*","value":"\#(constant)"}}"#)
        let many = #"{"l":[\#(repeated(100_000, "1"))]}"#
        #expect(try failure("a large constant 100,000 times", set, many).contains("more than 8388608 bytes"))
        let lookups = try long { #"{"default":{"path":"/m/x\#($0)","value":1}}"# }
        let members = #"{"m":{\#(repeated(150_000) { "\"k\($0)\":1" })}}"#
        #expect(try failure("10,000 looks at 150,000 members", lookups, members).contains("bytes of work"))
        let name = String(repeating: "n", count: 1_000)
        let long = try long { _ in #"{"remove":{"path":"/m/\#(name)x"}}"# }
        let names = #"{"m":{\#(repeated(7_000, "\"\(name)y\":1"))}}"#
        #expect(try failure("10,000 looks at long names", long, names).contains("bytes of work"))
        let pairs = try Sample.step(#"{"copy":{"from":"/m/*","to":"/n/*"}}"#)
        let keyed = #"{"m":{\#(repeated(60_000) { "\"k\($0)\":1" })}}"#
        #expect(try failure("60,000 members to another object", pairs, keyed).contains("bytes of work"))
        let rows = try Sample.step(#"{"copy":{"from":"/m/*/a","to":"/n/*/b"}}"#)
        let elements = repeated(30_000, #"{"a":1}"#)
        #expect(
            try failure("30,000 elements to another array", rows, #"{"m":[\#(elements)],"n":[\#(elements)]}"#)
                .hasPrefix("upcast"))
    }

    /// Values nested in values stay within what a JSON reader accepts.
    @Test func depthIsBoundedWhereverItComesFrom() throws {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        let set = try Sample.step(#"{"move":{"from":"/a","to":"/b/c/d"}}"#)
        #expect(try set.became(#"{"a":\#(nested(509))}"#) == .payload(#"{"b":{"c":{"d":\#(nested(509))}}}"#))
        #expect(
            try set.became(#"{"a":\#(nested(510))}"#) == .failed("the new payload is nested deeper than 512 levels"))
        let constant = try Sample.step(
            (0..<60).map { #"{"wrap":{"path":"\#(String(repeating: "/0", count: $0 % 30))","in":"array"}}"# }.joined(
                separator: ",")
                + #",{"set":{"path":"","value":\#(nested(100))}}"#)
        #expect(try constant.became("1") == .payload(nested(100)))
    }

    @Test func exactTextOfStrangeValuesSurvives() throws {
        let set = try Sample.step(#"{"rename":{"path":"/a","to":"b"}}"#)
        for value in [
            #""\ud800""#, #""\uDFFF\uD800x""#, "1e999999999", "-0", "-0.0E-0", String(repeating: "1", count: 100_000),
            #""\u0000""#, "\"\u{7F}\u{10FFFF}\"", #"{"":{"":null}}"#,
        ] {
            #expect(try set.became(#"{"a":\#(value),"c":\#(value)}"#) == .payload(#"{"b":\#(value),"c":\#(value)}"#))
        }
    }
}

extension UpcastOutcome {
    fileprivate var isUpcast: Bool {
        if case .upcast = self { true } else { false }
    }
}

extension String {
    /// Gives a part of a list of objects, cut at the brackets, its brackets back.
    fileprivate func wrapped(_ index: Int) -> String {
        (index > 0 ? "{" : "") + self + (index < 2 ? "}" : "")
    }
}
