import FoundationEssentials
public import MartletModel
public import MartletRecordCodec
public import NIOCore

/// Events as they came over the wire, in one piece and in the order asked for. An event that nobody asks for is never
/// decoded; its position and version are read at a glance.
///
/// Records and payloads are slices of the piece: whoever keeps one keeps all of it in memory, up to some hundred
/// kilobytes, until it is let go of.
public struct EventBatch: Sendable, Sequence {
    /// One event of a batch, encoded.
    public struct Record: Sendable {
        /// Its number within the tenant.
        public let position: Position
        /// Its number within the aggregate.
        public let version: Version
        /// The encoded RecordedEvent.
        public let bytes: ByteBuffer
        /// Bytes of its entry: the credit that it takes.
        let entryBytes: Int

        /// Whether the event is what the server stored of that tenant, by the checksum that it carries; for raw events.
        /// Those that an upcaster changed have none, nor have those that were stored before there were any.
        public func checksumVerdict(tenant: TenantID) -> ChecksumVerdict {
            RecordOutline(bytes)?.verdict(in: bytes.readableBytesUInt8Span, tenant: tenant) ?? .damaged
        }

        /// Decodes the event.
        /// - Throws: `BAD_FRAME` if the server sent something that is not an event.
        public func decoded() throws(MartletError) -> RecordedEvent {
            do throws(RecordFault) {
                return try RecordedEntries.decode(record: bytes)
            } catch { throw .noEvent(error) }
        }
    }

    /// Goes through the events of a batch.
    public struct Iterator: IteratorProtocol {
        private let entries: ByteBuffer
        private var offset = 0

        fileprivate init(_ entries: ByteBuffer) { self.entries = entries }

        /// The next event; nil at the end.
        public mutating func next() -> Record? {
            // The batch was walked through when it came: there is no fault any more.
            guard offset < entries.readableBytes, let numbers = try? RecordedEntries.numbers(at: offset, of: entries),
                let bytes = entries.getSlice(
                    at: entries.readerIndex + numbers.record.lowerBound, length: numbers.record.count)
            else { return nil }
            defer { offset = numbers.record.upperBound }
            return Record(
                position: Position(numbers.position), version: Version(numbers.version), bytes: bytes,
                entryBytes: numbers.record.upperBound - offset)
        }
    }

    /// Concatenated entries of the protobuf field `repeated RecordedEvent events = 1`.
    public let entries: ByteBuffer
    /// How many events.
    public let count: Int
    /// Position of the first event; 0 without events.
    public let firstPosition: Position
    /// Position of the last event; 0 without events.
    public let lastPosition: Position
    /// Version of the first event within its aggregate; 0 without events.
    public let firstVersion: Version
    /// Version of the last event within its aggregate; 0 without events.
    public let lastVersion: Version
    /// The first position that is not above the one before it, and that one; nil if all are in order.
    let disorder: (position: Position, after: Position)?
    /// Where the last record lies in ``entries``.
    private let lastRecord: Range<Int>

    /// Id of the last event; nil without one.
    var lastEventID: UUID? {
        unsafe entries.withUnsafeReadableBytes { unsafe RecordedEntries.eventID(ofRecord: lastRecord, in: $0) }
    }

    /// A batch without events.
    static let none = EventBatch()

    private init() {
        (entries, count, disorder) = (ByteBuffer(), 0, nil)
        (firstPosition, lastPosition) = (.start, .start)
        (firstVersion, lastVersion) = (.none, .none)
        lastRecord = 0..<0
    }

    /// Walks through entries as a server sent them.
    /// - Throws: `BAD_FRAME` if they are not events.
    init(_ entries: ByteBuffer) throws(MartletError) {
        var offset = 0
        var count = 0
        var first: RecordNumbers?
        var last: RecordNumbers?
        var disorder: (position: Position, after: Position)?
        while offset < entries.readableBytes {
            let numbers: RecordNumbers
            do throws(RecordFault) {
                numbers = try RecordedEntries.numbers(at: offset, of: entries)
            } catch { throw .noEvent(error) }
            if let last, numbers.position <= last.position, disorder == nil {
                disorder = (Position(numbers.position), Position(last.position))
            }
            if first == nil { first = numbers }
            last = numbers
            count += 1
            offset = numbers.record.upperBound
        }
        self.entries = entries
        self.count = count
        self.disorder = disorder
        firstPosition = Position(first?.position ?? 0)
        lastPosition = Position(last?.position ?? 0)
        firstVersion = Version(first?.version ?? 0)
        lastVersion = Version(last?.version ?? 0)
        lastRecord = last?.record ?? 0..<0
    }

    /// Whether there are no events.
    public var isEmpty: Bool { count == 0 }

    /// How many events.
    public var underestimatedCount: Int { count }

    /// The events, encoded, in order.
    public func makeIterator() -> Iterator { Iterator(entries) }

    /// Decodes all events.
    /// - Throws: `BAD_FRAME` if the server sent something that is not an event.
    public func decoded() throws(MartletError) -> [RecordedEvent] {
        var decoder = RecordDecoder()
        var events: [RecordedEvent] = []
        events.reserveCapacity(count)
        do throws(RecordFault) {
            for record in self { events.append(try decoder.decode(record.bytes)) }
        } catch { throw .noEvent(error) }
        return events
    }
}

extension MartletError {
    /// What a server sent is not an event.
    static func noEvent(_ fault: RecordFault) -> MartletError {
        MartletError(
            .dataLoss, reason: .badFrame,
            message: "the server sent \(fault): compare the versions of client and server")
    }
}
