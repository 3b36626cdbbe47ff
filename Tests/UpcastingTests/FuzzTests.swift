import MartletModel
import MartletUpcasting
import NIOCore
import Testing

/// Mutated payloads and definitions: nothing traps, and what comes out is JSON.
@Suite("Fuzzing")
struct FuzzTests {
    #if DEBUG
        static let rounds = 20_000
    #else
        static let rounds = 300_000
    #endif

    static let pieces = [
        "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "\\ud800", "\\udc00", "\\u0061", "0", "-", "1e9", ".", "true",
        "null",
        " ", "\n", "\"a\":", "{\"a\":1}", "[[", "]]", "\u{0}", "é", "😀", "*", "/", "~0",
    ].map { Array($0.utf8) }

    private func mutated(_ bytes: [UInt8], _ random: inout Generator) -> [UInt8] {
        var bytes = bytes
        for _ in 0..<random.int(0...4) {
            let at = random.int(0...bytes.count)
            switch random.int(0...4) {
            case 0: bytes.insert(contentsOf: random.pick(Self.pieces), at: at)
            case 1: bytes.removeSubrange(at..<min(bytes.count, at + random.int(0...3)))
            case 2 where at < bytes.count: bytes[at] = UInt8(random.int(0...255))
            case 3 where at < bytes.count: bytes.insert(contentsOf: bytes[at..<min(bytes.count, at + 20)], at: at)
            default: bytes.removeLast(min(bytes.count, random.int(0...2)))
            }
        }
        return bytes
    }

    @Test func mutatedPayloads() throws {
        let seed = SplitMix.seed()
        print("fuzzing payloads: seed \(seed)")
        var random = Generator(random: SplitMix(state: seed))
        let type = try Sample.event("E")
        let snapshot = AggregateType("E")
        var (upcast, failed) = (0, 0)
        var sets: [UpcasterSet] = []
        for _ in 0..<200 {
            let operations = (0..<random.int(1...5)).map { _ in random.operation().json }.joined(separator: ",")
            sets.append(
                try Sample.set(
                    #"{"upcasters":[{"event":"E","from":1,"operations":[\#(operations)]},{"snapshot":"E","from":1,"operations":[\#(operations)]}]}"#
                ))
        }
        for _ in 0..<Self.rounds {
            let payload = mutated(Array(random.tree(3).text.utf8), &random)
            let set = random.pick(sets)
            var output = ByteBuffer()
            let bytesMax = random.chance(90) ? 1 << 20 : random.int(0...60)
            var work = 0
            let outcome = unsafe payload.withUnsafeBytes { bytes in
                unsafe set.upcast(
                    event: type, schemaVersion: 1, contentType: Sample.json, payload: bytes, outputBytesMax: bytesMax,
                    to: &output, work: &work)
            }
            #expect(work >= payload.count + output.readableBytes, "seed \(seed): what was looked at is counted")
            var again = ByteBuffer()
            _ = set.upcast(
                snapshot: snapshot, schemaVersion: 1, contentType: Sample.json, payload: ByteBuffer(bytes: payload),
                outputBytesMax: bytesMax, to: &again)
            #expect(output == again, "seed \(seed)")
            switch outcome {
            case .upcast:
                upcast += 1
                #expect(output.readableBytes <= bytesMax, "seed \(seed)")
                unsafe output.withUnsafeReadableBytes { bytes in
                    #expect(throws: Never.self, "seed \(seed): \(String(decoding: payload, as: UTF8.self))") {
                        try unsafe JSONText.check(bytes)
                    }
                }
            case .failed: failed += 1
            case .unchanged: Issue.record("seed \(seed): a step was passed over")
            }
        }
        print("fuzzing payloads: \(upcast) upcast, \(failed) failed")
        #expect(upcast > Self.rounds / 20)
    }

    @Test func mutatedDefinitions() throws {
        let seed = SplitMix.seed()
        print("fuzzing definitions: seed \(seed)")
        var random = Generator(random: SplitMix(state: seed))
        var accepted = 0
        for _ in 0..<Self.rounds / 4 {
            let operations = (0..<random.int(1...3)).map { _ in random.operation().json }.joined(separator: ",")
            let document = mutated(
                Array(#"{"upcasters":[{"event":"E","from":1,"operations":[\#(operations),{"type":"F"}]}]}"#.utf8),
                &random)
            do {
                let set = try UpcasterSet(definition: ByteBuffer(bytes: document))
                accepted += 1
                let canonical = set.definition()
                #expect(try UpcasterSet(definition: canonical).definition() == canonical, "seed \(seed)")
                _ = try set.upcast(random.tree(2).text)
            } catch let error as MartletError {
                #expect(error.reason == .invalidUpcaster, "seed \(seed)")
            }
        }
        print("fuzzing definitions: \(accepted) accepted")
        #expect(accepted > 0)
    }
}
