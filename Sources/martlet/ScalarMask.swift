/// Hides from a parser that compares text canonically what is canonically the same: each character beyond ASCII becomes
/// one or two of those for private use, which are equal to themselves only.
struct ScalarMask {
    private static let basicPlane: UInt32 = 0xF0000
    private static let upperBits: UInt32 = 0x10_0000
    private static let lowerBits: UInt32 = 0x10_1000

    private let isNeeded: Bool

    /// The mask for a text. One that is all ASCII needs none, and one that names characters for private use by escapes
    /// bears none.
    init(for text: String) {
        isNeeded =
            text.utf8.contains { $0 >= 0x80 } && text.firstMatch(of: /\\U00(?:0[fF]|10)/) == nil
    }

    func masked(_ text: String) -> String {
        guard isNeeded else { return text }
        var masked = String.UnicodeScalarView()
        for scalar in text.unicodeScalars {
            switch scalar.value {
            // What means something to a parser of YAML stays: ASCII, line breaks, the byte order mark, what it refuses.
            case 0..<0xA0, 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF: masked.append(scalar)
            case ..<0x1_0000: Self.append(Self.basicPlane + scalar.value, to: &masked)
            default:
                Self.append(Self.upperBits + scalar.value >> 12, to: &masked)
                Self.append(Self.lowerBits + scalar.value & 0xFFF, to: &masked)
            }
        }
        return String(masked)
    }

    func unmasked(_ text: String) -> String {
        guard isNeeded else { return text }
        var unmasked = String.UnicodeScalarView()
        var upper: UInt32 = 0
        for scalar in text.unicodeScalars {
            switch scalar.value {
            case Self.lowerBits..<Self.lowerBits + 0x1000:
                Self.append(upper << 12 | (scalar.value - Self.lowerBits), to: &unmasked)
            case Self.upperBits...: upper = scalar.value - Self.upperBits
            case Self.basicPlane...: Self.append(scalar.value - Self.basicPlane, to: &unmasked)
            default: unmasked.append(scalar)
            }
        }
        return String(unmasked)
    }

    private static func append(_ value: UInt32, to scalars: inout String.UnicodeScalarView) {
        if let scalar = Unicode.Scalar(value) { scalars.append(scalar) }
    }
}
