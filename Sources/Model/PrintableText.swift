/// Text that somebody else has chosen, as it may stand in a log line or on a terminal.
public enum PrintableText {
    /// The text with what a terminal obeys, or what makes a reader see another text, written as `\u` and four digits (two
    /// such for what is beyond U+FFFF): control characters, line ends, marks of writing direction, invisible tags.
    ///
    /// - Parameter bytesMax: UTF-8 bytes to keep at most; `…` stands for what was cut off, on top of them.
    public static func escape(_ text: String, bytesMax: Int = 1_024) -> String {
        var utf8 = text.utf8.makeIterator()
        var isPlain = text.utf8.count <= bytesMax
        while isPlain, let byte = utf8.next() { isPlain = (0x20..<0x7F).contains(byte) }
        if isPlain { return text }
        var result: [UInt8] = []
        for scalar in text.unicodeScalars {
            let before = result.count
            append(scalar, to: &result)
            guard result.count <= bytesMax else {
                result.removeSubrange(before...)
                return String(decoding: result, as: UTF8.self) + "…"
            }
        }
        return String(decoding: result, as: UTF8.self)
    }

    /// The same for bytes that go to a terminal: line ends and tabs stay, a byte that is not UTF-8 becomes U+FFFD, and
    /// nothing is cut off. JSON text means the same afterwards, as far as it was UTF-8.
    public static func escape(lines bytes: [UInt8]) -> [UInt8] {
        guard !bytes.allSatisfy({ (0x20..<0x7F).contains($0) || $0 == 0x0A || $0 == 0x09 }) else { return bytes }
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count + 64)
        for scalar in String(decoding: bytes, as: UTF8.self).unicodeScalars {
            if scalar == "\n" || scalar == "\t" {
                result.append(UInt8(truncatingIfNeeded: scalar.value))
            } else {
                append(scalar, to: &result)
            }
        }
        return result
    }

    private static func append(_ scalar: Unicode.Scalar, to result: inout [UInt8]) {
        guard isDeceptive(scalar) else { return result.append(contentsOf: UTF8.encode(scalar) ?? .init()) }
        for unit in UTF16.encode(scalar) ?? .init() {
            result += Array("\\u".utf8)
            for shift in [12, 8, 4, 0] { result.append(hexDigits[Int(unit >> shift) & 0xF]) }
        }
    }

    private static let hexDigits = Array("0123456789abcdef".utf8)

    private static func isDeceptive(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x20..<0x7F: false
        // Controls, in the first and the second block.
        case 0..<0x20, 0x7F..<0xA0: true
        // Line and paragraph separators.
        case 0x2028, 0x2029: true
        // Writing direction: marks, embeddings, overrides, isolates.
        case 0x061C, 0x200E, 0x200F, 0x202A...0x202E, 0x2066...0x2069: true
        // Nothing to see: zero width space and no-break space, invisible operators, tags.
        case 0x200B, 0x2060...0x2064, 0x206A...0x206F, 0xFEFF, 0xFFF9...0xFFFB, 0xE0000...0xE007F: true
        default: false
        }
    }
}
