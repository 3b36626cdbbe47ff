import Foundation
import MartletClient
import MartletModel
import NIOCore

/// An event as a JSON line, written and read.
///
/// A payload of a JSON type stands in the line as it is, byte for byte; one that would not survive that
/// (other types, line breaks inside, blanks around) stands under `payload_base64`.
enum EventLine {
    /// The line of a recorded event, with its line break.
    static func encode(_ recorded: RecordedEvent) -> [UInt8] {
        let event = recorded.event
        var line = #"{"position":\#(recorded.position),"recorded_at":"\#(recorded.recordedAt)""#
        line += #","aggregate_type":\#(quoted(recorded.aggregate.type.text))"#
        line += #","aggregate_id":"\#(recorded.aggregate.id.uuidString.lowercased())","version":\#(recorded.version)"#
        line += #","id":"\#(event.id.uuidString.lowercased())","type":\#(quoted(event.type.text))"#
        if event.contentType != NewEvent.json { line += #","content_type":\#(quoted(event.contentType))"# }
        line += #","schema_version":\#(event.schemaVersion)"#
        if recorded.storedSchemaVersion != event.schemaVersion {
            line += #","stored_schema_version":\#(recorded.storedSchemaVersion)"#
        }
        if recorded.storedType != event.type { line += #","stored_type":\#(quoted(recorded.storedType.text))"# }
        if let failure = recorded.upcastFailure { line += #","upcast_failure":\#(quoted(failure))"# }
        if let metadata = encode(event.metadata) { line += #","metadata":\#(metadata)"# }
        return Array((line + ",").utf8) + member("payload", event.payload, contentType: event.contentType)
            + Array("}\n".utf8)
    }

    /// The line of a load that asked for a snapshot, with its line break.
    static func encode(_ snapshot: Snapshot?, skipped: Int) -> [UInt8] {
        guard let snapshot else { return Array(#"{"snapshot":null,"snapshots_skipped":\#(skipped)}"#.utf8) + [0x0A] }
        var line = #"{"snapshot":{"version":\#(snapshot.version),"created_at":"\#(snapshot.createdAt)""#
        if snapshot.contentType != NewEvent.json { line += #","content_type":\#(quoted(snapshot.contentType))"# }
        line += #","schema_version":\#(snapshot.schemaVersion)"#
        if snapshot.storedSchemaVersion != snapshot.schemaVersion {
            line += #","stored_schema_version":\#(snapshot.storedSchemaVersion)"#
        }
        return Array((line + ",").utf8)
            + member("payload", snapshot.payload, contentType: snapshot.contentType)
            + Array(#"},"snapshots_skipped":\#(skipped)}"#.utf8) + [0x0A]
    }

    /// A member of a line that holds bytes: as they are where they are JSON that a line can hold, as
    /// `NAME_base64` otherwise.
    static func member(_ name: String, _ bytes: ByteBuffer, contentType: String) -> [UInt8] {
        let payload = Array(bytes.readableBytesView)
        guard JSONText.isJSON(contentType: contentType), standsInLine(payload) else {
            return Array(#""\#(name)_base64":"\#(Data(payload).base64EncodedString())""#.utf8)
        }
        return Array(#""\#(name)":"#.utf8) + payload
    }

    private static func standsInLine(_ payload: [UInt8]) -> Bool {
        guard let first = payload.first, let last = payload.last else { return false }
        return first > 0x20 && last > 0x20 && !payload.contains(0x0A) && !payload.contains(0x0D)
    }

    static func quoted(_ text: String) -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .withoutEscapingSlashes
        let bytes = (try? encoder.encode(text)) ?? Data("\"\"".utf8)
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func encode(_ metadata: EventMetadata) -> String? {
        var members: [String] = []
        func add(_ key: String, _ value: String) {
            if !value.isEmpty { members.append("\"\(key)\":\(quoted(value))") }
        }
        add("user_id", metadata.userID)
        add("role", metadata.role)
        if let time = metadata.occurredAt { add("occurred_at", time.description) }
        add("correlation_id", metadata.correlationID)
        add("causation_id", metadata.causationID)
        add("request_id", metadata.requestID)
        add("source", metadata.source)
        add("traceparent", metadata.traceparent)
        add("tracestate", metadata.tracestate)
        if !metadata.tags.isEmpty {
            let tags = metadata.tags.sorted { $0.key < $1.key }.map { "\(quoted($0.key.text)):\(quoted($0.value))" }
            members.append("\"tags\":{\(tags.joined(separator: ","))}")
        }
        return members.isEmpty ? nil : "{\(members.joined(separator: ","))}"
    }

    /// What a line says.
    struct Parsed {
        var event: NewEvent
        /// Whether the line names the event's id; it was made up otherwise.
        var hasID: Bool
        var aggregate: AggregateName?
        /// The version that the line names, as export writes it.
        var version: UInt64?
        /// The position that the line names, as export writes it.
        var position: UInt64?
        /// What the line expects of its aggregate.
        var expected: ExpectedVersion?
    }

    /// All that a line may have. What ``encode(_:)`` adds to an event is read over: it is decided anew.
    private static let known = [
        "aggregate_id", "aggregate_key", "aggregate_type", "content_type", "expect", "id", "metadata", "payload",
        "payload_base64", "position", "recorded_at", "schema_version", "stored_schema_version", "stored_type", "type",
        "upcast_failure", "version",
    ]
    private static let knownMetadata = [
        "causation_id", "correlation_id", "occurred_at", "request_id", "role", "source", "tags", "traceparent",
        "tracestate", "user_id",
    ]

    /// Reads a line.
    /// - Parameter tenant: whose event it is; the id of an aggregate that the line names by its key follows from it.
    /// - Throws: ``LineFault``, which says what is wrong.
    static func decode(_ line: [UInt8], tenant: TenantID) throws -> Parsed {
        let members = try members(of: line[...], known, "a line of an event")
        guard let typeText = try string(members["type"], "type"), let type = EventType(typeText) else {
            throw LineFault("\"type\" is missing or not an event type (1 to 256 bytes without control characters)")
        }
        var event = NewEvent(type: type, payload: ByteBuffer(bytes: try payload(members)))
        let id = try string(members["id"], "id")
        if let id {
            guard let uuid = UUID(text: id) else { throw LineFault("\"id\" is not a UUID") }
            event.id = uuid
        }
        if let contentType = try string(members["content_type"], "content_type") { event.contentType = contentType }
        if let version = try number(members["schema_version"], "schema_version", from: 1, to: UInt64(UInt32.max)) {
            event.schemaVersion = UInt32(version)
        }
        if let text = members["metadata"] { event.metadata = try metadata(text) }
        let aggregate = try aggregate(members, tenant, &event)
        return Parsed(
            event: event, hasID: id != nil, aggregate: aggregate,
            version: try number(members["version"], "version", from: 1),
            position: try number(members["position"], "position", from: 1),
            expected: try expected(members["expect"]))
    }

    private static func aggregate(
        _ members: [ExactText: ArraySlice<UInt8>], _ tenant: TenantID, _ event: inout NewEvent
    ) throws -> AggregateName? {
        let (id, key) = (
            try string(members["aggregate_id"], "aggregate_id"), try string(members["aggregate_key"], "aggregate_key")
        )
        guard let typeText = try string(members["aggregate_type"], "aggregate_type") else {
            guard id == nil, key == nil else { throw LineFault("\"aggregate_type\" is missing") }
            return nil
        }
        guard let type = AggregateType(typeText) else {
            throw LineFault("\"aggregate_type\" is not an aggregate type (1 to 128 bytes of [A-Za-z0-9_.:-])")
        }
        switch (id, key) {
        case (let id?, nil):
            guard let uuid = UUID(text: id) else { throw LineFault("\"aggregate_id\" is not a UUID") }
            return AggregateName(type: type, id: uuid)
        case (nil, let key?):
            event.metadata.tags[AggregateName.keyTag] = key
            do { return try AggregateName(type: type, key: key, tenant: tenant) } catch {
                throw LineFault("\"aggregate_key\": \(error.message)")
            }
        case (nil, nil): throw LineFault("\"aggregate_id\" (a UUID) or \"aggregate_key\" is missing")
        case (_?, _?): throw LineFault("\"aggregate_id\" and \"aggregate_key\" exclude each other")
        }
    }

    private static func expected(_ value: ArraySlice<UInt8>?) throws -> ExpectedVersion? {
        guard let value else { return nil }
        let text = decodeString(value) ?? String(decoding: value, as: UTF8.self)
        guard let expected = ExpectedVersion(option: text) else {
            throw LineFault("\"expect\" is not \"any\", \"none\", \"exists\" or a version")
        }
        return expected
    }

    /// The members of an object, each of them known and there once.
    private static func members(
        of text: ArraySlice<UInt8>, _ known: [String]?, _ place: String
    ) throws -> [ExactText: ArraySlice<UInt8>] {
        let found: [(key: Range<Int>, value: Range<Int>)]
        do {
            found = try unsafe text.withUnsafeBytes { try unsafe JSONText.members($0) }
        } catch let fault as JSONText.Fault {
            throw LineFault("\(place) is not a JSON object: \(fault.complaint) at byte \(fault.offset)")
        }
        var members: [ExactText: ArraySlice<UInt8>] = [:]
        for (keyRange, valueRange) in found {
            let (key, value) = (inside(text, keyRange), inside(text, valueRange))
            guard let name = decodeString(key) else {
                throw LineFault("\(place) has a name that is not Unicode, at byte \(keyRange.lowerBound)")
            }
            if let known, !known.contains(where: { $0.utf8.elementsEqual(name.utf8) }) {
                throw LineFault(
                    "\(place) has no member \(quoted(name))\(NearestName.hint(name, among: known))"
                        + (known == knownMetadata ? "; what is not known belongs under \"tags\"" : ""))
            }
            guard members.updateValue(value, forKey: ExactText(name)) == nil else {
                throw LineFault("\(quoted(name)) is there twice")
            }
        }
        return members
    }

    /// The bytes at these places, counted from the begin of the text.
    private static func inside(_ text: ArraySlice<UInt8>, _ range: Range<Int>) -> ArraySlice<UInt8> {
        text.dropFirst(range.lowerBound).prefix(range.count)
    }

    private static func payload(_ members: [ExactText: ArraySlice<UInt8>]) throws -> [UInt8] {
        if let payload = members["payload"] {
            guard members["payload_base64"] == nil else {
                throw LineFault("\"payload\" and \"payload_base64\" exclude each other")
            }
            return Array(payload)
        }
        guard let text = try string(members["payload_base64"], "payload_base64") else {
            throw LineFault("\"payload\" is missing (or \"payload_base64\", for bytes that are not JSON)")
        }
        guard let bytes = Data(base64Encoded: text) else { throw LineFault("\"payload_base64\" is not base64") }
        return Array(bytes)
    }

    private static func metadata(_ text: ArraySlice<UInt8>) throws -> EventMetadata {
        var metadata = EventMetadata()
        for (name, value) in try members(of: text, knownMetadata, "\"metadata\"") {
            let key = name.text
            switch key {
            case "user_id": metadata.userID = try string(value, key) ?? ""
            case "role": metadata.role = try string(value, key) ?? ""
            case "correlation_id": metadata.correlationID = try string(value, key) ?? ""
            case "causation_id": metadata.causationID = try string(value, key) ?? ""
            case "request_id": metadata.requestID = try string(value, key) ?? ""
            case "source": metadata.source = try string(value, key) ?? ""
            case "traceparent": metadata.traceparent = try string(value, key) ?? ""
            case "tracestate": metadata.tracestate = try string(value, key) ?? ""
            case "occurred_at":
                guard let text = try string(value, key), let time = Timestamp(text) else {
                    throw LineFault("\"occurred_at\" is not a time in RFC 3339")
                }
                metadata.occurredAt = time
            case "tags":
                for (tag, text) in try members(of: value, nil, "\"tags\"") {
                    metadata.tags[tag] = try string(text, tag.text) ?? ""
                }
            default: break
            }
        }
        return metadata
    }

    /// The string that a member holds; nil where there is no such member.
    private static func string(_ value: ArraySlice<UInt8>?, _ name: String) throws -> String? {
        guard let value else { return nil }
        guard let text = decodeString(value) else { throw LineFault("\"\(name)\" is not a string") }
        return text
    }

    /// The whole number that a member holds; nil where there is no such member.
    private static func number(
        _ value: ArraySlice<UInt8>?, _ name: String, from least: UInt64, to greatest: UInt64 = .max
    ) throws -> UInt64? {
        guard let value else { return nil }
        guard let number = UInt64(String(decoding: value, as: UTF8.self)), (least...greatest).contains(number) else {
            throw LineFault("\"\(name)\" is not a number from \(least) to \(greatest)")
        }
        return number
    }

    private static func decodeString(_ text: ArraySlice<UInt8>) -> String? {
        guard text.first == UInt8(ascii: "\"") else { return nil }
        let inside = text.dropFirst().dropLast()
        if !inside.contains(UInt8(ascii: "\\")) { return String(decoding: inside, as: UTF8.self) }
        return try? JSONDecoder().decode(String.self, from: Data(text))
    }
}

/// What is wrong with a line.
struct LineFault: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// The lines of a file, or of standard input, one after the other; memory for one of them at a time.
struct LineReader {
    private let path: String
    private let handle: FileHandle
    private var buffer: [UInt8] = []
    private var start = 0
    private var isAtEnd = false
    /// The number of the line that was read last, from 1.
    private(set) var number = 0
    /// Bytes that were read from the file; those of a line that was not returned yet included.
    private(set) var bytesRead: UInt64 = 0

    /// - Parameter path: a file, or `-` for standard input.
    init(_ path: String) throws {
        self.path = path
        if path == "-" {
            handle = .standardInput
        } else {
            guard let handle = FileHandle(forReadingAtPath: path) else {
                throw UsageError("cannot read \(path): it does not exist, or you may not read it")
            }
            self.handle = handle
        }
    }

    /// The next line that is not empty, without its line break; nil at the end.
    mutating func next() throws -> [UInt8]? {
        while let line = try nextAny() {
            number += 1
            if !line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }) { return line }
        }
        return nil
    }

    private mutating func nextAny() throws -> [UInt8]? {
        var searched = start
        while true {
            if let end = buffer[searched...].firstIndex(of: 0x0A) {
                defer { start = end + 1 }
                return Array(buffer[start..<end])
            }
            searched = buffer.count
            if isAtEnd {
                defer { start = buffer.count }
                return start < buffer.count ? Array(buffer[start...]) : nil
            }
            if start > 0 {
                buffer.removeFirst(start)
                searched -= start
                start = 0
            }
            let more: Data
            do { more = try handle.read(upToCount: 256 << 10) ?? Data() } catch {
                throw UsageError("cannot read \(path == "-" ? "standard input" : path): check that it is a file")
            }
            bytesRead += UInt64(more.count)
            if more.isEmpty { isAtEnd = true } else { buffer.append(contentsOf: more) }
        }
    }
}
