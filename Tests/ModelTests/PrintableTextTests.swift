import MartletModel
import Testing

@Suite struct PrintableTextTests {
    @Test(arguments: [
        ("plain text, Grüße, 日本語, 👩‍👩‍👧", "plain text, Grüße, 日本語, 👩‍👩‍👧"),
        ("a\u{1B}[2Jb", "a\\u001b[2Jb"),
        ("line\r\nlevel=info forged", "line\\u000d\\u000alevel=info forged"),
        ("nul\0 tab\t del\u{7F} csi\u{9B}31m", "nul\\u0000 tab\\u0009 del\\u007f csi\\u009b31m"),
        ("abc\u{202E}fdp.exe", "abc\\u202efdp.exe"),
        ("\u{2066}x\u{2069}\u{200F}", "\\u2066x\\u2069\\u200f"),
        ("a\u{2028}b\u{FEFF}", "a\\u2028b\\ufeff"),
        ("tag\u{E0041}", "tag\\udb40\\udc41"),
    ])
    func whatATerminalObeysIsWrittenOut(text: String, expected: String) {
        #expect(Array(PrintableText.escape(text).utf8) == Array(expected.utf8))
    }

    @Test func longTextIsCutBetweenCharacters() {
        #expect(PrintableText.escape(String(repeating: "x", count: 10), bytesMax: 10) == "xxxxxxxxxx")
        #expect(PrintableText.escape(String(repeating: "x", count: 11), bytesMax: 10) == "xxxxxxxxxx…")
        #expect(PrintableText.escape("12345678ü9", bytesMax: 9) == "12345678…")
        #expect(PrintableText.escape("12345\u{1B}", bytesMax: 9) == "12345…")
    }

    @Test func linesKeepTheirEndsAndMeanTheSameJSON() {
        let line = Array(#"{"payload":"a\#u{9B}b\#u{202E}c"}"#.utf8) + [0x0A]
        #expect(
            String(decoding: PrintableText.escape(lines: line), as: UTF8.self)
                == #"{"payload":"a\u009bb\u202ec"}"# + "\n")
        #expect(
            String(decoding: PrintableText.escape(lines: [0x41, 0xFF, 0x1B, 0x0A]), as: UTF8.self)
                == "A\u{FFFD}\\u001b\n")
        let plain = Array("a\tb\n".utf8)
        #expect(PrintableText.escape(lines: plain) == plain)
    }
}
