extension Timestamp {
    /// The moment that a text in RFC 3339 names, to the microsecond (further digits are cut); nil where it is
    /// none. A leap second is the second that follows it.
    public init?(rfc3339 text: String) {
        var reader = RFC3339Reader(rest: text.utf8[...])
        guard let year = reader.number(digits: 4, in: 0...9999), reader.take("-"),
            let month = reader.number(digits: 2, in: 1...12), reader.take("-"),
            let day = reader.number(digits: 2, in: 1...Self.days(ofMonth: month, year: year)),
            reader.take("T") || reader.take("t"),
            let hour = reader.number(digits: 2, in: 0...23), reader.take(":"),
            let minute = reader.number(digits: 2, in: 0...59), reader.take(":"),
            let second = reader.number(digits: 2, in: 0...60),
            let microsecond = reader.fraction(), let offsetMinutes = reader.offset(), reader.rest.isEmpty
        else { return nil }
        let minutes = (Self.days(toYear: year, month: month) + day - 1) * 1_440 + hour * 60 + minute - offsetMinutes
        self.init(microseconds: (minutes * 60 + second) * 1_000_000 + microsecond)
    }

    private static func days(ofMonth month: Int64, year: Int64) -> Int64 {
        switch month {
        case 4, 6, 9, 11: 30
        case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
        default: 31
        }
    }

    /// Days from 1970 to the first of a month.
    private static func days(toYear year: Int64, month: Int64) -> Int64 {
        // The days of the years before, counted from the year 0, which is a leap year.
        let leaps = year == 0 ? 0 : (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400 + 1
        return (1..<month).reduce(year * 365 + leaps - 719_528) { $0 + days(ofMonth: $1, year: year) }
    }
}

/// Takes the parts of a text in RFC 3339 off its front.
private struct RFC3339Reader {
    var rest: Substring.UTF8View

    /// Takes a character, if it is there.
    mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard rest.first == UInt8(ascii: character) else { return false }
        rest.removeFirst()
        return true
    }

    mutating func digit() -> Int64? {
        guard let byte = rest.first, (0x30...0x39).contains(byte) else { return nil }
        rest.removeFirst()
        return Int64(byte - 0x30)
    }

    mutating func number(digits: Int, in range: ClosedRange<Int64>) -> Int64? {
        var number: Int64 = 0
        for _ in 0..<digits {
            guard let digit = digit() else { return nil }
            number = number * 10 + digit
        }
        return range.contains(number) ? number : nil
    }

    /// Microseconds; 0 where there is no fraction.
    mutating func fraction() -> Int64? {
        guard take(".") else { return 0 }
        guard let first = digit() else { return nil }
        var microseconds = first * 100_000
        var unit: Int64 = 10_000
        while let digit = digit() {
            microseconds += digit * unit
            unit /= 10
        }
        return microseconds
    }

    /// Minutes that the time of day is ahead of UTC.
    mutating func offset() -> Int64? {
        if take("Z") || take("z") { return 0 }
        let isAhead = take("+")
        guard isAhead || take("-"), let hours = number(digits: 2, in: 0...23), take(":"),
            let minutes = number(digits: 2, in: 0...59)
        else { return nil }
        return isAhead ? hours * 60 + minutes : -hours * 60 - minutes
    }
}
