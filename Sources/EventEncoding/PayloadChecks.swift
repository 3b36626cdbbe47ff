public import CMartletProtos
public import EventModel

/// What is checked alike of the payload of an event and of a snapshot. `name` is what an error calls its owner.
public enum PayloadChecks {
    /// The media type; JSON where none is given.
    @unsafe public static func contentType(
        _ field: ProtobufCBinaryData, name: () -> String
    ) throws(MartletError) -> String {
        guard unsafe field.len > 0 else { return NewEvent.json }
        guard let text = unsafe field.text, text.utf8.count <= 128,
            text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F })
        else { throw .invalidField("\(name()).content_type", "must be at most 128 bytes of text") }
        return text
    }

    /// The schema version; 1 where none is given.
    public static func schemaVersion(_ field: UInt32, name: () -> String) throws(MartletError) -> UInt32 {
        guard field <= UInt32(Int32.max) else {
            throw .invalidField("\(name()).schema_version", "must be at most \(Int32.max)")
        }
        return max(1, field)
    }

    /// Checks that a payload of a JSON type is JSON.
    @unsafe public static func json(
        _ payload: ProtobufCBinaryData, contentType: String, name: () -> String
    ) throws(MartletError) {
        guard JSONText.isJSON(contentType: contentType) else { return }
        do throws(JSONText.Fault) {
            try unsafe JSONText.check(payload.bytes)
        } catch {
            throw MartletError(
                .invalidArgument, reason: .invalidJSON,
                message: "\(name()).payload is not JSON at byte \(error.offset): \(error.complaint); "
                    + "mend it or give another content_type")
        }
    }
}
