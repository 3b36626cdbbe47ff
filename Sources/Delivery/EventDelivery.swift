import FoundationEssentials
public import MartletModel
import MartletRecordCodec
public import MartletUpcasting
import NIOCore

/// How the events of one call are delivered: upcast by the tenant's set, as the call's options say, and filtered by
/// what they are then.
///
/// A page of which nothing concerns the set is handed on as it is. Events are upcast one after the other; one that
/// fails is delivered as stored and marked, or ends the page before it, and is the error of the next.
public final class EventDelivery: Sendable {
    /// What became of a page.
    public struct Result: Sendable {
        /// The page as it is delivered; shorter than it was where the events grew beyond the bound, or one failed.
        public var page: EventPage
        /// Events that an upcaster failed on and that are delivered as stored.
        public var failureCount: Int
        /// Whether it ends before the page that came does.
        public var isCut: Bool
        /// Work that upcasting took, in bytes looked at (``MartletModel/UpcastingLimits/workPerPageMax``).
        public var work: Int

        /// A page that is delivered.
        public init(page: EventPage, failureCount: Int = 0, isCut: Bool = false, work: Int = 0) {
            self.page = page
            self.failureCount = failureCount
            self.isCut = isCut
            self.work = work
        }
    }

    private let set: UpcasterSet
    private let options: UpcastingOptions
    private let filter: EventFilter
    private let payloadBytesMax: Int
    /// Finds in storage what may have to be delivered.
    public let storedFilter: EventFilter

    /// - Parameters:
    ///   - filter: speaks of what is delivered.
    ///   - payloadBytesMax: bound of an upcast payload (``MartletModel/Limits/upcastPayloadBytesMax``).
    public init(set: UpcasterSet, options: UpcastingOptions, filter: EventFilter = .all, payloadBytesMax: Int) {
        self.set = options.isRaw ? .empty : set
        self.options = options
        self.filter = filter
        self.payloadBytesMax = payloadBytesMax
        var stored = filter
        if !self.set.isEmpty, !filter.eventTypes.isEmpty {
            stored.eventTypes = self.set.storedTypes(deliveredAs: filter.eventTypes)
        }
        storedFilter = stored
    }

    /// Delivery in that way; where all events come as they are stored, as they do for most calls, the same for all.
    public static func of(
        set: UpcasterSet, options: UpcastingOptions, filter: EventFilter = .all, payloadBytesMax: Int
    ) -> EventDelivery {
        guard !filter.isEmpty || (!options.isRaw && !set.isEmpty) else { return .asStored }
        return EventDelivery(set: set, options: options, filter: filter, payloadBytesMax: payloadBytesMax)
    }

    /// Delivers all events as they are stored.
    public static let asStored = EventDelivery(
        set: .empty, options: UpcastingOptions(isRaw: true), payloadBytesMax: 0)

    /// How events are delivered: those with equal keys deliver a page of stored events alike, as long as one of them
    /// lives.
    public struct Key: Hashable, Sendable {
        fileprivate let set: ObjectIdentifier
        fileprivate let options: UpcastingOptions
        fileprivate let filter: EventFilter
    }

    /// Nil where events are delivered as they are stored.
    public var key: Key? { self.set.isEmpty ? nil : Key(set: set.identity, options: options, filter: filter) }

    /// Whether events are upcast by that set.
    public func isBy(_ set: UpcasterSet) -> Bool { self.set.identity == set.identity }

    /// Whether a page would be delivered as another than it is. Nothing is upcast: this takes a look at each event's type
    /// and schema version.
    public func changes(_ page: EventPage) -> Bool {
        guard !set.isEmpty, page.count > 0 else { return false }
        var rest = page.entries
        var known: [Kind] = []
        while true {
            do throws(RecordFault) {
                guard let record = try RecordedEntries.nextRecord(of: &rest) else { return false }
                // What is damaged is told of by who delivers it.
                guard let layout = RecordLayout(record),
                    let type = record.getSlice(
                        at: record.readerIndex + layout.eventType.lowerBound, length: layout.eventType.count)
                else { return true }
                let kind = Kind(type: type, schemaVersion: layout.eventSchemaVersion)
                if known.contains(kind) { continue }
                guard let type = EventType(String(buffer: type)), !concerns(type, layout.eventSchemaVersion),
                    filter.eventTypes.isEmpty || filter.eventTypes.contains(type)
                else { return true }
                if known.count < 8 { known.append(kind) }
            } catch { return true }
        }
    }

    /// What decides whether an event is changed.
    private struct Kind: Equatable {
        let type: ByteBuffer
        let schemaVersion: UInt32
    }

    /// Delivers a page of stored events.
    ///
    /// It ends early when the work that a page may take is used up, so that a thread that does this is busy for a bounded
    /// time: at most that, and the work of one payload.
    /// - Parameters:
    ///   - bytesMax: at most this many bytes of entries; one event comes even if that alone is larger.
    ///   - workMax: no event is begun when so much was done; the first one is.
    /// - Throws: `UPCAST_FAILED` where the page's first event fails and the options want that.
    public func deliver(
        _ page: EventPage, bytesMax: Int, workMax: Int = UpcastingLimits().workPerPageMax
    ) throws(MartletError) -> Result {
        guard !set.isEmpty, page.count > 0 else { return Result(page: page) }
        var work = Work(page: page, bytesMax: bytesMax)
        while work.isAtStart || work.spent < workMax || work.isAtEnd, let record = try work.nextRecord() {
            guard let layout = RecordLayout(record) else { throw Self.damaged }
            let type = work.type(record, layout)
            guard let type else { throw Self.damaged }
            guard try take(record, layout, type, &work) else { break }
        }
        return work.finish()
    }

    private func concerns(_ type: EventType, _ schemaVersion: UInt32) -> Bool {
        set.concerns(event: type, schemaVersion: schemaVersion)
    }

    /// - Returns: false where the page ends before this event.
    private func take(
        _ record: ByteBuffer, _ layout: RecordLayout, _ type: EventType, _ work: inout Work
    ) throws(MartletError) -> Bool {
        guard concerns(type, layout.eventSchemaVersion) else {
            guard filter.eventTypes.isEmpty || filter.eventTypes.contains(type) else { return work.skip(layout) }
            return work.add(layout, asStored: record)
        }
        let target = set.target(event: type, schemaVersion: layout.eventSchemaVersion, stopAt: options.stopAt)
        let delivered = set.deliveredType(of: type, schemaVersion: layout.eventSchemaVersion, atMost: target)
        guard filter.eventTypes.isEmpty || filter.eventTypes.contains(delivered) else { return work.skip(layout) }
        var payload = ByteBuffer()
        let outcome = unsafe record.withUnsafeReadableBytes { bytes in
            unsafe set.upcast(
                event: type, schemaVersion: layout.eventSchemaVersion,
                contentType: String(
                    decoding: UnsafeRawBufferPointer(rebasing: bytes[layout.contentType]), as: UTF8.self),
                payload: UnsafeRawBufferPointer(rebasing: bytes[layout.payload]), atMost: target,
                outputBytesMax: payloadBytesMax, to: &payload, work: &work.spent)
        }
        switch outcome {
        case .unchanged: return work.add(layout, asStored: record)
        case .upcast(let upcast):
            let newType = upcast.eventType.flatMap { $0 == type ? nil : $0.text }
            return work.add(layout) {
                layout.writeEntry(
                    of: record, type: newType, schemaVersion: upcast.schemaVersion, payload: payload, to: &$0)
            }
        case .failed(let failure):
            switch options.onFailure {
            case .raw:
                let isAdded = work.add(layout) {
                    RecordedEntries.writeEntry(of: record, failure: failure.description, to: &$0)
                }
                if isAdded { work.failureCount += 1 }
                return isAdded
            case .fail:
                guard work.isAtStart else { return work.end() }
                throw Self.failed(failure, layout, record)
            }
        }
    }

    private static func failed(_ failure: UpcastFailure, _ layout: RecordLayout, _ record: ByteBuffer) -> MartletError {
        let id = layout.eventID(in: record)
        return MartletError(
            .failedPrecondition, reason: .upcastFailed,
            message: "the event at position \(layout.position) cannot be upcast: \(failure); repair the upcaster, or "
                + "ask to get such events as stored (on_failure raw)",
            failedUpcast: id.map {
                FailedUpcast(
                    position: layout.position, eventID: $0, eventType: failure.subject.text,
                    fromVersion: failure.fromVersion, operation: failure.operation ?? 0, path: failure.pointer,
                    complaint: failure.complaint)
            })
    }

    static let damaged = MartletError(
        .dataLoss, reason: .storageCorrupted, message: "a stored record cannot be read: check the storage")
}

/// A page on its way: until an event is changed or left out it is the page that came.
private struct Work {
    private let page: EventPage
    private let bytesMax: Int
    private var rest: ByteBuffer
    /// What is delivered, once that is not the beginning of `page` any more.
    private var entries: ByteBuffer?
    private var count = 0
    private var lastPosition: Position?
    private var lastVersion: Version?
    /// Position of the last event that was looked at and delivered or left out.
    private var doneTo: Position?
    private var isCut = false
    private var typeBytes = ByteBuffer()
    private var knownType: EventType?
    var failureCount = 0
    /// What upcasting took so far.
    var spent = 0

    init(page: EventPage, bytesMax: Int) {
        self.page = page
        self.bytesMax = bytesMax
        rest = page.entries
    }

    /// Nothing was dealt with yet.
    var isAtStart: Bool { doneTo == nil }

    /// Everything was dealt with.
    var isAtEnd: Bool { rest.readableBytes == 0 }

    mutating func nextRecord() throws(MartletError) -> ByteBuffer? {
        do throws(RecordFault) { return try RecordedEntries.nextRecord(of: &rest) } catch {
            throw EventDelivery.damaged
        }
    }

    /// The record's event type; neighbours often have the same.
    mutating func type(_ record: ByteBuffer, _ layout: RecordLayout) -> EventType? {
        let place = record.readerIndex + layout.eventType.lowerBound
        guard let bytes = record.getSlice(at: place, length: layout.eventType.count) else { return nil }
        if let knownType, bytes == typeBytes { return knownType }
        typeBytes = bytes
        knownType = EventType(String(buffer: bytes))
        return knownType
    }

    /// The event stays as it is, and where nothing was changed so far, the page does too.
    mutating func add(_ layout: RecordLayout, asStored record: ByteBuffer) -> Bool {
        guard entries == nil else { return add(layout) { RecordedEntries.write(record: record, to: &$0) } }
        count += 1
        note(layout, isDelivered: true)
        return true
    }

    /// The event is left out.
    mutating func skip(_ layout: RecordLayout) -> Bool {
        begin(before: layout)
        note(layout, isDelivered: false)
        return true
    }

    /// Writes the event's entry, if there is room for it.
    mutating func add(_ layout: RecordLayout, _ write: (inout ByteBuffer) -> Void) -> Bool {
        begin(before: layout)
        guard var written = entries else { return end() }
        // The one owner, so that appending does not copy.
        entries = ByteBuffer()
        let before = written.writerIndex
        write(&written)
        let fits = count == 0 || written.readableBytes <= bytesMax
        if !fits { written.moveWriterIndex(to: before) }
        entries = written
        guard fits else { return end() }
        count += 1
        note(layout, isDelivered: true)
        return true
    }

    /// The page ends before this event.
    mutating func end() -> Bool {
        isCut = true
        return false
    }

    mutating func finish() -> EventDelivery.Result {
        if !isAtEnd { isCut = true }
        guard let entries = entries ?? cutEntries else { return EventDelivery.Result(page: page, work: spent) }
        var delivered = page
        delivered.entries = entries
        delivered.count = count
        delivered.lastPosition = lastPosition
        if isCut {
            delivered.isLast = false
            delivered.lastVersion = lastVersion
            if let doneTo { delivered.scannedTo = doneTo }
            delivered.endEventID = page.endEventID == nil ? nil : doneID
        }
        return EventDelivery.Result(page: delivered, failureCount: failureCount, isCut: isCut, work: spent)
    }

    /// With nothing changed, but an end before the page's: what was kept.
    private var cutEntries: ByteBuffer? {
        isCut ? page.entries.getSlice(at: page.entries.readerIndex, length: keptBytes) : nil
    }

    private var keptBytes = 0
    /// Where in what was kept the id lies of the event at `doneTo`.
    private var doneIDOffset: Int?

    private var doneID: UUID? {
        doneIDOffset.flatMap { page.entries.getBytes(at: page.entries.readerIndex + $0, length: 16) }
            .flatMap { UUID(bytes: $0) }
    }

    private mutating func begin(before layout: RecordLayout) {
        guard entries == nil else { return }
        var kept = ByteBuffer()
        kept.reserveCapacity(page.entries.readableBytes + page.entries.readableBytes / 4)
        if let slice = page.entries.getSlice(at: page.entries.readerIndex, length: keptBytes) {
            kept.writeImmutableBuffer(slice)
        }
        entries = kept
    }

    private mutating func note(_ layout: RecordLayout, isDelivered: Bool) {
        keptBytes = page.entries.readableBytes - rest.readableBytes
        doneTo = layout.position
        doneIDOffset = keptBytes - layout.outline.record.count + layout.eventID.lowerBound
        lastVersion = layout.version
        if isDelivered { lastPosition = layout.position }
    }
}
