public import MartletModel
import MartletRecordCodec
import NIOCore

/// Holds what was read of storage against what it must be: every record by its checksum, and by the place where it was
/// looked for. Nothing that fails is handed on.
///
/// An engine calls it for each page and each record that it reads.
public struct RecordCheck: Sendable {
    private let tenant: TenantID

    /// A check of records of that tenant.
    public init(tenant: TenantID) { self.tenant = tenant }

    /// Checks a page of one aggregate: versions without a gap, from the near end of the range on.
    /// - Throws: `corrupted`, which names the place.
    public func check(
        _ page: EventPage, of aggregate: AggregateName, versions range: PageRange<Version>, _ direction: Direction
    ) throws(StorageError) {
        let expected = ExpectedPage(
            tenant: tenant, .versions(aggregate), after: range.after.rawValue, to: range.to.rawValue, direction)
        if page.count == 0 || isSurely(expected, page) { return }
        var last: UInt64?
        try unsafe walk(page) { (outline, bytes) in
            let version = outline.version.rawValue
            guard unsafe outline.isOf(aggregate, in: bytes) else { return "is not one of \(aggregate)" }
            defer { last = version }
            switch direction {
            case .forward:
                let expected = (last ?? range.after.rawValue) &+ 1
                return version == expected ? nil : "has version \(version) of \(aggregate), not \(expected)"
            case .backward:
                guard version <= range.to.rawValue, version > range.after.rawValue, last == nil || version &+ 1 == last
                else { return "has version \(version) of \(aggregate), which is out of order" }
                return nil
            }
        }
    }

    /// Checks a page of a tenant: positions in order within the range, without a gap where there is no filter.
    /// - Throws: `corrupted`, which names the place.
    public func check(
        _ page: EventPage, positions range: PageRange<Position>, filter: EventFilter, _ direction: Direction
    ) throws(StorageError) {
        if page.count == 0 { return }
        let expected = ExpectedPage(
            tenant: tenant, .positions, after: range.after.rawValue, to: range.to.rawValue, direction)
        if filter.isEmpty, isSurely(expected, page) { return }
        let entryFilter = filter.isEmpty ? nil : EntryFilter(filter)
        var last: UInt64?
        try unsafe walk(page) { (outline, bytes) in
            let position = outline.position.rawValue
            defer { last = position }
            guard position > range.after.rawValue, position <= range.to.rawValue else {
                return "is outside the range that was asked for"
            }
            if let entryFilter, unsafe entryFilter.matches(outline, in: bytes) != true {
                return "does not match the filter"
            }
            let before = last ?? (direction == .forward ? range.after.rawValue : nil)
            guard let before else { return nil }
            let isNext = direction == .forward ? position == before &+ 1 : position &+ 1 == before
            let isLater = direction == .forward ? position > before : position < before
            return (filter.isEmpty ? isNext : isLater) ? nil : "came after position \(before)"
        }
    }

    /// Checks one record.
    /// - Throws: `corrupted`, which names the place.
    public func check(_ event: StoredEvent) throws(StorageError) {
        let complaint: String? = unsafe event.record.withUnsafeReadableBytes { bytes in
            let typed = unsafe bytes.assumingMemoryBound(to: UInt8.self)
            guard let outline = unsafe RecordOutline(bytes, record: 0..<bytes.count) else { return "cannot be read" }
            guard unsafe outline.storedVerdict(in: typed.span, tenant: tenant) != .damaged else {
                return "does not match its checksum"
            }
            guard outline.position == event.position, outline.version == event.version,
                outline.recordedAt == event.recordedAt, unsafe outline.isOf(event.aggregate, in: bytes)
            else { return "is not the event that was looked up" }
            return nil
        }
        if let complaint {
            throw Self.damaged("position \(event.position) (\(event.aggregate) version \(event.version))", complaint)
        }
    }

    /// Nearly every page is what it must be, which takes one short pass to see.
    private func isSurely(_ expected: ExpectedPage, _ page: EventPage) -> Bool {
        unsafe page.entries.withUnsafeReadableBytes { unsafe expected.isSurely($0, count: page.count) }
    }

    @unsafe private func walk(
        _ page: EventPage, _ complaint: (RecordOutline, UnsafeRawBufferPointer) -> String?
    ) throws(StorageError) {
        let found: (place: String, complaint: String)? = unsafe page.entries.withUnsafeReadableBytes { bytes in
            let typed = unsafe bytes.assumingMemoryBound(to: UInt8.self)
            var walk = unsafe EntryWalk(bytes)
            var count = 0
            var last: Position?
            while let (_, record) = walk.next() {
                count += 1
                guard let outline = unsafe RecordOutline(bytes, record: record) else {
                    return (Self.place(after: last), "cannot be read")
                }
                last = outline.position
                func place() -> String {
                    let name = unsafe outline.aggregate(in: bytes).map { " (\($0) version \(outline.version))" }
                    return "position \(outline.position)\(name ?? "")"
                }
                switch unsafe outline.storedVerdict(in: typed.span, tenant: tenant) {
                case .intact: break
                case .damaged: return (place(), "does not match its checksum")
                case .missing:
                    // What nothing proves must at least be an event.
                    guard unsafe RecordLayout(bytes, outline) != nil else { return (place(), "cannot be read") }
                }
                if let complaint = unsafe complaint(outline, bytes) { return (place(), complaint) }
            }
            guard !walk.isBroken, count == page.count else {
                return (Self.place(after: last), "cannot be read")
            }
            return nil
        }
        if let found { throw Self.damaged(found.place, found.complaint) }
    }

    private static func place(after last: Position?) -> String {
        last.map { "the position after \($0)" } ?? "the first position of its page"
    }

    private static func damaged(_ place: String, _ complaint: String) -> StorageError {
        StorageError(
            .corrupted, "the event at \(place) \(complaint): run martlet doctor --deep", place: place)
    }
}
