import FoundationEssentials

extension Timestamp {
    /// The moment that a text in RFC 3339 names, to the microsecond (further digits are cut); nil where it is
    /// none.
    public init?(rfc3339 text: String) {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        var whole = text
        var micros: Int64 = 0
        if parts.count == 2 {
            let digits = parts[1].prefix { $0.isASCII && $0.isNumber }
            guard !digits.isEmpty, let value = Int64(digits.prefix(6)) else { return nil }
            micros = value
            for _ in digits.count..<max(6, digits.count) { micros *= 10 }
            whole = String(parts[0] + parts[1].dropFirst(digits.count))
        } else if parts.count != 1 {
            return nil
        }
        guard let date = try? Date(whole.uppercased(), strategy: .iso8601) else { return nil }
        self.init(microseconds: Int64(date.timeIntervalSince1970.rounded()) * 1_000_000 + micros)
    }
}
