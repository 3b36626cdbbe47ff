import FoundationEssentials
import MartletModel
import MartletTesting
import Testing

@Suite struct TimestampTests {
    @Test func isWrittenWithSixDigits() {
        let table: [(Int64, String)] = [
            (0, "1970-01-01T00:00:00.000000Z"),
            (1, "1970-01-01T00:00:00.000001Z"),
            (999_999, "1970-01-01T00:00:00.999999Z"),
            (1_000_000, "1970-01-01T00:00:01.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (-1_000_000, "1969-12-31T23:59:59.000000Z"),
            (-1_000_001, "1969-12-31T23:59:58.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_767_225_599_123_456, "2025-12-31T23:59:59.123456Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
            // The zero time of Go and .NET, and the days around the change of the calendar in 1582, which is none here.
            (-62_135_596_800_000_000, "0001-01-01T00:00:00.000000Z"),
            (-12_219_292_800_000_000, "1582-10-15T00:00:00.000000Z"),
            (-12_219_292_800_000_001, "1582-10-14T23:59:59.999999Z"),
            (-30_610_224_000_000_000, "1000-01-01T00:00:00.000000Z"),
        ]
        for (microseconds, text) in table {
            #expect(Timestamp(microseconds: microseconds).description == text)
            #expect(Timestamp(rfc3339: text)?.microseconds == microseconds, "\(text)")
        }
    }

    /// Stored events may name any moment, and an export of them must be importable.
    @Test func everyMomentReadsBack() {
        let table: [(Int64, String)] = [
            (253_402_300_800_000_000, "+010000-01-01T00:00:00.000000Z"),
            (-62_135_596_800_000_001, "0000-12-31T23:59:59.999999Z"),
            (-62_167_219_200_000_000, "0000-01-01T00:00:00.000000Z"),
            (-62_167_219_200_000_001, "-000001-12-31T23:59:59.999999Z"),
            (.max, "+294247-01-10T04:00:54.775807Z"), (.min, "-290308-12-21T19:59:05.224192Z"),
        ]
        for (microseconds, text) in table {
            #expect(Timestamp(microseconds: microseconds).description == text)
            #expect(Timestamp(text)?.microseconds == microseconds, "\(text)")
            #expect(Timestamp(rfc3339: text) == nil, "\(text) is outside of the range")
        }
        var random = SeededGenerator.fromEnvironment()
        let edges: [Int64] = [.min + 1, .min + 999_999, .max - 1]
        let some = (0..<2_000).map { _ in Int64.random(in: .min ... .max, using: &random) }
        for microseconds in edges + some {
            let moment = Timestamp(microseconds: microseconds)
            #expect(Timestamp(moment.description) == moment, "seed \(random.seed): \(moment)")
        }
        for text in [
            "+294247-01-10T04:00:54.775808Z", "-290308-12-21T19:59:05.224191Z", "+009999-01-01T00:00:00Z",
            "-000000-01-01T00:00:00Z", "+12026-01-01T00:00:00Z", "", "now",
        ] { #expect(Timestamp(text) == nil, "\(text)") }
    }

    @Test func readsWhatRFC3339Allows() {
        let noon: Int64 = 1_769_860_800_000_000
        let table: [(String, Int64)] = [
            ("2026-01-31T12:00:00Z", noon),
            ("2026-01-31t12:00:00z", noon),
            ("2026-01-31T12:00:00+00:00", noon),
            ("2026-01-31T12:00:00-00:00", noon),
            ("2026-01-31T14:00:00+02:00", noon),
            ("2026-01-31T06:30:00-05:30", noon),
            ("2026-01-31T12:00:00.5Z", noon + 500_000),
            ("2026-01-31T12:00:00.000001Z", noon + 1),
            ("2026-01-31T12:00:00.0000019Z", noon + 1),
            ("2026-01-31T12:00:00.123456789123456789Z", noon + 123_456),
            ("2026-01-31T14:00:00.25+02:00", noon + 250_000),
            ("1969-12-31T23:59:59.5Z", -500_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
            ("1970-01-01T00:59:59+01:00", -1_000_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000),
            ("2000-03-01T00:00:00Z", 951_868_800_000_000),
            ("1900-03-01T00:00:00Z", -2_203_891_200_000_000),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000_000),
            ("9999-12-31T00:00:59.9999999-23:59", 253_402_300_799_999_999),
        ]
        for (text, microseconds) in table { #expect(Timestamp(rfc3339: text)?.microseconds == microseconds, "\(text)") }
    }

    @Test(arguments: [
        "", "Z", "now", "2026", "2026-01-31", "2026-01-31T12:00Z", "2026-01-31T12:00:00", "12:00:00Z",
        "2026-13-01T12:00:00Z", "2026-00-01T12:00:00Z", "2026-01-32T12:00:00Z", "2026-02-30T12:00:00Z",
        "2025-02-29T12:00:00Z", "1900-02-29T12:00:00Z", "2026-04-31T12:00:00Z", "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z", "2026-01-31T12:00:61Z",
        "2026-01-31T12:00:00.Z", "2026-01-31T12:00:00.Z5", "2026-01-31T12:00:00.5.5Z", "2026-01-31T12:00:00.5",
        "2026-01-31T12:00:00Z.5", "2026-01.5-31T12:00:00Z", "2026-01-31T12:00.5:00Z", "2026.-01-31T12:00:00Z",
        "2026-01-31T12:00:00,5Z", "2026-01-31T12:00:00.-5Z", "2026-01-31T12:00:00.٥Z", "٢٠٢٦-01-31T12:00:00Z",
        "2026-01-31T12:00:00Zx", " 2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z ", "20260131T120000Z",
        "2026-1-31T12:00:00Z", "2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+01:60", "2026-01-31T12:00:00+",
        "2026-01-31 12:00:00Z", "2026-01-31T12:00:00+02", "2026-01-31T12:00:00+0200",
        "0000-12-31T23:59:59Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "9999-12-31T23:59:60Z",
        "2026-W05-6T12:00:00Z", "+2026-01-31T12:00:00Z", "-2026-01-31T12:00:00Z", "12026-01-31T12:00:00Z",
    ])
    func refusesWhatItDoesNot(_ text: String) { #expect(Timestamp(rfc3339: text) == nil) }

    @Test func whatIsWrittenReadsBack() {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<2_000 {
            let moment = Timestamp(
                microseconds: Int64.random(
                    in: Timestamp.earliest.microseconds...Timestamp.latest.microseconds, using: &random))
            let text = moment.description
            #expect(text.utf8.count == 27 && Timestamp(rfc3339: text) == moment, "seed \(random.seed): \(text)")
        }
    }

    @Test func momentsSortByTime() {
        let moments = [Int64.min, -1, 0, 1, .max].map { Timestamp(microseconds: $0) }
        #expect(moments.shuffled().sorted() == moments)
    }
}
