public import CMartletProtos
public import EventModel
import FoundationEssentials
import NIOCore

/// Checks new events and puts them into their canonical encoding: fields in the order of their numbers,
/// defaults left out, tags sorted by key and each key once, no unknown fields. Two events have the same
/// content exactly when their canonical bytes are the same.
public struct EventEncoder {
    private struct Draft {
        var id: UUID
        var type: EventType
        var contentType: String
        var schemaVersion: UInt32
        var payloadBytes: Int
        var end: Int
    }

    private let limits: Limits
    private var bodies = ByteBuffer()
    private var drafts: [Draft] = []

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
        guard metadataBytes <= limits.metadataBytesMax else {
            throw .limitExceeded(
                "metadata_bytes_max", limit: limits.metadataBytesMax, actual: metadataBytes,
                "shorten the metadata of \(name()), or move it into the payload")
        }
        unsafe bodies.writeMessage(&event.pointee.base)
        drafts.append(draft)
        drafts[drafts.count - 1].end = bodies.writerIndex
    }

    /// The events added so far, in order; the encoder is empty afterwards.
    public mutating func finish() -> [EncodedEvent] {
        defer {
            drafts.removeAll()
            bodies = ByteBuffer()
        }
        var start = 0
        return drafts.map { draft in
            defer { start = draft.end }
            return EncodedEvent(
                id: draft.id, type: draft.type, contentType: draft.contentType, schemaVersion: draft.schemaVersion,
                payloadBytes: draft.payloadBytes,
                body: bodies.getSlice(at: start, length: draft.end - start) ?? ByteBuffer())
        }
    }

    @unsafe private func check(
        _ event: UnsafeMutablePointer<Martlet__V1__Event>, name: () -> String
    ) throws(MartletError) -> Draft {
        guard let id = unsafe event.pointee.id.uuid else {
            throw .invalidField("\(name()).id", "has \(unsafe event.pointee.id.len) bytes: a UUID has 16")
        }
        guard let type = unsafe event.pointee.type.text.flatMap(EventType.init) else {
            throw .invalidField(
                "\(name()).type",
                "has \(unsafe event.pointee.type.len) bytes or a character that is not allowed: "
                    + "1 to 256 bytes of UTF-8 without control characters")
        }
        let contentType = try unsafe PayloadChecks.contentType(event.pointee.content_type, name: name)
        let schemaVersion = try unsafe PayloadChecks.schemaVersion(event.pointee.schema_version, name: name)
        let payloadBytes = unsafe event.pointee.payload.len
        guard payloadBytes <= limits.payloadBytesMax else {
            throw .limitExceeded(
                "payload_bytes_max", limit: limits.payloadBytesMax, actual: payloadBytes,
                "shorten the payload of \(name()), or raise the server's limit (at most 7 MiB)")
        }
        try unsafe PayloadChecks.json(event.pointee.payload, contentType: contentType, name: name)
        try unsafe checkMetadata(event.pointee.metadata, name: name)
        return Draft(
            id: id, type: type, contentType: contentType, schemaVersion: schemaVersion,
            payloadBytes: payloadBytes, end: 0)
    }

    @unsafe private func checkMetadata(
        _ metadata: UnsafeMutablePointer<Martlet__V1__Metadata>?, name: () -> String
    ) throws(MartletError) {
        guard let metadata = unsafe metadata?.pointee else { return }
        let texts = unsafe [
            metadata.user_id, metadata.role, metadata.correlation_id, metadata.causation_id, metadata.request_id,
            metadata.source, metadata.traceparent,
        ]
        guard unsafe texts.allSatisfy({ unsafe $0.len == 0 || $0.text != nil }) else {
            throw .invalidField("\(name()).metadata", "holds text that is not UTF-8")
        }
        for index in unsafe 0..<metadata.n_tags {
            guard let tag = unsafe metadata.tags[index]?.pointee, unsafe tag.key.text != nil,
                unsafe tag.value.text != nil
            else { throw .invalidField("\(name()).metadata.tags", "holds text that is not UTF-8") }
        }
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

extension EventEncoder {
    /// Checks and encodes an event.
    /// - Parameter name: what the message of an error calls the event.
    /// - Throws: the first thing that is wrong with it.
    public mutating func add(_ event: NewEvent, name: @autoclosure () -> String = "event") throws(MartletError) {
        let result: Result<Void, MartletError> = unsafe Self.withUnpacked(event) { unpacked in
            do throws(MartletError) {
                try unsafe add(unpacked, name: name())
                return .success(())
            } catch { return .failure(error) }
        }
        try result.get()
    }

    /// Calls `body` with the event as protobuf-c would have unpacked it; valid inside the call only.
    @unsafe private static func withUnpacked<Result>(
        _ event: NewEvent, _ body: (UnsafeMutablePointer<Martlet__V1__Event>) -> Result
    ) -> Result {
        let metadata = event.metadata
        let tags = metadata.tags.sorted { $0.key < $1.key }
        let texts =
            [
                event.type.text, event.contentType, metadata.userID, metadata.role, metadata.correlationID,
                metadata.causationID, metadata.requestID, metadata.source, metadata.traceparent,
            ] + tags.flatMap { [$0.key, $0.value] }
        return unsafe withCBytes(texts) { text in
            unsafe withCBytes(event.id) { id in
                unsafe event.payload.withUnsafeReadableBytes { payload in
                    let tagMessages = UnsafeMutableBufferPointer<Martlet__V1__Tag>.allocate(capacity: tags.count)
                    let tagPointers = UnsafeMutableBufferPointer<UnsafeMutablePointer<Martlet__V1__Tag>?>
                        .allocate(capacity: tags.count)
                    defer {
                        unsafe tagMessages.deallocate()
                        unsafe tagPointers.deallocate()
                    }
                    for index in tags.indices {
                        guard let slot = unsafe tagMessages.baseAddress.map({ unsafe $0 + index }) else { continue }
                        unsafe slot.initialize(to: Martlet__V1__Tag())
                        unsafe martlet__v1__tag__init(slot)
                        unsafe slot.pointee.key = unsafe text[9 + 2 * index]
                        unsafe slot.pointee.value = unsafe text[10 + 2 * index]
                        unsafe tagPointers.initializeElement(at: index, to: slot)
                    }
                    var cMetadata = unsafe Martlet__V1__Metadata()
                    unsafe martlet__v1__metadata__init(&cMetadata)
                    unsafe cMetadata.user_id = unsafe text[2]
                    unsafe cMetadata.role = unsafe text[3]
                    unsafe cMetadata.correlation_id = unsafe text[4]
                    unsafe cMetadata.causation_id = unsafe text[5]
                    unsafe cMetadata.request_id = unsafe text[6]
                    unsafe cMetadata.source = unsafe text[7]
                    unsafe cMetadata.traceparent = unsafe text[8]
                    unsafe cMetadata.occurred_at_micros = metadata.occurredAt?.microseconds ?? 0
                    unsafe cMetadata.n_tags = tags.count
                    unsafe cMetadata.tags = tagPointers.baseAddress
                    return unsafe withUnsafeMutablePointer(to: &cMetadata) { cMetadata in
                        var cEvent = unsafe Martlet__V1__Event()
                        unsafe martlet__v1__event__init(&cEvent)
                        unsafe cEvent.id = unsafe id
                        unsafe cEvent.type = unsafe text[0]
                        unsafe cEvent.content_type = unsafe text[1]
                        unsafe cEvent.schema_version = event.schemaVersion
                        unsafe cEvent.metadata = cMetadata
                        unsafe cEvent.payload = unsafe ProtobufCBinaryData(payload)
                        return unsafe body(&cEvent)
                    }
                }
            }
        }
    }
}

extension EncodedEvent {
    /// Checks and encodes one event.
    /// - Throws: the first thing that is wrong with it.
    public init(_ event: NewEvent, limits: Limits = Limits()) throws(MartletError) {
        var encoder = EventEncoder(limits: limits)
        try encoder.add(event)
        self = encoder.finish()[0]
    }
}
