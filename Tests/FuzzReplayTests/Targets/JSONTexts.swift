import Foundation
import MartletModel

/// Texts that may be JSON: the checker agrees with a reader written rule by rule, and with Foundation where that is
/// strict.
enum JSONTexts {
    static func run(_ bytes: [UInt8]) throws {
        let fault = unsafe bytes.withUnsafeBytes { bytes -> JSONText.Fault? in
            do throws(JSONText.Fault) {
                try unsafe JSONText.check(bytes)
                return nil
            } catch { return error }
        }
        try hold((fault == nil) == Rules.accept(bytes), "the checker says \(String(describing: fault))")
        if let fault { try hold((0...bytes.count).contains(fault.offset), "a fault at \(fault.offset)") }
        let isText = String(validating: bytes, as: UTF8.self) != nil
        try unsafe bytes.withUnsafeBytes { bytes in
            try hold(unsafe ByteText.isUTF8(bytes) == isText, "isUTF8 is not \(isText)")
            let isPrintable = unsafe bytes.allSatisfy { (0x20..<0x7F).contains($0) }
            try hold(unsafe ByteText.isPrintableASCII(bytes) == isPrintable, "isPrintableASCII is not \(isPrintable)")
            let members = try? unsafe JSONText.members(bytes)
            let first = unsafe bytes.first { $0 > 0x20 }
            let isObject = fault == nil && first == UInt8(ascii: "{")
            try hold((members != nil) == isObject, "members are \(String(describing: members))")
            for (key, value) in members ?? [] {
                let ends = unsafe (bytes[key.lowerBound], bytes[key.upperBound - 1])
                try hold(ends == (0x22, 0x22) && key.count >= 2, "the key at \(key)")
                let part = unsafe Array(bytes[value])
                try hold(Rules.accept(part), "the value at \(value) is no JSON")
            }
        }
        if fault == nil, Self.isPlain(bytes) {
            let parsed = try? JSONSerialization.jsonObject(with: Data(bytes), options: .fragmentsAllowed)
            try hold(parsed != nil, "Foundation refuses it")
        }
    }

    /// Foundation refuses numbers that it cannot hold and escaped surrogates without a pair.
    private static func isPlain(_ bytes: [UInt8]) -> Bool {
        var digits = 0
        for byte in bytes {
            if byte == UInt8(ascii: "\\") || byte == UInt8(ascii: "e") && digits > 0 || byte == UInt8(ascii: "E") {
                return false
            }
            digits = (0x30...0x39).contains(byte) || byte == UInt8(ascii: ".") ? digits + 1 : 0
            if digits > 15 { return false }
        }
        return true
    }

    /// RFC 8259, rule by rule.
    private struct Rules {
        private let text: [Unicode.Scalar]
        private var at = 0
        private var depth = 0

        static func accept(_ bytes: [UInt8]) -> Bool {
            guard let text = String(validating: bytes, as: UTF8.self) else { return false }
            var rules = Rules(text: Array(text.unicodeScalars))
            return rules.element() && rules.at == rules.text.count
        }

        private init(text: [Unicode.Scalar]) { self.text = text }

        private var next: Unicode.Scalar? { at < text.count ? text[at] : nil }

        private mutating func take(_ wanted: Unicode.Scalar) -> Bool {
            guard next == wanted else { return false }
            at += 1
            return true
        }

        private mutating func take(while holds: (Unicode.Scalar) -> Bool) -> Int {
            let start = at
            while let scalar = next, holds(scalar) { at += 1 }
            return at - start
        }

        private mutating func element() -> Bool {
            _ = take { " \t\r\n".unicodeScalars.contains($0) }
            guard value() else { return false }
            _ = take { " \t\r\n".unicodeScalars.contains($0) }
            return true
        }

        private mutating func value() -> Bool {
            switch next {
            case "{": return list("}") { $0.member() }
            case "[": return list("]") { $0.element() }
            case "\"": return string()
            case "t": return word("true")
            case "f": return word("false")
            case "n": return word("null")
            default: return number()
            }
        }

        private mutating func list(_ end: Unicode.Scalar, _ item: (inout Rules) -> Bool) -> Bool {
            at += 1
            depth += 1
            defer { depth -= 1 }
            guard depth <= JSONText.depthMax else { return false }
            let start = at
            _ = take { " \t\r\n".unicodeScalars.contains($0) }
            if take(end) { return true }
            at = start
            repeat { guard item(&self) else { return false } } while take(",")
            return take(end)
        }

        private mutating func member() -> Bool {
            _ = take { " \t\r\n".unicodeScalars.contains($0) }
            guard string() else { return false }
            _ = take { " \t\r\n".unicodeScalars.contains($0) }
            return take(":") && element()
        }

        private mutating func string() -> Bool {
            guard take("\"") else { return false }
            while let scalar = next {
                at += 1
                switch scalar {
                case "\"": return true
                case "\\":
                    guard let escape = next else { return false }
                    at += 1
                    if escape == "u" {
                        for _ in 0..<4 {
                            guard next.map({ $0.isASCII && $0.properties.isASCIIHexDigit }) == true else {
                                return false
                            }
                            at += 1
                        }
                    } else if !"\"\\/bfnrt".unicodeScalars.contains(escape) {
                        return false
                    }
                default: guard scalar.value >= 0x20 else { return false }
                }
            }
            return false
        }

        private mutating func word(_ word: String) -> Bool {
            for scalar in word.unicodeScalars where !take(scalar) { return false }
            return true
        }

        private mutating func number() -> Bool {
            func isDigit(_ scalar: Unicode.Scalar) -> Bool { ("0"..."9").contains(scalar) }
            _ = take("-")
            if !take("0") { guard take(while: isDigit) > 0 else { return false } }
            if take(".") { guard take(while: isDigit) > 0 else { return false } }
            if take("e") || take("E") {
                if !take("+") { _ = take("-") }
                return take(while: isDigit) > 0
            }
            return true
        }
    }
}
