import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletSession
import NIOCore

// Welcome and GetServerInfoResponse say the same of a server, under other numbers.

extension Welcome {
    func encode(to buffer: inout ByteBuffer) {
        unsafe server.withParts { version, identity, limits in
            unsafe withMessage(Martlet__V1__Welcome(), martlet__v1__welcome__init) { message in
                unsafe message.pointee.protocol_version = protocolVersion
                unsafe message.pointee.server_version = unsafe version
                unsafe message.pointee.all_tenants = server.scope == .all ? 1 : 0
                unsafe message.pointee.identity = unsafe identity
                unsafe message.pointee.limits = unsafe limits
                unsafe message.pointee.server_time_micros = server.serverTime.microseconds
                unsafe buffer.writeField(4, &message.pointee.base, tail: server.tenants(field: 3))
            }
        }
    }

    /// What travels of the limits replaces `local`.
    @unsafe init?(_ message: UnsafePointer<Martlet__V1__Welcome>, local: Limits) {
        let message = unsafe message.pointee
        let tenants = unsafe UnsafeBufferPointer(start: message.tenants, count: message.n_tenants)
        guard
            let scope = unsafe TenantScope(all: message.all_tenants, tenants),
            let server = unsafe ServerInfo(
                version: message.server_version, scope, identity: message.identity, message.limits, local: local,
                timeMicros: message.server_time_micros)
        else { return nil }
        self.init(protocolVersion: unsafe message.protocol_version, server: server)
    }
}

extension ServerInfo {
    /// Writes the answer as its field of ServerFrame.
    func encode(to buffer: inout ByteBuffer) {
        var tail = tenants(field: 2)
        for feature in features {
            tail.writeField(7, length: feature.utf8.count)
            tail.writeString(feature)
        }
        unsafe withParts { version, identity, limits in
            unsafe withMessage(
                Martlet__V1__GetServerInfoResponse(), martlet__v1__get_server_info_response__init
            ) { message in
                unsafe message.pointee.server_version = unsafe version
                unsafe message.pointee.all_tenants = scope == .all ? 1 : 0
                unsafe message.pointee.identity = unsafe identity
                unsafe message.pointee.limits = unsafe limits
                unsafe message.pointee.server_time_micros = serverTime.microseconds
                unsafe buffer.writeField(39, &message.pointee.base, tail: tail)
            }
        }
    }

    /// What travels of the limits replaces `local`.
    @unsafe init?(_ message: UnsafePointer<Martlet__V1__GetServerInfoResponse>, local: Limits) {
        let message = unsafe message.pointee
        let tenants = unsafe UnsafeBufferPointer(start: message.tenants, count: message.n_tenants)
        guard
            let scope = unsafe TenantScope(all: message.all_tenants, tenants),
            var info = unsafe ServerInfo(
                version: message.server_version, scope, identity: message.identity, message.limits, local: local,
                timeMicros: message.server_time_micros)
        else { return nil }
        for index in unsafe 0..<message.n_features {
            guard let feature = unsafe message.features[index].text else { return nil }
            info.features.append(feature)
        }
        self = info
    }

    @unsafe fileprivate init?(
        version: ProtobufCBinaryData, _ scope: TenantScope, identity: ProtobufCBinaryData,
        _ sent: UnsafePointer<Martlet__V1__Limits>?, local: Limits, timeMicros: Int64
    ) {
        guard let version = unsafe version.text, let identity = unsafe identity.text else { return nil }
        var limits = local
        if let sent = unsafe sent { unsafe limits.take(sent) }
        self.init(
            serverVersion: version, scope: scope, identity: identity, limits: limits,
            serverTime: Timestamp(microseconds: timeMicros))
    }

    /// Calls `body` with the version, the identity and the limits as protobuf-c sees them.
    @unsafe fileprivate func withParts(
        _ body: (ProtobufCBinaryData, ProtobufCBinaryData, UnsafeMutablePointer<Martlet__V1__Limits>) -> Void
    ) {
        unsafe withCBytes([serverVersion, identity]) { text in
            unsafe limits.withMessage { unsafe body(text[0], text[1], $0) }
        }
    }

    /// The tenants of the scope as fields of that number, sorted; none where all are allowed.
    fileprivate func tenants(field: UInt32) -> ByteBuffer {
        var fields = ByteBuffer()
        guard case .only(let allowed) = scope else { return fields }
        for tenant in allowed.sorted() { fields.writeTenant(tenant, field: field) }
        return fields
    }
}

extension TenantScope {
    /// Nil where a tenant is not 16 bytes.
    @unsafe fileprivate init?(all: protobuf_c_boolean, _ tenants: UnsafeBufferPointer<ProtobufCBinaryData>) {
        var allowed: Set<TenantID> = []
        for index in tenants.indices {
            guard let id = unsafe tenants[index].uuid else { return nil }
            allowed.insert(TenantID(id))
        }
        self = all != 0 ? .all : .only(allowed)
    }
}
