/// Walks over concatenated entries (``RecordedEntries``) where they lie, without decoding or copying them.
@safe public struct EntryWalk {
    @unsafe private let bytes: UnsafeRawBufferPointer
    private var fields: LenientFields
    /// The walk ended at bytes that are no entry.
    public private(set) var isBroken = false

    /// The bytes must outlive the walk.
    @unsafe public init(_ bytes: UnsafeRawBufferPointer, from offset: Int = 0) {
        unsafe self.bytes = bytes
        fields = LenientFields(min(max(0, offset), bytes.count)..<bytes.count)
    }

    /// Where the next entry begins.
    public var offset: Int { fields.offset }

    /// Where the next entry and its record lie; nil at the end, and where the bytes are no entry.
    public mutating func next() -> (entry: Range<Int>, record: Range<Int>)? {
        guard !isBroken else { return nil }
        if let straight = nextStraight() { return straight }
        let typed = unsafe bytes.assumingMemoryBound(to: UInt8.self)
        guard let field = unsafe fields.next(in: typed.span) else {
            isBroken = fields.isBroken
            return nil
        }
        guard field.number == 1, let record = field.content else {
            isBroken = true
            return nil
        }
        return (field.start..<record.upperBound, record)
    }

    /// The next entry, where it is written as servers write them, which nearly all are.
    @inline(__always)
    private mutating func nextStraight() -> (entry: Range<Int>, record: Range<Int>)? {
        guard let start = unsafe bytes.baseAddress else { return nil }
        let first = fields.offset
        var reader = unsafe StraightReader(start, at: first, end: bytes.count)
        guard let record = unsafe reader.content(key: 0x0A) else { return nil }
        fields.move(to: record.upperBound)
        return (first..<record.upperBound, record)
    }

    /// Steps over so many entries; false where there are fewer.
    public mutating func skip(_ count: Int) -> Bool {
        for _ in 0..<count where next() == nil { return false }
        return true
    }
}
