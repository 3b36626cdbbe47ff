/// The code of a Swift file, without its comments and without the text of its string literals.
///
/// Lines stay where they are. What is interpolated into a literal is code and stays. Regular expressions are not
/// understood: after one with quotes in it, the rest of its line may be taken for text.
struct SwiftCode {
    private let source: [UInt8]
    private var at = 0
    private var code: [UInt8] = []

    static func strip(_ text: String) -> String {
        var scanner = SwiftCode(source: Array(text.utf8))
        scanner.read(untilParenthesisCloses: false)
        return String(decoding: scanner.code, as: UTF8.self)
    }

    private init(source: [UInt8]) { self.source = source }

    private func sees(_ first: Unicode.Scalar, _ second: Unicode.Scalar) -> Bool {
        at + 1 < source.count && source[at] == UInt8(ascii: first) && source[at + 1] == UInt8(ascii: second)
    }

    private var seesThreeQuotes: Bool { sees("\"", "\"") && source.dropFirst(at + 2).first == UInt8(ascii: "\"") }

    /// Leaves out bytes, but keeps line breaks.
    private mutating func skip(_ count: Int) {
        for byte in source[at..<min(at + count, source.count)] where byte == 0x0A { code.append(byte) }
        at += count
    }

    private mutating func read(untilParenthesisCloses: Bool) {
        var depth = 0
        while at < source.count {
            switch source[at] {
            case UInt8(ascii: "/") where sees("/", "/"):
                while at < source.count, source[at] != 0x0A { skip(1) }
                continue
            case UInt8(ascii: "/") where sees("/", "*"):
                skipComment()
                continue
            case UInt8(ascii: "\""):
                readLiteral(hashes: 0)
                continue
            case UInt8(ascii: "#"):
                let hashes = source[at...].prefix { $0 == UInt8(ascii: "#") }.count
                if source.dropFirst(at + hashes).first == UInt8(ascii: "\"") {
                    skip(hashes)
                    readLiteral(hashes: hashes)
                    continue
                }
            case UInt8(ascii: "("): depth += 1
            case UInt8(ascii: ")"):
                depth -= 1
                if untilParenthesisCloses, depth < 0 { return }
            default: break
            }
            code.append(source[at])
            at += 1
        }
    }

    private mutating func skipComment() {
        var depth = 0
        repeat {
            if sees("/", "*") {
                depth += 1
                skip(2)
            } else if sees("*", "/") {
                depth -= 1
                skip(2)
            } else {
                skip(1)
            }
        } while depth > 0 && at < source.count
    }

    /// Reads a literal from its quotes on.
    private mutating func readLiteral(hashes: Int) {
        let isLong = seesThreeQuotes
        let quotes = isLong ? 3 : 1
        skip(quotes)
        code += Array("\"\"".utf8)
        while at < source.count {
            if source[at] == UInt8(ascii: "\\"), escapes(hashes) {
                skip(1 + hashes)
                if at < source.count, source[at] == UInt8(ascii: "(") {
                    skip(1)
                    code.append(UInt8(ascii: " "))
                    read(untilParenthesisCloses: true)
                    code.append(UInt8(ascii: " "))
                }
                skip(1)
            } else if isLong ? seesThreeQuotes : source[at] == UInt8(ascii: "\""), closes(quotes, hashes) {
                return skip(quotes + hashes)
            } else if !isLong, source[at] == 0x0A {
                // No literal goes on here: these were the quotes of a regular expression.
                return
            } else {
                skip(1)
            }
        }
    }

    private func escapes(_ hashes: Int) -> Bool {
        source[(at + 1)...].prefix(hashes).allSatisfy { $0 == UInt8(ascii: "#") }
            && source.count > at + 1 + hashes
    }

    private func closes(_ quotes: Int, _ hashes: Int) -> Bool {
        let end = source.dropFirst(at + quotes).prefix(hashes)
        return end.count == hashes && end.allSatisfy { $0 == UInt8(ascii: "#") }
    }
}
