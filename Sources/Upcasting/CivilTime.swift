import MartletModel

/// A moment to the nanosecond, and its text in RFC 3339; years 0000 to 9999, without leap seconds.
struct CivilTime: Equatable {
    /// Since 1970 UTC; the fraction counts up from here.
    var seconds: Int
    /// From 0 to 999,999,999.
    var nanoseconds: Int

    static let secondsMin = CivilCalendar.daysSince1970(year: 0, month: 1, day: 1) * 86_400
    static let secondsMax = CivilCalendar.daysSince1970(year: 10_000, month: 1, day: 1) * 86_400 - 1

    /// The moment of that many nanoseconds since 1970; nil outside of the years 0000 to 9999.
    init?(nanosecondsSince1970 total: Int128) {
        let billion: Int128 = 1_000_000_000
        var (quotient, remainder) = total.quotientAndRemainder(dividingBy: billion)
        if remainder < 0 {
            quotient -= 1
            remainder += billion
        }
        guard quotient >= Int128(Self.secondsMin), quotient <= Int128(Self.secondsMax) else { return nil }
        seconds = Int(quotient)
        nanoseconds = Int(remainder)
    }

    /// The moment that the text names; nil where it is none, is a leap second, or is finer than nanoseconds.
    init?(rfc3339 text: [UInt8]) {
        guard text.count >= 20 else { return nil }
        func number(_ start: Int, _ count: Int) -> Int? {
            var value = 0
            for byte in text[start..<start + count] {
                guard (0x30...0x39).contains(byte) else { return nil }
                value = value * 10 + Int(byte - 0x30)
            }
            return value
        }
        guard let year = number(0, 4), let month = number(5, 2), let day = number(8, 2), let hour = number(11, 2),
            let minute = number(14, 2), let second = number(17, 2), text[4] == UInt8(ascii: "-"),
            text[7] == UInt8(ascii: "-"), text[10] | 0x20 == UInt8(ascii: "t"), text[13] == UInt8(ascii: ":"),
            text[16] == UInt8(ascii: ":"), (1...12).contains(month), day >= 1,
            day <= CivilCalendar.days(inMonth: month, ofYear: year), hour < 24, minute < 60, second < 60
        else { return nil }

        var at = 19
        var fraction = 0
        if text[at] == UInt8(ascii: ".") {
            let digits = text[20...].prefix { (0x30...0x39).contains($0) }
            guard !digits.isEmpty, digits.dropFirst(9).allSatisfy({ $0 == 0x30 }) else { return nil }
            for place in 0..<9 {
                fraction = fraction * 10 + (place < digits.count ? Int(digits[20 + place] - 0x30) : 0)
            }
            at = digits.endIndex
        }
        var offset = 0
        switch at < text.count ? text[at] : 0 {
        case UInt8(ascii: "Z"), UInt8(ascii: "z"):
            guard text.count == at + 1 else { return nil }
        case UInt8(ascii: "+"), UInt8(ascii: "-"):
            guard text.count == at + 6, text[at + 3] == UInt8(ascii: ":"), let hours = number(at + 1, 2),
                let minutes = number(at + 4, 2), hours < 24, minutes < 60
            else { return nil }
            offset = (hours * 60 + minutes) * 60
            if text[at] == UInt8(ascii: "-") { offset = -offset }
        default: return nil
        }
        let days = CivilCalendar.daysSince1970(year: year, month: month, day: day)
        seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset
        nanoseconds = fraction
        guard (Self.secondsMin...Self.secondsMax).contains(seconds) else { return nil }
    }

    /// The text, in UTC, with 0, 3, 6 or 9 digits of fraction: as few as hold it.
    var rfc3339: [UInt8] {
        let (days, time) = (
            CivilCalendar.floor(seconds, 86_400), seconds - CivilCalendar.floor(seconds, 86_400) * 86_400
        )
        let (year, month, day) = CivilCalendar.date(daysSince1970: days)
        var text: [UInt8] = []
        text.reserveCapacity(30)
        func append(_ number: Int, digits: Int, _ mark: Unicode.Scalar) {
            text.append(contentsOf: repeatElement(0x30, count: digits))
            var rest = number
            for place in 1...digits {
                text[text.count - place] = UInt8(0x30 + rest % 10)
                rest /= 10
            }
            text.append(UInt8(ascii: mark))
        }
        append(year, digits: 4, "-")
        append(month, digits: 2, "-")
        append(day, digits: 2, "T")
        append(time / 3_600, digits: 2, ":")
        append(time / 60 % 60, digits: 2, ":")
        append(time % 60, digits: 2, nanoseconds == 0 ? "Z" : ".")
        if nanoseconds % 1_000 != 0 {
            append(nanoseconds, digits: 9, "Z")
        } else if nanoseconds % 1_000_000 != 0 {
            append(nanoseconds / 1_000, digits: 6, "Z")
        } else if nanoseconds != 0 {
            append(nanoseconds / 1_000_000, digits: 3, "Z")
        }
        return text
    }

    /// The moment as a whole number of units of a second, each of that many decimal digits (at most 9); nil where it
    /// is none.
    func epoch(digits: Int) -> Int? {
        var unit = 1_000_000_000
        var perSecond = 1
        for _ in 0..<digits {
            unit /= 10
            perSecond *= 10
        }
        guard nanoseconds % unit == 0 else { return nil }
        return seconds * perSecond + nanoseconds / unit
    }
}
