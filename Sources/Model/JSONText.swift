/// Checks that bytes are one JSON text (RFC 8259), in one pass, without building anything.
///
/// Nesting is bounded at ``depthMax`` (RFC 8259, section 9, allows a bound), so that every later reader
/// can be recursive. Text must be UTF-8; an escaped lone surrogate is grammatical and passes.
public enum JSONText {
    /// The deepest nesting of arrays and objects that is accepted.
    public static let depthMax = 512

    /// Where and why bytes are not JSON.
    public struct Fault: Error, Hashable, Sendable {
        /// Offset of the offending byte; the length of the text where it ends too early.
        public var offset: Int
        /// What is wrong there.
        public var complaint: String
    }

    /// Checks a whole text.
    /// - Returns: how deep its arrays and objects nest; 0 for a scalar.
    /// - Throws: the first fault.
    @discardableResult
    public static func check(_ bytes: UnsafeRawBufferPointer) throws(Fault) -> Int {
        var scanner = unsafe Scanner(bytes: bytes)
        try scanner.text()
        return scanner.deepest
    }

    /// The members of a text that is one object, in order: where each key (with its quotes) and each value
    /// stands.
    /// - Throws: the first fault of the text; one that says so if it is not an object.
    public static func members(
        _ bytes: UnsafeRawBufferPointer
    ) throws(Fault) -> [(key: Range<Int>, value: Range<Int>)] {
        try unsafe check(bytes)
        var scanner = unsafe Scanner(bytes: bytes)
        return try scanner.members()
    }

    /// Whether payloads of this media type are checked: `application/json` and types ending in `+json`,
    /// whatever their parameters and case.
    public static func isJSON(contentType: String) -> Bool {
        if contentType == NewEvent.json { return true }
        // Bytes are compared, not characters: a `;` and a combining mark after it are one character.
        let essence = contentType.utf8.prefix { $0 != UInt8(ascii: ";") }
        let trimmed = essence.reversed().drop { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }.reversed()
        let text = trimmed.map { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) ? $0 | 0x20 : $0 }
        return text.elementsEqual("application/json".utf8) || text.suffix(5).elementsEqual("+json".utf8)
    }
}

/// A pushdown automaton over the bytes: `stack` remembers what each open bracket was.
@safe private struct Scanner {
    @unsafe private let bytes: UnsafeRawBufferPointer
    private let count: Int
    var at = 0
    /// What the open brackets are.
    private var stack = BracketStack()
    /// The most brackets that were open at once.
    var deepest = 0

    /// The bytes must outlive the scanner.
    @unsafe init(bytes: UnsafeRawBufferPointer) {
        unsafe self.bytes = bytes
        count = bytes.count
    }

    func fault(_ complaint: String) -> JSONText.Fault {
        JSONText.Fault(offset: at, complaint: at < count ? complaint : "the text ends too early")
    }

    /// The byte at hand; 0, which is grammatical nowhere, at the end.
    func peek() -> UInt8 { at < count ? unsafe bytes[at] : 0 }

    mutating func blanks() {
        while true {
            switch peek() {
            case 0x20, 0x0A, 0x0D, 0x09: at += 1
            default: return
            }
        }
    }

    mutating func text() throws(JSONText.Fault) {
        try value()
        blanks()
        guard at == count else { throw fault("unexpected bytes after the value") }
    }

    mutating func members() throws(JSONText.Fault) -> [(key: Range<Int>, value: Range<Int>)] {
        var members: [(key: Range<Int>, value: Range<Int>)] = []
        blanks()
        guard peek() == UInt8(ascii: "{") else { throw fault("expected an object") }
        at += 1
        blanks()
        while peek() != UInt8(ascii: "}") {
            let keyStart = at
            try string()
            let key = keyStart..<at
            blanks()
            at += 1
            blanks()
            let valueStart = at
            try value()
            members.append((key, valueStart..<at))
            blanks()
            if peek() == UInt8(ascii: ",") {
                at += 1
                blanks()
            }
        }
        return members
    }

    /// Reads one value, with all that it holds.
    mutating func value() throws(JSONText.Fault) {
        let depth = stack.count
        var needsValue = true
        while true {
            if needsValue {
                blanks()
                needsValue = try openOrScalar()
                if needsValue { continue }
            }
            // A value is complete: close brackets, or go on to the next one.
            guard stack.count > depth else { return }
            let isObject = stack.isObject
            blanks()
            switch peek() {
            case UInt8(ascii: ","):
                at += 1
                if isObject {
                    blanks()
                    try key()
                }
                needsValue = true
            case UInt8(ascii: "}") where isObject, UInt8(ascii: "]") where !isObject:
                at += 1
                stack.pop()
            default: throw fault(isObject ? "expected , or }" : "expected , or ]")
            }
        }
    }

    /// Reads a scalar, or opens a bracket. True when a value must follow.
    mutating func openOrScalar() throws(JSONText.Fault) -> Bool {
        switch peek() {
        case UInt8(ascii: "{"):
            try open(object: true)
            if peek() == UInt8(ascii: "}") { return try closeEmpty() }
            try key()
            return true
        case UInt8(ascii: "["):
            try open(object: false)
            if peek() == UInt8(ascii: "]") { return try closeEmpty() }
            return true
        case UInt8(ascii: "\""): try string()
        case UInt8(ascii: "t"): try word("true")
        case UInt8(ascii: "f"): try word("false")
        case UInt8(ascii: "n"): try word("null")
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): try number()
        default: throw fault("expected a value")
        }
        return false
    }

    mutating func open(object: Bool) throws(JSONText.Fault) {
        guard stack.count < JSONText.depthMax else {
            throw fault("nested deeper than \(JSONText.depthMax) levels")
        }
        stack.push(isObject: object)
        deepest = max(deepest, stack.count)
        at += 1
        blanks()
    }

    mutating func closeEmpty() throws(JSONText.Fault) -> Bool {
        at += 1
        stack.pop()
        return false
    }

    mutating func key() throws(JSONText.Fault) {
        guard peek() == UInt8(ascii: "\"") else { throw fault("expected a key in quotes") }
        try string()
        blanks()
        guard peek() == UInt8(ascii: ":") else { throw fault("expected :") }
        at += 1
    }

    mutating func word(_ word: StaticString) throws(JSONText.Fault) {
        for index in 0..<word.utf8CodeUnitCount {
            guard unsafe peek() == word.utf8Start[index] else { throw fault("expected \(word)") }
            at += 1
        }
    }

    mutating func digits() throws(JSONText.Fault) {
        guard (0x30...0x39).contains(peek()) else { throw fault("expected a digit") }
        while (0x30...0x39).contains(peek()) { at += 1 }
    }

    mutating func number() throws(JSONText.Fault) {
        if peek() == UInt8(ascii: "-") { at += 1 }
        if peek() == UInt8(ascii: "0") { at += 1 } else { try digits() }
        if peek() == UInt8(ascii: ".") {
            at += 1
            try digits()
        }
        if peek() == UInt8(ascii: "e") || peek() == UInt8(ascii: "E") {
            at += 1
            if peek() == UInt8(ascii: "+") || peek() == UInt8(ascii: "-") { at += 1 }
            try digits()
        }
    }

    mutating func string() throws(JSONText.Fault) {
        at += 1
        while true {
            unsafe at += ByteText.plainBytes(bytes, from: at)
            let byte = peek()
            switch byte {
            case UInt8(ascii: "\""):
                at += 1
                return
            case UInt8(ascii: "\\"):
                at += 1
                try escape()
            case 0..<0x20: throw fault("control character inside a string")
            case 0x20..<0x80: at += 1
            default: try multibyte(byte)
            }
        }
    }

    mutating func escape() throws(JSONText.Fault) {
        switch peek() {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"), UInt8(ascii: "b"), UInt8(ascii: "f"),
            UInt8(ascii: "n"), UInt8(ascii: "r"), UInt8(ascii: "t"):
            at += 1
        case UInt8(ascii: "u"):
            at += 1
            for _ in 0..<4 {
                switch peek() {
                case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"),
                    UInt8(ascii: "A")...UInt8(ascii: "F"):
                    at += 1
                default: throw fault("expected four hexadecimal digits")
                }
            }
        default: throw fault("unknown escape")
        }
    }

    /// One character beyond ASCII, well-formed by RFC 3629: no overlong form, no surrogate, at most U+10FFFF.
    mutating func multibyte(_ lead: UInt8) throws(JSONText.Fault) {
        let (length, second): (Int, ClosedRange<UInt8>)
        switch lead {
        case 0xC2...0xDF: (length, second) = (2, 0x80...0xBF)
        case 0xE0: (length, second) = (3, 0xA0...0xBF)
        case 0xE1...0xEC, 0xEE...0xEF: (length, second) = (3, 0x80...0xBF)
        case 0xED: (length, second) = (3, 0x80...0x9F)
        case 0xF0: (length, second) = (4, 0x90...0xBF)
        case 0xF1...0xF3: (length, second) = (4, 0x80...0xBF)
        case 0xF4: (length, second) = (4, 0x80...0x8F)
        default: throw fault("not UTF-8")
        }
        at += 1
        for index in 1..<length {
            guard (index == 1 ? second : 0x80...0xBF).contains(peek()) else {
                throw fault("not UTF-8")
            }
            at += 1
        }
    }
}

/// One bit for each open bracket, as deep as ``JSONText/depthMax``: nothing is allocated for it.
private struct BracketStack {
    private var words = InlineArray<8, UInt64>(repeating: 0)
    private(set) var count = 0

    /// Whether the bracket that was opened last is an object's; one must be open.
    var isObject: Bool { words[(count - 1) / 64] >> UInt64((count - 1) % 64) & 1 == 1 }

    mutating func push(isObject: Bool) {
        let bit: UInt64 = 1 << UInt64(count % 64)
        if isObject { words[count / 64] |= bit } else { words[count / 64] &= ~bit }
        count += 1
    }

    mutating func pop() { count -= 1 }
}
