public import CMartletProtos
import FoundationEssentials
public import MartletModel
import NIOCore

/// Checks new events and puts them into their canonical encoding: fields in the order of their numbers,
/// defaults left out, tags sorted by key and each key once, no unknown fields. Two events have the same
/// content exactly when their canonical bytes are the same.
public struct EventEncoder {
    struct Draft {
        var id: UUID
        var type: EventType
        var contentType: String
        var schemaVersion: UInt32
        var payloadBytes: Int
        var end: Int
    }

    private let limits: Limits
    var bodies = ByteBuffer()
    var drafts: [Draft] = []
    /// Set where an event, added as it was unpacked, keeps all rules but one that came later.
    public private(set) var admission = Admission.admitted

    /// An encoder that holds events to those limits.
    public init(limits: Limits) { self.limits = limits }

    /// Checks and encodes an unpacked event, which is put into canonical form in place.
    ///
    /// - Parameter name: what the message of an error calls the event, as in `events[3]`.
    /// - Throws: the first thing that is wrong with it; the encoder is then as before.
    @unsafe public mutating func add(
        _ event: UnsafeMutablePointer<Martlet__V1__Event>, name: @autoclosure () -> String
    ) throws(MartletError) {
        let draft = try unsafe check(event, name: name)
        unsafe Self.canonicalise(event)
        let metadataBytes =
            unsafe event.pointee.metadata.map { unsafe martlet__v1__metadata__get_packed_size($0) } ?? 0
        try checkMetadata(bytes: metadataBytes, name: name)
        unsafe admit(event.pointee.metadata, name: name)
        unsafe bodies.writeMessage(&event.pointee.base)
        drafts.append(draft)
        drafts[drafts.count - 1].end = bodies.writerIndex
    }

    /// The events added so far, in order; the encoder is empty afterwards.
    ///
    /// - Parameter isAdmitting: whether they get the checksum of their bytes, as where an append is admitted.
    public mutating func finish(isAdmitting: Bool = false) -> [EncodedEvent] {
        var start = 0
        var events: [EncodedEvent] = []
        events.reserveCapacity(drafts.count)
        for draft in drafts {
            let body = bodies.getSlice(at: start, length: draft.end - start) ?? ByteBuffer()
            events.append(
                EncodedEvent(
                    id: draft.id, type: draft.type, contentType: draft.contentType, schemaVersion: draft.schemaVersion,
                    payloadBytes: draft.payloadBytes, body: body,
                    bodyChecksum: isAdmitting ? CRC32C.checksum(of: body) : nil))
            start = draft.end
        }
        drafts.removeAll(keepingCapacity: true)
        bodies = ByteBuffer()
        admission = .admitted
        return events
    }

    @unsafe private func check(
        _ event: UnsafeMutablePointer<Martlet__V1__Event>, name: () -> String
    ) throws(MartletError) -> Draft {
        guard let id = unsafe event.pointee.id.uuid else {
            throw .invalidField("\(name()).id", "has \(unsafe event.pointee.id.len) bytes: a UUID has 16")
        }
        guard let type = unsafe EventType(utf8: event.pointee.type.bytes) else {
            throw .invalidField(
                "\(name()).type",
                "has \(unsafe event.pointee.type.len) bytes or a character that is not allowed: "
                    + "1 to 256 bytes of UTF-8 without control characters")
        }
        let contentType = try unsafe PayloadChecks.contentType(event.pointee.content_type, name: name)
        let schemaVersion = try unsafe PayloadChecks.schemaVersion(event.pointee.schema_version, name: name)
        let payloadBytes = unsafe event.pointee.payload.len
        try checkPayload(bytes: payloadBytes, name: name)
        try unsafe PayloadChecks.json(event.pointee.payload, contentType: contentType, name: name)
        try unsafe checkMetadata(event.pointee.metadata, name: name)
        return Draft(
            id: id, type: type, contentType: contentType, schemaVersion: schemaVersion,
            payloadBytes: payloadBytes, end: 0)
    }

    func checkPayload(bytes: Int, name: () -> String) throws(MartletError) {
        guard bytes <= limits.payloadBytesMax else {
            throw .limitExceeded(
                "payload_bytes_max", limit: limits.payloadBytesMax, actual: bytes,
                "shorten the payload of \(name()), or raise the server's limit (at most 7 MiB)")
        }
    }

    func checkMetadata(bytes: Int, name: () -> String) throws(MartletError) {
        guard bytes <= limits.metadataBytesMax else {
            throw .limitExceeded(
                "metadata_bytes_max", limit: limits.metadataBytesMax, actual: bytes,
                "shorten the metadata of \(name()), or move it into the payload")
        }
    }

    @unsafe private func checkMetadata(
        _ metadata: UnsafeMutablePointer<Martlet__V1__Metadata>?, name: () -> String
    ) throws(MartletError) {
        guard let metadata = unsafe metadata?.pointee else { return }
        let texts = unsafe [
            metadata.user_id, metadata.role, metadata.correlation_id, metadata.causation_id, metadata.request_id,
            metadata.source, metadata.traceparent, metadata.tracestate,
        ]
        guard unsafe texts.allSatisfy({ unsafe ByteText.isUTF8($0.bytes) }) else {
            throw .invalidField("\(name()).metadata", "contains text that is not UTF-8")
        }
        for index in unsafe 0..<metadata.n_tags {
            guard let tag = unsafe metadata.tags[index]?.pointee, unsafe ByteText.isUTF8(tag.key.bytes),
                unsafe ByteText.isUTF8(tag.value.bytes)
            else { throw .invalidField("\(name()).metadata.tags", "contains text that is not UTF-8") }
        }
    }

    @unsafe private mutating func admit(_ metadata: UnsafeMutablePointer<Martlet__V1__Metadata>?, name: () -> String) {
        guard admission == .admitted, let micros = unsafe metadata?.pointee.occurred_at_micros else { return }
        let time = Timestamp(microseconds: micros)
        guard time < .earliest || time > .latest else { return }
        admission = .refused(
            .invalidField(
                "\(name()).metadata.occurred_at_micros",
                "is \(time): times range from \(Timestamp.earliest) to \(Timestamp.latest)"))
    }

    @unsafe private static func canonicalise(_ event: UnsafeMutablePointer<Martlet__V1__Event>) {
        unsafe event.pointee.base.n_unknown_fields = 0
        if unsafe event.pointee.content_type.len == 0 { unsafe event.pointee.content_type = jsonContentType }
        if unsafe event.pointee.schema_version == 0 { unsafe event.pointee.schema_version = 1 }
        guard let metadata = unsafe event.pointee.metadata else { return }
        unsafe metadata.pointee.base.n_unknown_fields = 0
        if unsafe metadata.pointee.n_tags > 0 { unsafe canonicaliseTags(metadata) }
        if unsafe martlet__v1__metadata__get_packed_size(metadata) == 0 { unsafe event.pointee.metadata = nil }
    }

    /// Sorts tags by the bytes of their key; of those with one key the last one counts.
    @unsafe private static func canonicaliseTags(_ metadata: UnsafeMutablePointer<Martlet__V1__Metadata>) {
        let all = unsafe UnsafeMutableBufferPointer(start: metadata.pointee.tags, count: metadata.pointee.n_tags)
        var sorted: [UnsafeMutablePointer<Martlet__V1__Tag>] = unsafe all.compactMap { unsafe $0 }
        let indexed = unsafe sorted.enumerated().sorted { a, b in
            unsafe a.element.pointee.key.bytes.lexicographicallyPrecedes(b.element.pointee.key.bytes)
                || (!b.element.pointee.key.bytes.lexicographicallyPrecedes(a.element.pointee.key.bytes)
                    && a.offset < b.offset)
        }
        unsafe sorted.removeAll()
        for index in unsafe indexed.indices {
            let tag = unsafe indexed[index].element
            unsafe tag.pointee.base.n_unknown_fields = 0
            if let last = unsafe sorted.last,
                unsafe last.pointee.key.bytes.elementsEqual(tag.pointee.key.bytes)
            {
                unsafe sorted[sorted.count - 1] = unsafe tag
            } else {
                unsafe sorted.append(tag)
            }
        }
        for index in unsafe sorted.indices { unsafe all[index] = unsafe sorted[index] }
        unsafe metadata.pointee.n_tags = unsafe sorted.count
    }

    private static let jsonText: StaticString = "application/json"

    @unsafe private static var jsonContentType: ProtobufCBinaryData {
        unsafe ProtobufCBinaryData(
            len: jsonText.utf8CodeUnitCount, data: UnsafeMutablePointer(mutating: jsonText.utf8Start))
    }
}
