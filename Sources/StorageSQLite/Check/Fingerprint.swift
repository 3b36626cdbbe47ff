import FoundationEssentials

/// What a set of rows comes to, in whatever order they are seen.
///
/// The blocks tell every row of `event_ids` and `ranges`, in another order than those tables have. Holding fingerprints
/// side by side compares the sets in one scan of each, without a look-up a row: those of different sets are the same
/// once in 2^64 runs, because the key of the hash is new in each.
struct Fingerprint: Hashable {
    private(set) var count: UInt64 = 0
    private var sum: UInt64 = 0

    mutating func add(_ hash: RowHash) {
        count &+= 1
        sum &+= hash.value
    }
}

/// The hash of a row, its columns added one after the other (steps of SplitMix64).
struct RowHash {
    private(set) var value: UInt64

    init(key: UInt64) { value = key }

    mutating func add(_ word: UInt64) {
        var mixed = (value ^ word) &+ 0x9E37_79B9_7F4A_7C15
        mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
        value = mixed ^ mixed >> 31
    }

    mutating func add(_ number: Int64) { add(UInt64(bitPattern: number)) }

    mutating func add(_ id: UUID) { unsafe withUnsafeBytes(of: id.uuid) { unsafe add($0) } }

    mutating func add(_ text: String) {
        var text = text
        text.withUTF8 { unsafe add(UnsafeRawBufferPointer($0)) }
    }

    @unsafe mutating func add(_ bytes: UnsafeRawBufferPointer) {
        add(UInt64(bytes.count))
        var at = 0
        while at + 8 <= bytes.count {
            add(unsafe bytes.loadUnaligned(fromByteOffset: at, as: UInt64.self))
            at += 8
        }
        guard at < bytes.count else { return }
        var rest: UInt64 = 0
        while at < bytes.count {
            rest = rest << 8 | UInt64(unsafe bytes[at])
            at += 1
        }
        add(rest)
    }
}
