import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletSession
import NIOCore

// Snapshots, as requests and as answers.

extension NewSnapshot {
    /// Checks an unpacked snapshot.
    @unsafe init(
        _ message: UnsafePointer<Martlet__V1__NewSnapshot>?, name: @autoclosure () -> String, limits: Limits
    ) throws(MartletError) {
        guard let message = unsafe message else { throw .invalidField(name(), "is missing: give the state") }
        let contentType = try unsafe PayloadChecks.contentType(message.pointee.content_type, name: name)
        let schemaVersion = try unsafe PayloadChecks.schemaVersion(message.pointee.schema_version, name: name)
        let payloadBytes = unsafe message.pointee.payload.len
        guard payloadBytes <= limits.snapshotBytesMax else {
            throw .limitExceeded(
                "snapshot_bytes_max", limit: limits.snapshotBytesMax, actual: payloadBytes,
                "keep less in the state of \(name())")
        }
        try unsafe PayloadChecks.json(message.pointee.payload, contentType: contentType, name: name)
        self.init(
            schemaVersion: schemaVersion, contentType: contentType,
            payload: unsafe ByteBuffer(bytes: message.pointee.payload.bytes))
    }

    /// Calls `body` with the snapshot as protobuf-c sees it.
    @unsafe func withMessage<Result>(
        _ body: (UnsafeMutablePointer<Martlet__V1__NewSnapshot>) throws -> Result
    ) rethrows -> Result {
        try unsafe withCBytes([contentType]) { text in
            try unsafe payload.withUnsafeReadableBytes { payload in
                try unsafe MartletFrameCodec.withMessage(Martlet__V1__NewSnapshot(), martlet__v1__new_snapshot__init) {
                    message in
                    unsafe message.pointee.schema_version = schemaVersion
                    unsafe message.pointee.content_type = unsafe text[0]
                    unsafe message.pointee.payload = unsafe ProtobufCBinaryData(payload)
                    return try unsafe body(message)
                }
            }
        }
    }
}

extension SnapshotUse {
    @unsafe init?(_ message: UnsafePointer<Martlet__V1__SnapshotUse>?, limits: Limits) throws(MartletError) {
        guard let message = unsafe message else { return nil }
        let count = unsafe message.pointee.n_schema_versions
        guard count <= limits.filterValuesMax else {
            throw .limitExceeded(
                "filter_values_max", limit: limits.filterValuesMax, actual: count, "name fewer schema versions")
        }
        self.init(
            schemaVersions: unsafe Set(UnsafeBufferPointer(start: message.pointee.schema_versions, count: count)))
    }

    /// Writes the use as that field.
    func encode(field: UInt32, to buffer: inout ByteBuffer) {
        var versions = schemaVersions.sorted()
        unsafe versions.withUnsafeMutableBufferPointer { versions in
            unsafe withMessage(Martlet__V1__SnapshotUse(), martlet__v1__snapshot_use__init) { message in
                unsafe message.pointee.n_schema_versions = versions.count
                unsafe message.pointee.schema_versions = versions.baseAddress
                unsafe buffer.writeField(field, &message.pointee.base)
            }
        }
    }
}

extension Snapshot {
    @unsafe init?(_ message: UnsafePointer<Martlet__V1__Snapshot>?) {
        guard let message = unsafe message, let contentType = unsafe message.pointee.content_type.text else {
            return nil
        }
        let stored = unsafe message.pointee.stored_schema_version
        self.init(
            version: Version(unsafe message.pointee.version),
            createdAt: Timestamp(microseconds: unsafe message.pointee.created_at_micros),
            schemaVersion: unsafe message.pointee.schema_version, storedSchemaVersion: stored == 0 ? nil : stored,
            contentType: contentType, payload: unsafe ByteBuffer(bytes: message.pointee.payload.bytes))
    }

    /// Writes the snapshot as that field.
    func encode(field: UInt32, to buffer: inout ByteBuffer) {
        unsafe withCBytes([contentType]) { text in
            unsafe payload.withUnsafeReadableBytes { payload in
                unsafe withMessage(Martlet__V1__Snapshot(), martlet__v1__snapshot__init) { message in
                    unsafe message.pointee.version = version.rawValue
                    unsafe message.pointee.created_at_micros = createdAt.microseconds
                    unsafe message.pointee.schema_version = schemaVersion
                    unsafe message.pointee.stored_schema_version =
                        storedSchemaVersion == schemaVersion ? 0 : storedSchemaVersion
                    unsafe message.pointee.content_type = unsafe text[0]
                    unsafe message.pointee.payload = unsafe ProtobufCBinaryData(payload)
                    unsafe buffer.writeField(field, &message.pointee.base)
                }
            }
        }
    }
}

// MARK: Requests

extension SaveSnapshotRequest {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__SaveSnapshotRequest>, limits: Limits) throws(MartletError) {
        let version = Version(unsafe message.pointee.version)
        // One that is too high is told by what the aggregate has.
        guard version > .none else {
            throw .invalidField("version", "is 0 or missing: a snapshot is the state at version 1 or later")
        }
        self.init(
            tenant: try unsafe TenantID(field: message.pointee.tenant),
            aggregate: try unsafe AggregateName(field: message.pointee.aggregate, name: "aggregate"),
            version: version,
            snapshot: try unsafe NewSnapshot(message.pointee.snapshot, name: "snapshot", limits: limits))
    }

    func encode(to buffer: inout ByteBuffer) {
        unsafe withCBytes(tenant.uuid) { tenant in
            unsafe aggregate.withMessage { aggregate in
                unsafe snapshot.withMessage { snapshot in
                    unsafe withMessage(Martlet__V1__SaveSnapshotRequest(), martlet__v1__save_snapshot_request__init) {
                        message in
                        unsafe message.pointee.tenant = unsafe tenant
                        unsafe message.pointee.aggregate = unsafe aggregate
                        unsafe message.pointee.version = version.rawValue
                        unsafe message.pointee.snapshot = unsafe snapshot
                        unsafe buffer.writeField(22, &message.pointee.base)
                    }
                }
            }
        }
    }
}

extension LoadSnapshotRequest {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__LoadSnapshotRequest>, limits: Limits) throws(MartletError) {
        let version = Version(unsafe message.pointee.to_version)
        self.init(
            tenant: try unsafe TenantID(field: message.pointee.tenant),
            aggregate: try unsafe AggregateName(field: message.pointee.aggregate, name: "aggregate"),
            to: version == .none ? nil : version,
            use: try unsafe SnapshotUse(message.pointee.use, limits: limits) ?? SnapshotUse(),
            upcasting: try unsafe UpcastingOptions(message.pointee.upcasting, limits: limits))
    }

    func encode(to buffer: inout ByteBuffer) {
        var tail = ByteBuffer()
        use.encode(field: 4, to: &tail)
        upcasting.encode(field: 5, to: &tail)
        unsafe withCBytes(tenant.uuid) { tenant in
            unsafe aggregate.withMessage { aggregate in
                unsafe withMessage(Martlet__V1__LoadSnapshotRequest(), martlet__v1__load_snapshot_request__init) {
                    message in
                    unsafe message.pointee.tenant = unsafe tenant
                    unsafe message.pointee.aggregate = unsafe aggregate
                    unsafe message.pointee.to_version = to?.rawValue ?? 0
                    unsafe buffer.writeField(23, &message.pointee.base, tail: tail)
                }
            }
        }
    }
}

extension DeleteSnapshotsRequest {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__DeleteSnapshotsRequest>) throws(MartletError) {
        let version = Version(unsafe message.pointee.version)
        self.init(
            tenant: try unsafe TenantID(field: message.pointee.tenant),
            aggregate: try unsafe AggregateName(field: message.pointee.aggregate, name: "aggregate"),
            version: version == .none ? nil : version)
    }

    func encode(to buffer: inout ByteBuffer) {
        unsafe withCBytes(tenant.uuid) { tenant in
            unsafe aggregate.withMessage { aggregate in
                unsafe withMessage(Martlet__V1__DeleteSnapshotsRequest(), martlet__v1__delete_snapshots_request__init) {
                    message in
                    unsafe message.pointee.tenant = unsafe tenant
                    unsafe message.pointee.aggregate = unsafe aggregate
                    unsafe message.pointee.version = version?.rawValue ?? 0
                    unsafe buffer.writeField(25, &message.pointee.base)
                }
            }
        }
    }
}

/// The request listSnapshots.
enum ListSnapshotsMessage {
    @unsafe static func decode(
        _ message: UnsafePointer<Martlet__V1__ListSnapshotsRequest>
    ) throws(MartletError) -> CallRequest {
        .listSnapshots(
            try unsafe TenantID(field: message.pointee.tenant),
            try unsafe AggregateName(field: message.pointee.aggregate, name: "aggregate"))
    }

    static func encode(_ tenant: TenantID, _ aggregate: AggregateName, to buffer: inout ByteBuffer) {
        unsafe withCBytes(tenant.uuid) { tenant in
            unsafe aggregate.withMessage { aggregate in
                unsafe withMessage(Martlet__V1__ListSnapshotsRequest(), martlet__v1__list_snapshots_request__init) {
                    message in
                    unsafe message.pointee.tenant = unsafe tenant
                    unsafe message.pointee.aggregate = unsafe aggregate
                    unsafe buffer.writeField(24, &message.pointee.base)
                }
            }
        }
    }
}

// MARK: Answers

extension SaveSnapshotReceipt {
    @unsafe init(_ message: UnsafePointer<Martlet__V1__SaveSnapshotResponse>) {
        self.init(
            isKept: unsafe message.pointee.kept != 0, newestVersion: Version(unsafe message.pointee.newest_version))
    }

    func encode(to buffer: inout ByteBuffer) {
        unsafe withMessage(Martlet__V1__SaveSnapshotResponse(), martlet__v1__save_snapshot_response__init) { message in
            unsafe message.pointee.kept = isKept ? 1 : 0
            unsafe message.pointee.newest_version = newestVersion.rawValue
            unsafe buffer.writeField(22, &message.pointee.base)
        }
    }
}

extension LoadedSnapshot {
    @unsafe init?(_ message: UnsafePointer<Martlet__V1__LoadSnapshotResponse>) {
        self.init(skipped: Int(unsafe message.pointee.snapshots_skipped))
        if unsafe message.pointee.snapshot != nil {
            guard let snapshot = unsafe Snapshot(message.pointee.snapshot) else { return nil }
            self.snapshot = snapshot
        }
    }

    func encode(to buffer: inout ByteBuffer) {
        var tail = ByteBuffer()
        snapshot?.encode(field: 1, to: &tail)
        unsafe withMessage(Martlet__V1__LoadSnapshotResponse(), martlet__v1__load_snapshot_response__init) { message in
            unsafe message.pointee.snapshots_skipped = UInt32(clamping: skipped)
            unsafe buffer.writeField(23, &message.pointee.base, tail: tail)
        }
    }
}

/// The answer to listSnapshots.
enum SnapshotListMessage {
    @unsafe static func decode(_ message: UnsafePointer<Martlet__V1__ListSnapshotsResponse>) -> [SnapshotInfo]? {
        var all: [SnapshotInfo] = []
        for index in unsafe 0..<message.pointee.n_snapshots {
            guard let info = unsafe message.pointee.snapshots[index]?.pointee,
                let contentType = unsafe info.content_type.text
            else { return nil }
            all.append(
                SnapshotInfo(
                    version: Version(unsafe info.version),
                    createdAt: Timestamp(microseconds: unsafe info.created_at_micros),
                    schemaVersion: unsafe info.schema_version, contentType: contentType,
                    payloadBytes: Int(clamping: unsafe info.payload_bytes), isIntact: unsafe info.intact != 0))
        }
        return all
    }

    static func encode(_ snapshots: [SnapshotInfo], to buffer: inout ByteBuffer) {
        var parts = ByteBuffer()
        for info in snapshots {
            unsafe withCBytes([info.contentType]) { text in
                unsafe withMessage(Martlet__V1__SnapshotInfo(), martlet__v1__snapshot_info__init) { message in
                    unsafe message.pointee.version = info.version.rawValue
                    unsafe message.pointee.created_at_micros = info.createdAt.microseconds
                    unsafe message.pointee.schema_version = info.schemaVersion
                    unsafe message.pointee.content_type = unsafe text[0]
                    unsafe message.pointee.payload_bytes = UInt64(info.payloadBytes)
                    unsafe message.pointee.intact = info.isIntact ? 1 : 0
                    unsafe parts.writeField(1, &message.pointee.base)
                }
            }
        }
        unsafe withMessage(Martlet__V1__ListSnapshotsResponse(), martlet__v1__list_snapshots_response__init) {
            message in
            unsafe buffer.writeField(24, &message.pointee.base, tail: parts)
        }
    }
}
