import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletSession
import NIOCore

// Upcasting options, and settings.

extension UpcastingOptions {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__Upcasting>?, limits: Limits) throws(MartletError) {
        self.init()
        guard let message = unsafe message else { return }
        isRaw = unsafe message.pointee.raw != 0
        switch unsafe message.pointee.on_failure {
        case MARTLET__V1__UPCAST_FAILURE_POLICY__UPCAST_FAILURE_POLICY_UNSPECIFIED,
            MARTLET__V1__UPCAST_FAILURE_POLICY__UPCAST_FAILURE_POLICY_FAIL:
            onFailure = .fail
        case MARTLET__V1__UPCAST_FAILURE_POLICY__UPCAST_FAILURE_POLICY_RAW: onFailure = .raw
        case let other:
            throw .invalidField("upcasting.on_failure", "is \(other.rawValue): 1 is fail, 2 is raw")
        }
        let count = unsafe message.pointee.n_stop_at
        guard count <= limits.filterValuesMax else {
            throw .limitExceeded(
                "filter_values_max", limit: limits.filterValuesMax, actual: count,
                "name fewer schema versions to stop at")
        }
        for index in 0..<count {
            guard let stop = unsafe message.pointee.stop_at[index],
                let type = unsafe stop.pointee.event_type.text.flatMap(EventType.init),
                unsafe stop.pointee.schema_version > 0
            else {
                throw .invalidField("upcasting.stop_at[\(index)]", "needs an event type and a schema version from 1")
            }
            stopAt[type] = unsafe stop.pointee.schema_version
        }
    }

    /// Writes the options as that field; nothing for ``latest``.
    func encode(field: UInt32, to buffer: inout ByteBuffer) {
        guard self != .latest else { return }
        var stops = ByteBuffer()
        for (type, version) in stopAt.sorted(by: { ExactText($0.key.text) < ExactText($1.key.text) }) {
            unsafe withCBytes([type.text]) { text in
                unsafe withMessage(Martlet__V1__SchemaVersionMax(), martlet__v1__schema_version_max__init) { message in
                    unsafe message.pointee.event_type = unsafe text[0]
                    unsafe message.pointee.schema_version = version
                    unsafe stops.writeField(3, &message.pointee.base)
                }
            }
        }
        unsafe withMessage(Martlet__V1__Upcasting(), martlet__v1__upcasting__init) { message in
            unsafe message.pointee.raw = isRaw ? 1 : 0
            if onFailure == .raw {
                unsafe message.pointee.on_failure = MARTLET__V1__UPCAST_FAILURE_POLICY__UPCAST_FAILURE_POLICY_RAW
            }
            unsafe buffer.writeField(field, &message.pointee.base, tail: stops)
        }
    }
}

extension FailedUpcast {
    @unsafe init?(_ message: UnsafePointer<Martlet__V1__UpcastFailure>?) {
        guard let message = unsafe message, let id = unsafe message.pointee.event_id.uuid else { return nil }
        self.init(
            position: Position(unsafe message.pointee.position), eventID: id,
            eventType: unsafe message.pointee.event_type.text ?? "", fromVersion: unsafe message.pointee.from_version,
            operation: Int(unsafe message.pointee.operation), path: unsafe message.pointee.path.text ?? "",
            complaint: unsafe message.pointee.complaint.text ?? "")
    }

    /// Writes the failure as its field of Status.
    func encode(to buffer: inout ByteBuffer) {
        unsafe withCBytes([eventType, path, complaint]) { text in
            unsafe withCBytes(eventID) { id in
                unsafe withMessage(Martlet__V1__UpcastFailure(), martlet__v1__upcast_failure__init) { message in
                    unsafe message.pointee.position = position.rawValue
                    unsafe message.pointee.event_id = unsafe id
                    unsafe message.pointee.event_type = unsafe text[0]
                    unsafe message.pointee.from_version = fromVersion
                    unsafe message.pointee.operation = UInt32(clamping: operation)
                    unsafe message.pointee.path = unsafe text[1]
                    unsafe message.pointee.complaint = unsafe text[2]
                    unsafe buffer.writeField(8, &message.pointee.base)
                }
            }
        }
    }
}

extension SettingsKind {
    @unsafe init(field: ProtobufCBinaryData) throws(MartletError) {
        guard let text = unsafe field.text, SettingsKind.all.contains(SettingsKind(rawValue: text)) else {
            throw .invalidField("kind", "must be one of \(SettingsKind.all.map(\.rawValue).joined(separator: ", "))")
        }
        self.init(rawValue: text)
    }
}

extension PutSettingsRequest {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__PutSettingsRequest>, limits: Limits) throws(MartletError) {
        let bytes = unsafe message.pointee.document.len
        guard bytes <= limits.settingsBytesMax else {
            throw .limitExceeded(
                "settings_bytes_max", limit: limits.settingsBytesMax, actual: bytes, "shorten the document")
        }
        self.init(
            tenant: try unsafe TenantID(field: message.pointee.tenant),
            kind: try unsafe SettingsKind(field: message.pointee.kind),
            document: unsafe ByteBuffer(bytes: message.pointee.document.bytes),
            expectedRevision: unsafe message.pointee.condition_case
                == MARTLET__V1__PUT_SETTINGS_REQUEST__CONDITION_EXPECTED_REVISION
                ? message.pointee.expected_revision : nil)
    }

    func encode(to buffer: inout ByteBuffer) {
        unsafe withCBytes(tenant.uuid) { tenant in
            unsafe withCBytes([kind.rawValue]) { text in
                unsafe document.withUnsafeReadableBytes { document in
                    unsafe withMessage(Martlet__V1__PutSettingsRequest(), martlet__v1__put_settings_request__init) {
                        message in
                        unsafe message.pointee.tenant = unsafe tenant
                        unsafe message.pointee.kind = unsafe text[0]
                        unsafe message.pointee.document = unsafe ProtobufCBinaryData(document)
                        if let expectedRevision {
                            unsafe message.pointee.condition_case =
                                MARTLET__V1__PUT_SETTINGS_REQUEST__CONDITION_EXPECTED_REVISION
                            unsafe message.pointee.expected_revision = expectedRevision
                        }
                        unsafe buffer.writeField(26, &message.pointee.base)
                    }
                }
            }
        }
    }
}

/// The request getSettings, and the answers about settings.
enum SettingsMessages {
    @unsafe static func decode(
        _ message: UnsafePointer<Martlet__V1__GetSettingsRequest>
    ) throws(MartletError) -> CallRequest {
        .getSettings(
            try unsafe TenantID(field: message.pointee.tenant), try unsafe SettingsKind(field: message.pointee.kind))
    }

    static func encode(_ tenant: TenantID, _ kind: SettingsKind, to buffer: inout ByteBuffer) {
        unsafe withCBytes(tenant.uuid) { tenant in
            unsafe withCBytes([kind.rawValue]) { text in
                unsafe withMessage(Martlet__V1__GetSettingsRequest(), martlet__v1__get_settings_request__init) {
                    message in
                    unsafe message.pointee.tenant = unsafe tenant
                    unsafe message.pointee.kind = unsafe text[0]
                    unsafe buffer.writeField(27, &message.pointee.base)
                }
            }
        }
    }

    static func encode(deleted: UInt64, to buffer: inout ByteBuffer) {
        unsafe withMessage(Martlet__V1__DeleteSnapshotsResponse(), martlet__v1__delete_snapshots_response__init) {
            message in
            unsafe message.pointee.deleted = deleted
            unsafe buffer.writeField(25, &message.pointee.base)
        }
    }

    static func encode(revision: UInt64, to buffer: inout ByteBuffer) {
        unsafe withMessage(Martlet__V1__PutSettingsResponse(), martlet__v1__put_settings_response__init) { message in
            unsafe message.pointee.revision = revision
            unsafe buffer.writeField(26, &message.pointee.base)
        }
    }

    static func encode(_ settings: SettingsDocument, to buffer: inout ByteBuffer) {
        unsafe settings.document.withUnsafeReadableBytes { document in
            unsafe withMessage(Martlet__V1__GetSettingsResponse(), martlet__v1__get_settings_response__init) {
                message in
                unsafe message.pointee.document = unsafe ProtobufCBinaryData(document)
                unsafe message.pointee.revision = settings.revision
                unsafe buffer.writeField(27, &message.pointee.base)
            }
        }
    }
}
