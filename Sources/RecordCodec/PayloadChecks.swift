public import CMartletProtos
public import MartletModel
import NIOCore

/// What is checked alike of the payload of an event and of a snapshot. `name` is what an error calls its owner.
public enum PayloadChecks {
    /// The media type; JSON where none is given.
    @unsafe public static func contentType(
        _ field: ProtobufCBinaryData, name: () -> String
    ) throws(MartletError) -> String {
        let bytes = unsafe field.bytes
        if unsafe bytes.isEmpty || isPlainJSON(bytes) { return NewEvent.json }
        guard bytes.count <= 128, let text = unsafe String(utf8: bytes) else {
            throw invalidContentType(name)
        }
        return try contentType(text, name: name)
    }

    /// The media type; JSON where none is given.
    static func contentType(_ text: String, name: () -> String) throws(MartletError) -> String {
        guard !text.isEmpty, text != NewEvent.json else { return NewEvent.json }
        // A control character in UTF-8 is a byte of its own, the ones from U+0080 on aside, which pass.
        guard text.utf8.count <= 128, text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else {
            throw invalidContentType(name)
        }
        return text
    }

    private static func invalidContentType(_ name: () -> String) -> MartletError {
        .invalidField("\(name()).content_type", "must be at most 128 bytes of text")
    }

    /// Whether the bytes are `application/json`.
    @unsafe static func isPlainJSON(_ bytes: UnsafeRawBufferPointer) -> Bool {
        unsafe bytes.count == 16 && bytes.loadUnaligned(as: UInt64.self) == UInt64(bigEndian: 0x6170_706C_6963_6174)
            && bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self) == UInt64(bigEndian: 0x696F_6E2F_6A73_6F6E)
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
        if let fault = unsafe fault(ofJSON: payload.bytes) { throw notJSON(fault, name) }
    }

    /// Checks that a payload of a JSON type is JSON.
    static func json(_ payload: ByteBuffer, contentType: String, name: () -> String) throws(MartletError) {
        guard JSONText.isJSON(contentType: contentType) else { return }
        let fault = unsafe payload.withUnsafeReadableBytes { bytes -> JSONText.Fault? in
            unsafe self.fault(ofJSON: bytes)
        }
        if let fault { throw notJSON(fault, name) }
    }

    @unsafe static func fault(ofJSON bytes: UnsafeRawBufferPointer) -> JSONText.Fault? {
        do throws(JSONText.Fault) {
            try unsafe JSONText.check(bytes)
            return nil
        } catch { return error }
    }

    private static func notJSON(_ fault: JSONText.Fault, _ name: () -> String) -> MartletError {
        MartletError(
            .invalidArgument, reason: .invalidJSON,
            message: "\(name()).payload is not JSON at byte \(fault.offset): \(fault.complaint); "
                + "correct it, or set another content_type")
    }
}
