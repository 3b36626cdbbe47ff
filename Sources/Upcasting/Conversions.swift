// The operation convert.

extension UpcastMachine {
    /// The most digits of a whole number that is written out from a decimal one.
    private static let integerDigitsMax = 1_000

    /// Converts a value in its place. Null stays null; what has the form already stays as it is written.
    mutating func convert(_ node: NodeID, to form: ValueForm, from source: ValueForm?) throws(Complaint) {
        if isNull(node) { return }
        guard let text = try scalarText(node) else { throw Complaint("is an array or object, which has no text") }
        let lead = tree.lead(node)
        let isString = lead == UInt8(ascii: "\"")
        let isBoolean = lead == UInt8(ascii: "t") || lead == UInt8(ascii: "f")
        let new: [UInt8]
        switch form {
        case .string:
            if isString { return }
            new = [UInt8(ascii: "\"")] + text + [UInt8(ascii: "\"")]
        case .number:
            if !isString, !isBoolean { return }
            new = isBoolean ? [lead == UInt8(ascii: "t") ? 0x31 : 0x30] : text
            guard DecimalText.isNumber(new) else { throw Complaint("is a string that is not a number") }
        case .integer:
            if isBoolean {
                new = [lead == UInt8(ascii: "t") ? 0x31 : 0x30]
            } else if DecimalText.isNumber(text),
                text.allSatisfy({ $0 == UInt8(ascii: "-") || $0 >= 0x30 && $0 <= 0x39 })
            {
                if !isString { return }
                new = text
            } else {
                guard let integer = DecimalText(text)?.integerText(digitsMax: Self.integerDigitsMax) else {
                    throw Complaint("is not a whole number of at most \(Self.integerDigitsMax) digits")
                }
                new = integer
            }
        case .boolean:
            if isBoolean { return }
            switch String(decoding: text.prefix(6), as: UTF8.self) {
            case "true" where isString, "1" where !isString: new = Array("true".utf8)
            case "false" where isString, "0" where !isString: new = Array("false".utf8)
            default: throw Complaint("is not \"true\", \"false\", 1 or 0")
            }
        case .rfc3339, .epochSeconds, .epochMillis, .epochMicros:
            if isBoolean { throw Complaint("is a boolean, which is not a time") }
            new = try Self.convertTime(text, isString: isString, to: form, from: source ?? .rfc3339)
        }
        tree.setValue(node, try tree.make(new))
    }

    private static func convertTime(
        _ text: [UInt8], isString: Bool, to form: ValueForm, from source: ValueForm
    ) throws(Complaint) -> [UInt8] {
        let time: CivilTime
        if let digits = source.epochDigits {
            guard let number = DecimalText(text) else {
                throw Complaint("is not a number, which \(source.rawValue) requires")
            }
            guard let total = number.scaled(by: 9 - digits).integer(digitsMax: 21),
                let moment = CivilTime(nanosecondsSince1970: total)
            else { throw Complaint("is not a time from year 0000 to 9999, or is finer than nanoseconds") }
            time = moment
        } else {
            guard isString, let moment = CivilTime(rfc3339: text) else {
                throw Complaint("is not a time in RFC 3339, or is a leap second or finer than nanoseconds")
            }
            time = moment
        }
        guard let digits = form.epochDigits else { return [UInt8(ascii: "\"")] + time.rfc3339 + [UInt8(ascii: "\"")] }
        guard let count = time.epoch(digits: digits) else {
            throw Complaint("is not a whole number of \(form.rawValue): its fraction would be lost")
        }
        return Array(String(count).utf8)
    }
}
