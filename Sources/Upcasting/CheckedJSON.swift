/// Finds its way in bytes that `JSONText.check` has accepted. On other bytes the answers are useless, but nothing
/// traps and every search ends.
@safe struct CheckedJSON {
    @unsafe private let bytes: UnsafeRawBufferPointer
    let count: Int

    /// The bytes must outlive the value.
    @unsafe init(_ bytes: UnsafeRawBufferPointer) {
        unsafe self.bytes = bytes
        count = bytes.count
    }

    /// The byte there; 0, which is grammatical nowhere, past the end.
    @inline(__always)
    func byte(_ at: Int) -> UInt8 { at < count ? unsafe bytes[at] : 0 }

    /// Where the blanks from there on end.
    @inline(__always)
    func afterBlanks(_ start: Int) -> Int {
        var at = start
        while true {
            switch byte(at) {
            case 0x20, 0x0A, 0x0D, 0x09: at += 1
            default: return at
            }
        }
    }

    /// Where the string that starts there with its quote ends, and whether it holds a backslash.
    @inline(__always)
    func endOfString(_ start: Int) -> (end: Int, isEscaped: Bool) {
        var at = start + 1
        var isEscaped = false
        while at < count {
            switch byte(at) {
            case UInt8(ascii: "\""): return (at + 1, isEscaped)
            case UInt8(ascii: "\\"):
                isEscaped = true
                at += 2
            default: at += 1
            }
        }
        return (count, isEscaped)
    }

    /// Where the value that starts there ends.
    func endOfValue(_ start: Int) -> Int {
        switch byte(start) {
        case UInt8(ascii: "\""): return endOfString(start).end
        case UInt8(ascii: "{"), UInt8(ascii: "["): return endOfContainer(start)
        default:
            var at = start
            while at < count {
                switch byte(at) {
                case UInt8(ascii: ","), UInt8(ascii: "]"), UInt8(ascii: "}"), 0x20, 0x0A, 0x0D, 0x09: return at
                default: at += 1
                }
            }
            return at
        }
    }

    private func endOfContainer(_ start: Int) -> Int {
        var at = start
        var depth = 0
        while at < count {
            switch byte(at) {
            case UInt8(ascii: "\""): at = endOfString(at).end
            case UInt8(ascii: "{"), UInt8(ascii: "["):
                depth += 1
                at += 1
            case UInt8(ascii: "}"), UInt8(ascii: "]"):
                depth -= 1
                at += 1
                if depth <= 0 { return at }
            default: at += 1
            }
        }
        return at
    }

    /// Calls `body` with every member of the object, or element of the array, that starts there: where its key
    /// stands (an empty range in an array), whether the key holds a backslash, and where its value stands.
    @inline(__always)
    func forEachChild<Failure>(
        _ start: Int, _ body: (_ key: Range<Int>, _ keyIsEscaped: Bool, _ value: Range<Int>) throws(Failure) -> Void
    ) throws(Failure) {
        let isObject = byte(start) == UInt8(ascii: "{")
        var at = afterBlanks(start + 1)
        while at < count {
            switch byte(at) {
            case UInt8(ascii: "}"), UInt8(ascii: "]"): return
            case UInt8(ascii: ","): at = afterBlanks(at + 1)
            default: break
            }
            var key = at..<at
            var isEscaped = false
            if isObject {
                let end: Int
                (end, isEscaped) = endOfString(at)
                key = at..<min(end, count)
                at = afterBlanks(afterBlanks(key.upperBound) + 1)
            }
            let end = max(endOfValue(at), min(at + 1, count))
            guard at < end else { return }
            try body(key, isEscaped, at..<end)
            at = afterBlanks(end)
        }
    }

    /// Appends the text of the string that stands there, its escapes resolved, without its quotes. A lone
    /// surrogate becomes the three bytes that UTF-8 would give it, which no well-formed text holds.
    /// - Returns: whether there was none.
    @discardableResult
    func decodeString(_ range: Range<Int>, into text: inout [UInt8]) -> Bool {
        var isWellFormed = true
        var at = range.lowerBound + 1
        let end = range.upperBound - 1
        while at < end {
            let byte = byte(at)
            if byte == UInt8(ascii: "\\") {
                let escape = escape(at, end: end)
                if (0xD800..<0xE000).contains(escape.scalar) { isWellFormed = false }
                Self.appendUTF8(escape.scalar, to: &text)
                at = escape.end
            } else {
                text.append(byte)
                at += 1
            }
        }
        return isWellFormed
    }

    /// What the escape that starts there with its backslash stands for, and where it ends. Two that make one
    /// character by surrogates are one.
    func escape(_ start: Int, end: Int) -> (scalar: UInt32, end: Int) {
        switch byte(start + 1) {
        case UInt8(ascii: "b"): return (0x08, start + 2)
        case UInt8(ascii: "f"): return (0x0C, start + 2)
        case UInt8(ascii: "n"): return (0x0A, start + 2)
        case UInt8(ascii: "r"): return (0x0D, start + 2)
        case UInt8(ascii: "t"): return (0x09, start + 2)
        case UInt8(ascii: "u"):
            let unit = hexadecimal(start + 2)
            let after = start + 6
            if (0xD800..<0xDC00).contains(unit), after + 6 <= end, byte(after) == UInt8(ascii: "\\"),
                byte(after + 1) == UInt8(ascii: "u")
            {
                let low = hexadecimal(after + 2)
                if (0xDC00..<0xE000).contains(low) {
                    return (0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00), after + 6)
                }
            }
            return (unit, after)
        case let plain: return (UInt32(plain), start + 2)
        }
    }

    private func hexadecimal(_ start: Int) -> UInt32 {
        var value: UInt32 = 0
        for at in start..<start + 4 {
            let byte = byte(at)
            let digit: UInt8 =
                switch byte {
                case UInt8(ascii: "0")...UInt8(ascii: "9"): byte &- 0x30
                case UInt8(ascii: "a")...UInt8(ascii: "f"): byte &- 0x57
                case UInt8(ascii: "A")...UInt8(ascii: "F"): byte &- 0x37
                default: 0
                }
            value = value << 4 | UInt32(digit)
        }
        return value
    }

    static func appendUTF8(_ scalar: UInt32, to text: inout [UInt8]) {
        func continuation(_ shift: UInt32) -> UInt8 { UInt8(0x80 | (scalar >> shift) & 0x3F) }
        switch scalar {
        case ..<0x80: text.append(UInt8(scalar))
        case ..<0x800: text += [UInt8(0xC0 | scalar >> 6), continuation(0)]
        case ..<0x10000: text += [UInt8(0xE0 | scalar >> 12), continuation(6), continuation(0)]
        default: text += [UInt8(0xF0 | (scalar >> 18) & 0x07), continuation(12), continuation(6), continuation(0)]
        }
    }

    /// The bytes there.
    func slice(_ range: Range<Int>) -> [UInt8] { unsafe Array(bytes[range]) }
}

/// Writing strings as JSON.
enum JSONString {
    /// The text in quotes, with the escapes that RFC 8259 demands and no others.
    static func quoted(_ text: some Collection<UInt8>) -> [UInt8] {
        var quoted: [UInt8] = []
        quoted.reserveCapacity(text.count + 2)
        quoted.append(UInt8(ascii: "\""))
        for byte in text {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): quoted += [UInt8(ascii: "\\"), byte]
            case 0x0A: quoted += Array("\\n".utf8)
            case 0x0D: quoted += Array("\\r".utf8)
            case 0x09: quoted += Array("\\t".utf8)
            case ..<0x20:
                let digits = Array("0123456789abcdef".utf8)
                quoted += Array("\\u00".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            default: quoted.append(byte)
            }
        }
        quoted.append(UInt8(ascii: "\""))
        return quoted
    }
}
