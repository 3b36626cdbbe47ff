/// What can be told of text that stands in bytes without making a `String` of it.
public enum ByteText {
    private static let highBits: UInt64 = 0x8080_8080_8080_8080
    private static let lowBits: UInt64 = 0x0101_0101_0101_0101

    /// Whether every byte is ASCII and not a control character.
    @unsafe public static func isPrintableASCII(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var at = 0
        while at + 8 <= bytes.count {
            let word = unsafe bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self)
            // DEL is the one byte below 0x80 that has a high bit after 1 was added.
            let isDelete = (word & ~highBits) &+ lowBits
            guard (word | belowBlank(word) | isDelete) & highBits == 0 else { return false }
            at += 8
        }
        while at < bytes.count {
            guard unsafe (0x20..<0x7F).contains(bytes[at]) else { return false }
            at += 1
        }
        return true
    }

    /// Whether the bytes are UTF-8, well-formed by RFC 3629: no overlong form, no surrogate, at most U+10FFFF.
    @unsafe public static func isUTF8(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var at = 0
        while true {
            while at + 8 <= bytes.count,
                unsafe bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self) & highBits == 0
            {
                at += 8
            }
            guard at < bytes.count else { return true }
            let length = unsafe scalarBytes(bytes, at)
            guard length > 0 else { return false }
            at += length
        }
    }

    /// Length of the well-formed scalar that begins there; 0 if none does.
    @unsafe private static func scalarBytes(_ bytes: UnsafeRawBufferPointer, _ at: Int) -> Int {
        let lead = unsafe bytes[at]
        guard lead >= 0x80 else { return 1 }
        let (length, second): (Int, ClosedRange<UInt8>)
        switch lead {
        case 0xC2...0xDF: (length, second) = (2, 0x80...0xBF)
        case 0xE0: (length, second) = (3, 0xA0...0xBF)
        case 0xE1...0xEC, 0xEE...0xEF: (length, second) = (3, 0x80...0xBF)
        case 0xED: (length, second) = (3, 0x80...0x9F)
        case 0xF0: (length, second) = (4, 0x90...0xBF)
        case 0xF1...0xF3: (length, second) = (4, 0x80...0xBF)
        case 0xF4: (length, second) = (4, 0x80...0x8F)
        default: return 0
        }
        guard at + length <= bytes.count, unsafe second.contains(bytes[at + 1]) else { return 0 }
        for index in 2..<max(2, length) where unsafe bytes[at + index] & 0xC0 != 0x80 { return 0 }
        return length
    }

    /// How many bytes of a JSON string from there on, eight at a time, stand for themselves and are ASCII: neither a
    /// quote nor a backslash nor a control character.
    @unsafe static func plainBytes(_ bytes: UnsafeRawBufferPointer, from start: Int) -> Int {
        var at = start
        while at + 8 <= bytes.count {
            let word = unsafe UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
            // In each term a wrong bit stands above a right one only, so that the lowest bit is right.
            let special =
                (word | belowBlank(word) | zeros(word ^ 0x2222_2222_2222_2222)
                    | zeros(word ^ 0x5C5C_5C5C_5C5C_5C5C)) & highBits
            guard special == 0 else { return at - start + special.trailingZeroBitCount / 8 }
            at += 8
        }
        return at - start
    }

    /// The high bit of each byte below 0x20.
    private static func belowBlank(_ word: UInt64) -> UInt64 { (word &- 0x2020_2020_2020_2020) & ~word }

    /// The high bit of each byte that is 0.
    private static func zeros(_ word: UInt64) -> UInt64 { (word &- lowBits) & ~word }
}

extension String {
    /// The text of bytes; nil where they are not UTF-8. The bytes are not kept.
    ///
    /// The standard library's `init(validating:as:)` takes several times as long, as it is made for any encoding.
    @unsafe package init?(utf8 bytes: UnsafeRawBufferPointer) {
        let text = unsafe bytes.assumingMemoryBound(to: UInt8.self)
        do throws(UTF8.ValidationError) {
            self.init(copying: try UTF8Span(validating: unsafe text.span))
        } catch { return nil }
    }
}
