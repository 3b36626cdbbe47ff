import MartletRecordCodec
import NIOCore

/// The positions of encoded events, found without decoding the events.
struct PagePositions: Sendable {
    /// The first event's position.
    let first: UInt64
    /// The last event's position.
    let last: UInt64
    /// How many events.
    let count: Int
    /// The first event's version in its aggregate.
    let firstVersion: UInt64
    /// The last event's version in its aggregate.
    let lastVersion: UInt64
    /// Commit times in microseconds since 1970, each with the number of events in a row that have it.
    let commits: [Commit]
    /// Positions that are not one after the other; nil where `first` to `last` says it all.
    private let apart: [UInt64]?
    /// Each position is above the one before.
    let isAscending: Bool

    /// Events in a row that were committed together.
    struct Commit: Hashable, Sendable {
        var micros: UInt64
        var count: UInt64
    }

    /// The positions of entries; nil where the bytes are none, or there are none.
    init?(_ entries: ByteBuffer) {
        let found = unsafe entries.withUnsafeReadableBytes { unsafe Self.scan($0) }
        guard let found, found.count > 0 else { return nil }
        (first, last, count) = (found.first, found.last, found.count)
        (firstVersion, lastVersion) = (found.firstVersion, found.lastVersion)
        isAscending = found.isAscending
        commits = found.commits
        apart = found.isAscending && last - first == UInt64(count - 1) ? nil : found.all
    }

    /// No position is left out between the first and the last.
    var isWithoutGap: Bool { apart == nil }

    /// Calls `body` with each position, in order.
    func forEach(_ body: (UInt64) -> Void) {
        if let apart {
            for position in apart { body(position) }
        } else {
            for position in first...last { body(position) }
        }
    }

    private struct Found {
        var first: UInt64 = 0
        var last: UInt64 = 0
        var count = 0
        var firstVersion: UInt64 = 0
        var lastVersion: UInt64 = 0
        var isAscending = true
        var isWithoutGap = true
        var all: [UInt64] = []
        var commits: [Commit] = []

        mutating func add(_ position: UInt64, _ version: UInt64, _ committedAt: UInt64) {
            if commits.last?.micros == committedAt {
                commits[commits.count - 1].count += 1
            } else {
                commits.append(Commit(micros: committedAt, count: 1))
            }
            if count == 0 {
                (first, firstVersion) = (position, version)
            } else {
                if position <= last { isAscending = false }
                if isWithoutGap, position != last &+ 1 {
                    isWithoutGap = false
                    all = (0..<UInt64(count)).map { first &+ $0 }
                }
            }
            if !isWithoutGap { all.append(position) }
            (last, lastVersion) = (position, version)
            count += 1
        }
    }

    @unsafe private static func scan(_ bytes: UnsafeRawBufferPointer) -> Found? {
        var found = Found()
        var walk = unsafe EntryWalk(bytes)
        let typed = unsafe bytes.assumingMemoryBound(to: UInt8.self)
        while let (_, record) = walk.next() {
            guard let numbers = unsafe RecordNumbers(typed.span, record: record), numbers.position > 0 else {
                return nil
            }
            found.add(numbers.position, numbers.version, numbers.recordedAt)
        }
        return walk.isBroken ? nil : found
    }
}
