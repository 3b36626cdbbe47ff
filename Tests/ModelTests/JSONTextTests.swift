import MartletModel
import Testing

@Suite struct JSONTextTests {
    @Test func acceptsEveryText() {
        let texts = [
            "{}", "[]", "null", "true", "false", "0", "-0", "1", "-1", "10", "\"\"", "\"a\"",
            " {} ", "\t\n\r []\r\n\t", " 1 ", "[ ]", "{ }", "[\n]", "[1]", "[1,2]", "[ 1 , 2 ]", "[[]]", "[[],[]]",
            "[{}]",
            "{\"a\":1}", "{ \"a\" : 1 , \"b\" : [ ] }", "{\"\":null}", "{\"a\":1,\"a\":2}",
            "{\"a\":{\"b\":{\"c\":[{}]}}}",
            "0.0", "0.5", "-0.5", "1.25", "1e1", "1E1", "1e+1", "1e-1", "0e0", "0E+0", "-0e-0", "1.5e10", "1e01",
            "1e00",
            "1e999999", "-1e-999999", "123456789012345678901234567890", "0.1234567890123456789012345678901234567890",
            "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\u0000\"", "\"\\u00e9\\u00C9\"", "\"\\uABCD\\uabcd\"",
            "\"\\ud83d\\ude42\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\udc00\\ud800\"", "\"\\ud800x\"",
            "\"\u{7F}\"", "\"\u{80}\"", "\"é\"", "\"注文\"", "\"🙂\"", "\"\u{10FFFF}\"", "\"\u{FFFF}\"", "\"\u{FEFF}\"",
            "\"\u{2028}\u{2029}\"", "{\"é\":\"🙂\"}", "\"/\"", "\"'\"",
        ]
        for text in texts { #expect(JSON.fault(text) == nil, "\(text.debugDescription)") }
    }

    @Test func refusesAtTheByteThatIsWrong() {
        let table = [
            ("", 0), (" ", 1), ("\n\n", 2), ("\u{FEFF}{}", 0), ("\u{A0}1", 0), ("\u{0B}1", 0), ("\u{0C}1", 0),
            ("\0", 0),
            ("1\0", 1), ("nul", 3), ("nulL", 3), ("nullx", 4), ("True", 0), ("TRUE", 0), ("tru e", 3), ("undefined", 0),
            ("NaN", 0), ("Infinity", 0), ("-Infinity", 1), ("'a'", 0), ("a", 0), ("//\n1", 0), ("/**/1", 0),
            ("1 // x", 2),
            ("-", 1), ("--1", 1), ("+1", 0), ("00", 1), ("01", 1), ("-01", 2), ("1.", 2), (".5", 0), ("1.e1", 2),
            ("1e", 2), ("1e+", 3), ("1e1.5", 3), ("1e+-1", 3), ("0x10", 1), ("1_000", 1), ("1,000", 1), ("1 2", 2),
            ("{} {}", 3), ("[][]", 2), ("null,", 4), ("[]]", 2), ("{}}", 2), ("\"a\"b", 3),
            ("[", 1), ("[1", 2), ("[1,", 3), ("[,]", 1), ("[1,]", 3), ("[1,,2]", 3), ("[1 2]", 3), ("[1}", 2),
            ("[}", 1),
            ("]", 0), ("}", 0), (",", 0), (":", 0), ("[:]", 1), ("[\"a\":1]", 4),
            ("{", 1), ("{]", 1), ("{,}", 1), ("{\"a\"", 4), ("{\"a\":", 5), ("{\"a\":1", 6), ("{\"a\":1,", 7),
            ("{\"a\":1,}", 7), ("{\"a\"}", 4), ("{\"a\":}", 5), ("{\"a\",1}", 4), ("{\"a\" 1}", 5),
            ("{\"a\":1 \"b\":2}", 7),
            ("{a:1}", 1), ("{1:1}", 1), ("{null:1}", 1), ("{[]:1}", 1), ("{\"a\":1]", 6), ("{\"a\"::1}", 5),
            ("\"", 1), ("\"a", 2), ("\"\\\"", 3), ("\"\\", 2), ("\"\\a\"", 2), ("\"\\'\"", 2), ("\"\\0\"", 2),
            ("\"\\x41\"", 2), ("\"\\U0041\"", 2), ("\"\\u\"", 3), ("\"\\u004\"", 6), ("\"\\u00g0\"", 5),
            ("\"\\u+041\"", 3),
            ("\"\\u{41}\"", 3), ("\"\\u00", 5), ("\"\n\"", 1), ("\"\t\"", 1), ("\"a\u{1F}\"", 2), ("\"\0\"", 1),
            ("[\"a]", 4), ("\u{201C}a\u{201D}", 0), ("１", 0), ("[1，2]", 2),
        ]
        for (text, offset) in table {
            let fault = JSON.fault(text)
            #expect(fault?.offset == offset, "\(text.debugDescription)")
            let endsTooEarly = fault?.complaint == "the text ends too early"
            #expect(endsTooEarly == (offset == text.utf8.count), "\(text.debugDescription)")
        }
    }

    /// Strings are read eight bytes at a time: every byte at every place among them must be seen.
    @Test func everyByteOfALongStringIsSeen() {
        for length in 1...26 {
            for place in 0..<length {
                for byte in UInt8.min ... .max {
                    var text = [UInt8](repeating: UInt8(ascii: "x"), count: length + 2)
                    (text[0], text[length + 1]) = (UInt8(ascii: "\""), UInt8(ascii: "\""))
                    text[place + 1] = byte
                    let offset: Int? =
                        switch byte {
                        case 0x00..<0x20: place + 1
                        // The string ends before its end, or its end is escaped.
                        case UInt8(ascii: "\""): place + 2
                        case UInt8(ascii: "\\"): place + 1 == length ? length + 2 : place + 2
                        case 0x20..<0x80: nil
                        case 0xC2...0xF4: place + 2
                        default: place + 1
                        }
                    #expect(JSON.fault(text)?.offset == offset, "\(byte) at \(place) of \(length)")
                }
            }
        }
    }

    @Test func saysWhatIsWrong() {
        let table = [
            ("[1,]", "expected a value"), ("[1 2]", "expected , or ]"), ("{\"a\":1 2}", "expected , or }"),
            ("{a:1}", "expected a key in quotes"), ("{\"a\" 1}", "expected :"), ("trux", "expected true"),
            ("1.x", "expected a digit"), ("1 x", "unexpected bytes after the value"), ("\"\\x\"", "unknown escape"),
            ("\"\\u00x0\"", "expected four hexadecimal digits"), ("\"\t\"", "control character inside a string"),
        ]
        for (text, complaint) in table { #expect(JSON.fault(text)?.complaint == complaint, "\(text)") }
    }

    /// All sequences of two bytes, and all that begin with each lead byte and have one byte changed, against Swift's
    /// own notion of UTF-8.
    @Test func stringsAreUTF8() {
        func compare(_ bytes: [UInt8]) {
            let isUTF8 = String(validating: bytes, as: UTF8.self) != nil
            #expect((JSON.fault([0x22] + bytes + [0x22]) == nil) == isUTF8, "\(bytes)")
        }
        for first in UInt8(0x80)...0xFF {
            compare([first])
            for second in UInt8(0x80)...0xFF { compare([first, second]) }
            for second: UInt8 in [0x7E, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0] {
                for third: UInt8 in [0x7E, 0x80, 0xBF, 0xC0] {
                    compare([first, second, third])
                    for fourth: UInt8 in [0x7E, 0x80, 0xBF, 0xC0] { compare([first, second, third, fourth]) }
                }
            }
        }
        #expect(JSON.fault([0x22, 0xC3])?.complaint == "the text ends too early")
        #expect(JSON.fault([0x22, 0xC3, 0x22])?.complaint == "not UTF-8")
        #expect(JSON.fault([0x22, 0xED, 0xA0, 0x80, 0x22])?.offset == 2, "a surrogate in UTF-8")
        #expect(JSON.fault([0x22, 0xC0, 0x80, 0x22])?.offset == 1, "an overlong NUL")
    }

    @Test func otherEncodingsAreRefused() {
        #expect(JSON.fault([0xFF, 0xFE, 0x7B, 0, 0x7D, 0])?.offset == 0)
        #expect(JSON.fault([0xFE, 0xFF, 0, 0x7B, 0, 0x7D])?.offset == 0)
        #expect(JSON.fault([0x7B, 0, 0x7D, 0])?.offset == 1)
        #expect(JSON.fault([0, 0x7B, 0, 0x7D])?.offset == 0)
        #expect(JSON.fault([0xEF, 0xBB, 0xBF, 0x7B, 0x7D])?.offset == 0)
    }

    @Test func nestingIsBounded() {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        #expect(JSON.fault(nested(512)) == nil)
        let tooDeep = JSON.fault(nested(513))
        #expect(tooDeep?.offset == 512 && tooDeep?.complaint == "nested deeper than 512 levels")
        #expect(JSON.fault("[" + nested(511) + "," + nested(511) + "]") == nil, "depth is not breadth")
        #expect(JSON.fault("[" + nested(511) + "," + nested(512) + "]")?.offset == 1 + 1_022 + 1 + 511)
        let objects = String(repeating: "{\"a\":", count: 512) + "1" + String(repeating: "}", count: 512)
        #expect(JSON.fault(objects) == nil)
        #expect(JSON.fault("[" + objects + "]") != nil)
        #expect(JSON.fault(String(repeating: "[", count: 1_000_000))?.offset == 512)
        #expect(JSON.fault(String(repeating: "[{\"a\":", count: 200_000))?.offset == 6 * 256)
    }

    @Test func largeTextsAreReadInOnePass() {
        let digits = String(repeating: "7", count: 1 << 20)
        for text in [
            digits, "0.\(digits)", "1e\(digits)", "\"\(digits)\"", "[" + String(repeating: "1,", count: 1 << 18) + "1]",
        ] {
            #expect(JSON.fault(text) == nil)
            #expect(JSON.fault(text + "x")?.offset == text.utf8.count)
        }
    }

    @Test func membersStandWhereTheySay() throws {
        let text = #" { "a" : 1 ,"b\"}": {"c":[1,{"d":2}]} , "é":"x,y", "":null , "a" :-0.5e1}  "#
        let bytes = Array(text.utf8)
        let found = try JSON.members(bytes).map { member in
            [member.key, member.value].map { String(decoding: bytes[$0], as: UTF8.self) }
        }
        #expect(
            found == [
                ["\"a\"", "1"], [#""b\"}""#, #"{"c":[1,{"d":2}]}"#], ["\"é\"", "\"x,y\""], ["\"\"", "null"],
                ["\"a\"", "-0.5e1"],
            ])
        for empty in ["{}", " { } "] { #expect(try JSON.members(Array(empty.utf8)).isEmpty) }
    }

    @Test func onlyAnObjectHasMembers() {
        for text in ["[]", "1", " \"{}\"", "null"] {
            let fault = #expect(throws: JSONText.Fault.self) { try JSON.members(Array(text.utf8)) }
            #expect(fault?.complaint == "expected an object")
        }
        for text in ["", "{", "{\"a\":}", "{} x"] {
            let fault = #expect(throws: JSONText.Fault.self) { try JSON.members(Array(text.utf8)) }
            #expect(fault == JSON.fault(text))
        }
    }

    @Test func mediaTypesOfJSON() {
        let json = [
            "application/json", "APPLICATION/JSON", "Application/Json", "application/json;charset=utf-8",
            "application/json ; charset=utf-8", "application/json\t;x", "application/vnd.order+json", "a/b+JSON;v=1",
            "application/json ",
            // A mark that is one character with the byte before or after it.
            "application/json;\u{301}", "a/\u{603}+json",
        ]
        for type in json { #expect(JSONText.isJSON(contentType: type), "\(type)") }
        let other = [
            "", "text/plain", "application/jsonx", "application/json-seq", "xapplication/json", "application/x-json",
            "text/plain;application/json", "text/plain;a=b+json", "application/json+xml", "json", "+jsonl",
        ]
        for type in other { #expect(!JSONText.isJSON(contentType: type), "\(type)") }
    }
}

/// The checker, as a test wants it.
enum JSON {
    static func fault(_ text: String) -> JSONText.Fault? { fault(Array(text.utf8)) }

    static func fault(_ bytes: [UInt8]) -> JSONText.Fault? {
        unsafe bytes.withUnsafeBytes { raw in
            do throws(JSONText.Fault) {
                try unsafe JSONText.check(raw)
                return nil
            } catch { return error }
        }
    }

    static func members(_ bytes: [UInt8]) throws -> [(key: Range<Int>, value: Range<Int>)] {
        try unsafe bytes.withUnsafeBytes { try unsafe JSONText.members($0) }
    }
}
