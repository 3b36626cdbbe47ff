import Foundation
import MartletModel
import MartletTesting
import Testing

/// Random texts, compared with two other readers: one written from the grammar, and Foundation's.
@Suite struct JSONFuzzTests {
    @Test func agreesWithTheGrammar() {
        var random = SeededGenerator.fromEnvironment()
        var valid = 0
        for _ in 0..<20_000 {
            let bytes = Self.text(using: &random)
            let isValid = Grammar.accepts(bytes)
            valid += isValid ? 1 : 0
            let fault = JSON.fault(bytes)
            #expect((fault == nil) == isValid, "seed \(random.seed): \(bytes)")
            if let fault {
                #expect((0...bytes.count).contains(fault.offset), "seed \(random.seed): \(bytes)")
                // What stands before the fault can be the beginning of a text; with the offending byte it cannot.
                let before = JSON.fault(Array(bytes[..<fault.offset]))
                #expect(before == nil || before?.offset == fault.offset, "seed \(random.seed): \(bytes)")
            } else {
                _ = try? JSON.members(bytes)
            }
        }
        #expect((2_000...18_000).contains(valid), "seed \(random.seed): \(valid) valid texts say little")
    }

    @Test func agreesWithFoundation() {
        var random = SeededGenerator.fromEnvironment()
        var compared = 0
        for _ in 0..<10_000 {
            let bytes = Self.text(using: &random)
            guard Self.foundationIsStrict(on: bytes) else { continue }
            compared += 1
            let parsed = try? JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)
            #expect(
                (JSON.fault(bytes) == nil) == (parsed != nil),
                "seed \(random.seed): \(String(decoding: bytes, as: UTF8.self))")
        }
        #expect(compared > 2_000, "seed \(random.seed): \(compared) comparisons say little")
    }

    @Test func randomBytesNeverTrap() {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<20_000 {
            let count = Int.random(in: 0...24, using: &random)
            let bytes = (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) }
            #expect((JSON.fault(bytes) == nil) == Grammar.accepts(bytes), "seed \(random.seed): \(bytes)")
        }
    }

    /// Foundation guesses encodings, refuses numbers that it cannot hold and escaped surrogates without a pair, and
    /// lets a comma pass before a closing bracket: there it says nothing about the grammar.
    private static func foundationIsStrict(on bytes: [UInt8]) -> Bool {
        let isASCII = bytes.allSatisfy { $0 < 0x80 && $0 != 0 }
        let hasEscapes = zip(bytes, bytes.dropFirst()).contains { $0 == UInt8(ascii: "\\") && $1 == UInt8(ascii: "u") }
        let hasExponents = zip(bytes, bytes.dropFirst()).contains {
            (0x30...0x39).contains($0) && ($1 == UInt8(ascii: "e") || $1 == UInt8(ascii: "E"))
        }
        let withoutBlanks = bytes.filter { $0 > 0x20 }
        let hasTrailingComma = zip(withoutBlanks, withoutBlanks.dropFirst()).contains {
            $0 == UInt8(ascii: ",") && ($1 == UInt8(ascii: "}") || $1 == UInt8(ascii: "]"))
        }
        return isASCII && !hasEscapes && !hasExponents && !hasTrailingComma
    }

    /// A valid text with none to three damages.
    private static func text(using random: inout SeededGenerator) -> [UInt8] {
        var bytes = Array(value(depth: 0, using: &random).utf8)
        let pool = Array("{}[]\",:\\/ \t\n0123456789-+.eEtruefalsn\0\u{1F}é🙂".utf8) + [0xFF, 0xC0, 0xED, 0xBF, 0x80]
        for _ in 0..<Int.random(in: 0...3, using: &random) {
            let at = Int.random(in: 0...bytes.count, using: &random)
            let byte = pool[Int.random(in: 0..<pool.count, using: &random)]
            switch Int.random(in: 0..<5, using: &random) {
            case 0: bytes.insert(byte, at: at)
            case 1 where at < bytes.count: bytes.remove(at: at)
            case 2 where at < bytes.count: bytes[at] = byte
            case 3: bytes.removeLast(min(bytes.count, Int.random(in: 0...3, using: &random)))
            case 4 where at < bytes.count:
                bytes.swapAt(at, Int.random(in: 0..<bytes.count, using: &random))
            default: break
            }
        }
        return bytes
    }

    private static func value(depth: Int, using random: inout SeededGenerator) -> String {
        func blank() -> String { ["", "", "", " ", "\n", "\t "].randomElement(using: &random) ?? "" }
        let scalars = [
            "null", "true", "false", "0", "-1", "12.5", "1e3", "-0.0E-2", "123456789", "\"\"", "\"a\"",
            "\"\\n\\u00e9\"",
            "\"\\ud800\"", "\"é🙂\"", "\"{[,:]}\"",
        ]
        let count = Int.random(in: 0...3, using: &random)
        switch depth < 4 ? Int.random(in: 0..<4, using: &random) : 3 {
        case 0:
            let items = (0..<count).map { _ in blank() + value(depth: depth + 1, using: &random) + blank() }
            return "[" + items.joined(separator: ",") + "]"
        case 1:
            let items = (0..<count).map { key in
                blank() + "\"k\(key)\"" + blank() + ":" + blank() + value(depth: depth + 1, using: &random) + blank()
            }
            return "{" + items.joined(separator: ",") + "}"
        default: return scalars.randomElement(using: &random) ?? "0"
        }
    }
}

/// RFC 8259, rule by rule, over the scalars of a text: each function takes its rule off the front, or throws.
private struct Grammar {
    private struct No: Error {}
    private var rest: Substring.UnicodeScalarView

    static func accepts(_ bytes: [UInt8]) -> Bool {
        guard let text = String(validating: bytes, as: UTF8.self) else { return false }
        var grammar = Grammar(rest: text[...].unicodeScalars)
        return (try? grammar.text()) != nil
    }

    private mutating func take(_ allowed: String) throws {
        guard let first = rest.first, allowed.unicodeScalars.contains(first) else { throw No() }
        rest.removeFirst()
    }

    private mutating func skip(_ allowed: String) {
        while let first = rest.first, allowed.unicodeScalars.contains(first) { rest.removeFirst() }
    }

    private mutating func ws() { skip(" \t\n\r") }

    private mutating func text() throws {
        try value()
        guard rest.isEmpty else { throw No() }
    }

    private mutating func value() throws {
        ws()
        switch rest.first {
        case "{": try list("{", "}") { try $0.member() }
        case "[": try list("[", "]") { try $0.value() }
        case "\"": try string()
        case "t": for letter in ["t", "r", "u", "e"] { try take(letter) }
        case "f": for letter in ["f", "a", "l", "s", "e"] { try take(letter) }
        case "n": for letter in ["n", "u", "l", "l"] { try take(letter) }
        default: try number()
        }
        ws()
    }

    private mutating func list(_ open: String, _ close: String, _ item: (inout Grammar) throws -> Void) throws {
        try take(open)
        ws()
        if (try? take(close)) != nil { return }
        try item(&self)
        while (try? take(",")) != nil { try item(&self) }
        try take(close)
    }

    private mutating func member() throws {
        ws()
        try string()
        ws()
        try take(":")
        try value()
    }

    private mutating func number() throws {
        try? take("-")
        if (try? take("0")) == nil {
            try take("123456789")
            skip("0123456789")
        }
        if (try? take(".")) != nil {
            try take("0123456789")
            skip("0123456789")
        }
        if (try? take("eE")) != nil {
            try? take("+-")
            try take("0123456789")
            skip("0123456789")
        }
    }

    private mutating func string() throws {
        try take("\"")
        while let scalar = rest.popFirst() {
            switch scalar {
            case "\"": return
            case "\\":
                if (try? take("u")) != nil {
                    for _ in 0..<4 { try take("0123456789abcdefABCDEF") }
                } else {
                    try take("\"\\/bfnrt")
                }
            default: guard scalar.value >= 0x20 else { throw No() }
            }
        }
        throw No()
    }
}
