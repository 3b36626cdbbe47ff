import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore

/// What opens a worker's stream: over one tenant, or over many.
enum ConsumeRequests {
    @unsafe static func decode(
        _ message: UnsafePointer<Martlet__V1__ConsumeStart>, limits: Limits
    ) throws(MartletError) -> CallRequest {
        let epochAbove = unsafe message.pointee.epoch_above
        guard epochAbove <= ConsumeRequest.epochMax else {
            throw .invalidField("epoch_above", "is \(epochAbove): at most \(ConsumeRequest.epochMax) is allowed")
        }
        let consumer = unsafe message.pointee.consumer
        let keepsTime = unsafe message.pointee.keeps_time != 0
        switch unsafe message.pointee.scope_case {
        case MARTLET__V1__CONSUME_START__SCOPE_TENANTS:
            return .consumeTenants(
                ConsumeTenantsRequest(
                    try unsafe ConsumerName(field: consumer),
                    of: try unsafe tenants(message.pointee.tenants, limits: limits),
                    worker: try unsafe WorkerName(field: message.pointee.worker), epochAbove: epochAbove,
                    keepsTime: keepsTime))
        // What sets neither lacks a tenant.
        default:
            let isSet = unsafe message.pointee.scope_case == MARTLET__V1__CONSUME_START__SCOPE_TENANT
            let tenant = unsafe isSet ? message.pointee.tenant : ProtobufCBinaryData()
            return .consume(
                ConsumeRequest(
                    try unsafe ConsumerID(tenant: tenant, consumer: consumer),
                    worker: try unsafe WorkerName(field: message.pointee.worker), epochAbove: epochAbove,
                    keepsTime: keepsTime))
        }
    }

    @unsafe private static func tenants(
        _ message: UnsafePointer<Martlet__V1__TenantSelection>, limits: Limits
    ) throws(MartletError) -> Set<TenantID> {
        let count = unsafe message.pointee.n_tenants
        guard count <= limits.tenantsPerStreamMax else {
            throw .limitExceeded(
                "tenants_per_stream_max", limit: limits.tenantsPerStreamMax, actual: count,
                "follow fewer tenants in one stream")
        }
        var tenants: Set<TenantID> = []
        for index in 0..<count {
            tenants.insert(try unsafe TenantID(field: message.pointee.tenants[index]))
        }
        return tenants
    }
}

extension ConsumeRequest {
    func encode(to buffer: inout ByteBuffer) {
        unsafe consumer.withCBytes { tenant, name in
            unsafe withCBytes([worker.text]) { text in
                unsafe withMessage(Martlet__V1__ConsumeStart(), martlet__v1__consume_start__init) { message in
                    unsafe message.pointee.scope_case = MARTLET__V1__CONSUME_START__SCOPE_TENANT
                    unsafe message.pointee.tenant = unsafe tenant
                    unsafe message.pointee.consumer = unsafe name
                    unsafe message.pointee.worker = unsafe text[0]
                    unsafe message.pointee.epoch_above = epochAbove
                    unsafe message.pointee.keeps_time = keepsTime ? 1 : 0
                    unsafe buffer.writeField(36, &message.pointee.base)
                }
            }
        }
    }
}

extension ConsumeTenantsRequest {
    func encode(to buffer: inout ByteBuffer) {
        var selection = ByteBuffer()
        for tenant in tenants.sorted() { selection.writeTenant(tenant, field: 1) }
        var part = ByteBuffer()
        unsafe withCBytes([consumer.text, worker.text]) { texts in
            unsafe withMessage(Martlet__V1__ConsumeStart(), martlet__v1__consume_start__init) { message in
                unsafe message.pointee.consumer = unsafe texts[0]
                unsafe message.pointee.worker = unsafe texts[1]
                unsafe message.pointee.epoch_above = epochAbove
                unsafe message.pointee.keeps_time = keepsTime ? 1 : 0
                unsafe part.writeMessage(&message.pointee.base)
            }
        }
        part.writeField(6, length: selection.readableBytes)
        part.writeImmutableBuffer(selection)
        buffer.writeField(36, length: part.readableBytes)
        buffer.writeImmutableBuffer(part)
    }
}
