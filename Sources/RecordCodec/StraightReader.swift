/// Reads fields that are expected: each by its key of one byte, in the form in which servers write them. Where one is not
/// there, nothing more is read: ``LenientFields`` reads what else is valid.
@unsafe struct StraightReader {
    /// Where the next field begins.
    private(set) var at: Int
    private let end: Int
    private let start: UnsafeRawPointer

    /// The fields in `start` from `at` to `end`, none of which may lie outside of what is there.
    @inline(__always)
    init(_ start: UnsafeRawPointer, at: Int, end: Int) {
        unsafe self.start = unsafe start
        unsafe self.at = at
        unsafe self.end = end
    }

    /// Takes a number of at most 8 bytes.
    @inline(__always)
    mutating func number(key: UInt8) -> UInt64? {
        guard unsafe take(key) else { return nil }
        return unsafe number()
    }

    /// Takes text, bytes or a message.
    /// - Returns: where it lies.
    @inline(__always)
    mutating func content(key: UInt8) -> Range<Int>? {
        guard unsafe take(key), let length = unsafe number(), length <= UInt64(truncatingIfNeeded: unsafe end &- at)
        else { return nil }
        let first = unsafe at
        unsafe at &+= Int(truncatingIfNeeded: length)
        return unsafe Range(uncheckedBounds: (first, at))
    }

    /// Takes four bytes, little-endian.
    @inline(__always)
    mutating func fixed32(key: UInt8) -> UInt32? {
        guard unsafe end &- at >= 5, unsafe byte(at) == key else { return nil }
        let first = unsafe at &+ 1
        unsafe at &+= 5
        return unsafe UInt32(littleEndian: start.loadUnaligned(fromByteOffset: first, as: UInt32.self))
    }

    @inline(__always)
    private func byte(_ at: Int) -> UInt8 { unsafe start.load(fromByteOffset: at, as: UInt8.self) }

    @inline(__always)
    private mutating func take(_ key: UInt8) -> Bool {
        guard unsafe at < end, unsafe byte(at) == key else { return false }
        unsafe at &+= 1
        return true
    }

    /// Takes a varint. Of more than two bytes, eight are read at once: the seven lower bits of each up to the first whose
    /// highest is not set are drawn together.
    @inline(__always)
    private mutating func number() -> UInt64? {
        guard unsafe end &- at >= 2 else {
            guard unsafe at < end, unsafe byte(at) < 0x80 else { return nil }
            unsafe at &+= 1
            return unsafe UInt64(byte(at &- 1))
        }
        let first = unsafe UInt64(byte(at))
        if first < 0x80 {
            unsafe at &+= 1
            return first
        }
        let second = unsafe UInt64(byte(at &+ 1))
        if second < 0x80 {
            unsafe at &+= 2
            return first & 0x7F | second << 7
        }
        guard unsafe end &- at >= 8 else { return nil }
        let word = unsafe UInt64(littleEndian: start.loadUnaligned(fromByteOffset: at, as: UInt64.self))
        let ends = ~word & 0x8080_8080_8080_8080
        guard ends != 0 else { return nil }
        // All bits up to the end's highest.
        var value = word & (ends ^ (ends &- 1)) & 0x7F7F_7F7F_7F7F_7F7F
        value = value & 0x007F_007F_007F_007F | (value & 0x7F00_7F00_7F00_7F00) >> 1
        value = value & 0x0000_3FFF_0000_3FFF | (value & 0x3FFF_0000_3FFF_0000) >> 2
        value = value & 0x0000_0000_0FFF_FFFF | (value & 0x0FFF_FFFF_0000_0000) >> 4
        unsafe at &+= ends.trailingZeroBitCount / 8 &+ 1
        return value
    }
}

/// The parts of a record as servers write it: the fields 1 to 5, 10 and 6, one after the other.
struct StraightRecord {
    let position: UInt64
    let version: UInt64
    let recordedAt: UInt64
    let aggregateType: Range<Int>
    let aggregateID: Range<Int>
    let checksum: UInt32?
    /// Where what the checksum is of ends before the event: at the checksum's field, or the event's where there is none.
    let headEnd: Int
    /// Where the event's field begins.
    let eventStart: Int
    let event: Range<Int>

    /// The parts of the record at `record` from `start` on; nil where it is written in another way, or is none.
    @inline(__always)
    @unsafe init?(_ start: UnsafeRawPointer, _ record: Range<Int>) {
        var reader = unsafe StraightReader(start, at: record.lowerBound, end: record.upperBound)
        guard let position = unsafe reader.number(key: 0x08), let version = unsafe reader.number(key: 0x10),
            let recordedAt = unsafe reader.number(key: 0x18), let type = unsafe reader.content(key: 0x22),
            let id = unsafe reader.content(key: 0x2A), id.upperBound &- id.lowerBound == 16
        else { return nil }
        headEnd = unsafe reader.at
        checksum = unsafe reader.fixed32(key: 0x55)
        eventStart = unsafe reader.at
        guard let event = unsafe reader.content(key: 0x32), event.upperBound == record.upperBound else { return nil }
        self.position = position
        self.version = version
        self.recordedAt = recordedAt
        aggregateType = type
        aggregateID = id
        self.event = event
    }
}
