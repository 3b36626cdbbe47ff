/// A number by its text: nothing is rounded, however long it is.
struct DecimalText: Equatable {
    var isNegative: Bool
    /// Digits from 0 to 9, without zeros in front or at the end; none for zero.
    var digits: ArraySlice<UInt8>
    /// The power of ten by which the digits are multiplied.
    var exponent: Int

    /// The number that a JSON number's text names; nil where the bytes are none, or the exponent has more than 9
    /// digits.
    init?(_ text: [UInt8]) {
        guard Self.isNumber(text) else { return nil }
        isNegative = text.first == UInt8(ascii: "-")
        exponent = 0
        var digits: [UInt8] = []
        var isFraction = false
        for (index, byte) in text.enumerated() {
            switch byte {
            case 0x30...0x39:
                digits.append(byte - 0x30)
                if isFraction { exponent -= 1 }
            case UInt8(ascii: "."): isFraction = true
            case UInt8(ascii: "e"), UInt8(ascii: "E"):
                let written = text[(index + 1)...]
                let power = written.drop { $0 == UInt8(ascii: "+") || $0 == UInt8(ascii: "-") }.drop { $0 == 0x30 }
                guard power.count <= 9 else { return nil }
                let value = power.reduce(0) { $0 * 10 + Int($1 - 0x30) }
                exponent += written.first == UInt8(ascii: "-") ? -value : value
            default: break
            }
            if byte | 0x20 == UInt8(ascii: "e") { break }
        }
        self.digits = digits.drop { $0 == 0 }
        while self.digits.last == 0 {
            self.digits.removeLast()
            exponent += 1
        }
        if self.digits.isEmpty { exponent = 0 }
    }

    /// Whether the bytes are a number as RFC 8259 writes it.
    static func isNumber(_ text: [UInt8]) -> Bool {
        var rest = text[...]
        func digits(_ rest: inout ArraySlice<UInt8>) -> Int {
            let count = rest.prefix { (0x30...0x39).contains($0) }.count
            rest = rest.dropFirst(count)
            return count
        }
        if rest.first == UInt8(ascii: "-") { rest = rest.dropFirst() }
        let startsWithZero = rest.first == 0x30
        let whole = digits(&rest)
        guard whole > 0, !startsWithZero || whole == 1 else { return false }
        if rest.first == UInt8(ascii: ".") {
            rest = rest.dropFirst()
            guard digits(&rest) > 0 else { return false }
        }
        if let mark = rest.first, mark | 0x20 == UInt8(ascii: "e") {
            rest = rest.dropFirst()
            if rest.first == UInt8(ascii: "+") || rest.first == UInt8(ascii: "-") { rest = rest.dropFirst() }
            guard digits(&rest) > 0 else { return false }
        }
        return rest.isEmpty
    }

    /// The number multiplied by a power of ten.
    func scaled(by power: Int) -> DecimalText {
        var scaled = self
        if !digits.isEmpty { scaled.exponent += power }
        return scaled
    }

    /// The text of the whole number; nil where there is a fraction, or where it would have more than so many digits.
    func integerText(digitsMax: Int) -> [UInt8]? {
        guard !digits.isEmpty else { return [0x30] }
        guard exponent >= 0, digits.count + exponent <= digitsMax else { return nil }
        return (isNegative ? [UInt8(ascii: "-")] : []) + digits.map { $0 + 0x30 }
            + [UInt8](repeating: 0x30, count: exponent)
    }

    /// The whole number; nil where there is a fraction, or where it would have more than so many digits, of which
    /// 38 can be held.
    func integer(digitsMax: Int) -> Int128? {
        guard exponent >= 0, digits.count + exponent <= min(digitsMax, 38) else { return nil }
        let magnitude = (0..<digits.count + exponent).reduce(Int128(0)) { value, place in
            value * 10 + Int128(place < digits.count ? digits[digits.startIndex + place] : 0)
        }
        return isNegative ? -magnitude : magnitude
    }
}
