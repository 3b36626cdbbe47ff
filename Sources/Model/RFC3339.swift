extension Timestamp {
    /// 0001-01-01T00:00:00Z, the earliest moment that a new event may have happened at.
    public static let earliest = Timestamp(microseconds: -62_135_596_800_000_000)
    /// 9999-12-31T23:59:59.999999Z, the latest moment that a new event may have happened at.
    public static let latest = Timestamp(microseconds: 253_402_300_799_999_999)

    /// The moment that a text in RFC 3339 names, to the microsecond (further digits are cut); nil if it is
    /// none, or is not from ``earliest`` to ``latest``. A leap second is the second that follows it.
    public init?(rfc3339 text: String) {
        var reader = TimeReader(rest: text.utf8[...])
        guard let year = reader.number(digits: 4, in: 1...9999), let moment = reader.moment(ofYear: year),
            moment >= .earliest, moment <= .latest
        else { return nil }
        self = moment
    }

    /// RFC 3339 in UTC with six digits of fraction, as in `2026-01-31T12:00:00.000000Z`. A moment outside of the years 0
    /// to 9999, which RFC 3339 cannot name, has a year of six digits with its sign: `+012026-01-31T12:00:00.000000Z`.
    public var description: String {
        let seconds = CivilCalendar.floor(Int(microseconds), 1_000_000)
        let days = CivilCalendar.floor(seconds, 86_400)
        let (year, month, day) = CivilCalendar.date(daysSince1970: days)
        let time = seconds - days * 86_400
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
        if (0...9999).contains(year) {
            append(year, digits: 4, "-")
        } else {
            text.append(UInt8(ascii: year < 0 ? "-" : "+"))
            append(abs(year), digits: 6, "-")
        }
        append(month, digits: 2, "-")
        append(day, digits: 2, "T")
        append(time / 3_600, digits: 2, ":")
        append(time / 60 % 60, digits: 2, ":")
        append(time % 60, digits: 2, ".")
        // The remainder may not be worked out as a difference: the product overflows at the very edge.
        let fraction = Int(microseconds % 1_000_000)
        append(fraction < 0 ? fraction + 1_000_000 : fraction, digits: 6, "Z")
        return String(decoding: text, as: UTF8.self)
    }
}

extension Timestamp: LosslessStringConvertible {
    /// The moment that ``description`` has written, be it outside of ``earliest`` to ``latest``, or that any other text
    /// of that form or in RFC 3339 names; nil if it is none.
    public init?(_ description: String) {
        var reader = TimeReader(rest: description.utf8[...])
        let isBefore = reader.take("-")
        if isBefore || reader.take("+") {
            guard let year = reader.number(digits: 6, in: 0...300_000), isBefore ? year > 0 : year > 9999,
                let moment = reader.moment(ofYear: isBefore ? -year : year)
            else { return nil }
            self = moment
        } else {
            guard let year = reader.number(digits: 4, in: 0...9999), let moment = reader.moment(ofYear: year) else {
                return nil
            }
            self = moment
        }
    }
}

/// Takes the parts of a time off the front of its text.
private struct TimeReader {
    var rest: Substring.UTF8View

    /// Takes all that follows a year; nil if that is not a time, or not one that microseconds can hold.
    mutating func moment(ofYear year: Int) -> Timestamp? {
        guard take("-"), let month = number(digits: 2, in: 1...12), take("-"),
            let day = number(digits: 2, in: 1...CivilCalendar.days(inMonth: month, ofYear: year)),
            take("T") || take("t"), let hour = number(digits: 2, in: 0...23), take(":"),
            let minute = number(digits: 2, in: 0...59), take(":"), let second = number(digits: 2, in: 0...60),
            let microsecond = fraction(), let offsetMinutes = offset(), rest.isEmpty
        else { return nil }
        let days = CivilCalendar.daysSince1970(year: year, month: month, day: day)
        let seconds = ((days * 1_440 + hour * 60 + minute - offsetMinutes) * 60) + second
        // At the early edge the second itself may not fit, while its last microseconds do.
        let total = Int128(seconds) * 1_000_000 + Int128(microsecond)
        return Int64(exactly: total).map { Timestamp(microseconds: $0) }
    }

    /// Takes a character, if it is there.
    mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard rest.first == UInt8(ascii: character) else { return false }
        rest.removeFirst()
        return true
    }

    mutating func digit() -> Int? {
        guard let byte = rest.first, (0x30...0x39).contains(byte) else { return nil }
        rest.removeFirst()
        return Int(byte - 0x30)
    }

    mutating func number(digits: Int, in range: ClosedRange<Int>) -> Int? {
        var number = 0
        for _ in 0..<digits {
            guard let digit = digit() else { return nil }
            number = number * 10 + digit
        }
        return range.contains(number) ? number : nil
    }

    /// Microseconds; 0 if there is no fraction.
    mutating func fraction() -> Int? {
        guard take(".") else { return 0 }
        guard let first = digit() else { return nil }
        var microseconds = first * 100_000
        var unit = 10_000
        while let digit = digit() {
            microseconds += digit * unit
            unit /= 10
        }
        return microseconds
    }

    /// Minutes that the time of day is ahead of UTC.
    mutating func offset() -> Int? {
        if take("Z") || take("z") { return 0 }
        let isAhead = take("+")
        guard isAhead || take("-"), let hours = number(digits: 2, in: 0...23), take(":"),
            let minutes = number(digits: 2, in: 0...59)
        else { return nil }
        return isAhead ? hours * 60 + minutes : -hours * 60 - minutes
    }
}
