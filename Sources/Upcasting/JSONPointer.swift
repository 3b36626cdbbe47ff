import MartletModel

/// A JSON Pointer (RFC 6901) in which a segment `*` stands for every element of an array or every member of an
/// object. A member whose name is `*` can be meant only together with its siblings.
struct JSONPointer: Hashable, Sendable {
    enum Segment: Hashable, Sendable {
        /// `*`.
        case each
        /// A name, unescaped, in UTF-8: the key of an object's member, or the index of an array's element.
        case name([UInt8])
    }

    /// The pointer as written, in UTF-8.
    let text: [UInt8]
    let segments: [Segment]

    var starCount: Int { segments.count { $0 == .each } }

    /// The segments up to and including the last `*`.
    var starPrefix: ArraySlice<Segment> {
        guard let last = segments.lastIndex(of: .each) else { return [] }
        return segments[...last]
    }

    /// The pointer of that text.
    /// - Throws: what is wrong with it.
    init(_ text: [UInt8], limits: UpcastingLimits) throws(Complaint) {
        guard text.count <= limits.pointerBytesMax else {
            throw Complaint("must have at most \(limits.pointerBytesMax) bytes, but has \(text.count)")
        }
        guard text.isEmpty || text[0] == UInt8(ascii: "/") else {
            throw Complaint("must be a JSON Pointer: empty, or starting with /")
        }
        var segments: [Segment] = []
        for part in text.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        where !text.isEmpty {
            guard segments.count < limits.pointerSegmentsMax else {
                throw Complaint("must have at most \(limits.pointerSegmentsMax) segments")
            }
            segments.append(try Self.segment(part))
        }
        self.text = text
        self.segments = segments
    }

    private static func segment(_ part: ArraySlice<UInt8>) throws(Complaint) -> Segment {
        if part.count == 1, part.first == UInt8(ascii: "*") { return .each }
        var name: [UInt8] = []
        name.reserveCapacity(part.count)
        var at = part.startIndex
        while at < part.endIndex {
            if part[at] == UInt8(ascii: "~") {
                at += 1
                switch at < part.endIndex ? part[at] : 0 {
                case UInt8(ascii: "0"): name.append(UInt8(ascii: "~"))
                case UInt8(ascii: "1"): name.append(UInt8(ascii: "/"))
                default: throw Complaint("has a ~ that is neither ~0 (for ~) nor ~1 (for /)")
                }
            } else {
                name.append(part[at])
            }
            at += 1
        }
        return .name(name)
    }

    /// The index that a name stands for in an array; nil for one that is no index. Indices have no leading zero.
    static func index(_ name: [UInt8]) -> Int32? {
        guard (1...9).contains(name.count), name.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        guard name.count == 1 || name[0] != 0x30 else { return nil }
        return name.reduce(0) { $0 * 10 + Int32($1 - 0x30) }
    }
}

/// What is wrong with a part of a definition or of a payload.
struct Complaint: Error, Hashable {
    var text: String

    init(_ text: String) { self.text = text }
}
