import NIOCore

/// The positions of encoded events, found without decoding the events.
///
/// An entry is the byte 0x0A, a length, and a record that begins with its position (field 1), its version (field 2) and
/// its commit time (field 3); see PROTOCOL.md.
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
        var index = 0
        func varint(_ end: Int) -> UInt64? {
            var value: UInt64 = 0
            var shift: UInt64 = 0
            while index < end, shift < 64 {
                let byte = unsafe bytes[index]
                index += 1
                value |= UInt64(byte & 0x7F) << shift
                if byte < 0x80 { return value }
                shift += 7
            }
            return nil
        }
        while index < bytes.count {
            guard unsafe bytes[index] == 0x0A else { return nil }
            index += 1
            guard let length = varint(bytes.count), length <= UInt64(bytes.count - index) else { return nil }
            let end = index + Int(length)
            guard index < end, unsafe bytes[index] == 0x08 else { return nil }
            index += 1
            guard let position = varint(end) else { return nil }
            var version: UInt64 = 0
            if index < end, unsafe bytes[index] == 0x10 {
                index += 1
                guard let value = varint(end) else { return nil }
                version = value
            }
            var committedAt: UInt64 = 0
            if index < end, unsafe bytes[index] == 0x18 {
                index += 1
                guard let value = varint(end) else { return nil }
                committedAt = value
            }
            found.add(position, version, committedAt)
            index = end
        }
        return found
    }
}
