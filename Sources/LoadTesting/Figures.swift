/// Figures as a person reads them.
enum Figures {
    /// A whole number with its thousands apart: `1,234,567`.
    static func count(_ value: Double) -> String {
        let digits = Array(String(Int(value.isFinite ? min(max(0, value.rounded()), 1e18) : 0)))
        return String(
            digits.enumerated().flatMap { index, digit in
                index > 0 && (digits.count - index) % 3 == 0 ? [",", digit] : [digit]
            })
    }

    /// A rate per second: with a fraction if it is small.
    static func rate(_ value: Double) -> String { value < 100 ? threeDigits(value) : count(value) }

    /// A time with its unit: `850 µs`, `1.25 ms`, `3.1 s`.
    static func time(_ micros: UInt64) -> String { time(Double(micros)) }

    /// A time with its unit.
    static func time(_ micros: Double) -> String {
        if micros < 1_000 { return "\(plain(micros.rounded())) µs" }
        if micros < 1_000_000 { return "\(threeDigits(micros / 1_000)) ms" }
        return "\(threeDigits(micros / 1_000_000)) s"
    }

    /// Bytes with their unit: `12.3 MiB`.
    static func bytes(_ value: UInt64) -> String {
        if value < 1 << 20 { return "\(threeDigits(Double(value) / 1024)) KiB" }
        if value < 1 << 30 { return "\(threeDigits(Double(value) / Double(1 << 20))) MiB" }
        return "\(threeDigits(Double(value) / Double(1 << 30))) GiB"
    }

    /// A number without a fraction that says nothing.
    static func plain(_ value: Double) -> String {
        value == value.rounded() && abs(value) < 1e15 ? "\(Int(value))" : "\(rounded(value))"
    }

    /// A number with about three digits that count.
    static func threeDigits(_ value: Double) -> String {
        if value >= 100 { return "\(Int(value.rounded()))" }
        return plain(rounded(value, digits: value >= 10 ? 1 : 2))
    }
}
