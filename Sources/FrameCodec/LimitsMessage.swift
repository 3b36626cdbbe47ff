import CMartletProtos
import MartletModel

extension Limits {
    /// Calls `body` with the limits as protobuf-c sees them.
    @unsafe func withMessage<Result>(
        _ body: (UnsafeMutablePointer<Martlet__V1__Limits>) throws -> Result
    ) rethrows -> Result {
        try unsafe MartletFrameCodec.withMessage(Martlet__V1__UpcasterLimits(), martlet__v1__upcaster_limits__init) {
            upcasters in
            unsafe upcasters.pointee.document_bytes_max = UInt64(upcasting.documentBytesMax)
            unsafe upcasters.pointee.document_depth_max = UInt64(upcasting.documentDepthMax)
            unsafe upcasters.pointee.steps_max = UInt64(upcasting.stepsMax)
            unsafe upcasters.pointee.operations_per_step_max = UInt64(upcasting.operationsPerStepMax)
            unsafe upcasters.pointee.chain_steps_max = UInt64(upcasting.chainStepsMax)
            unsafe upcasters.pointee.table_entries_max = UInt64(upcasting.tableEntriesMax)
            return try unsafe MartletFrameCodec.withMessage(Martlet__V1__Limits(), martlet__v1__limits__init) {
                message in
                unsafe message.pointee.frame_bytes_max = UInt64(frameBytesMax)
                unsafe message.pointee.payload_bytes_max = UInt64(payloadBytesMax)
                unsafe message.pointee.metadata_bytes_max = UInt64(metadataBytesMax)
                unsafe message.pointee.events_per_append_max = UInt64(eventsPerAppendMax)
                unsafe message.pointee.aggregates_per_append_max = UInt64(aggregatesPerAppendMax)
                unsafe message.pointee.calls_per_connection_max = UInt64(callsPerConnectionMax)
                unsafe message.pointee.connections_max = UInt64(connectionsMax)
                unsafe message.pointee.filter_values_max = UInt64(filterValuesMax)
                unsafe message.pointee.waiting_append_bytes_max = UInt64(waitingAppendBytesMax)
                unsafe message.pointee.keepalive_millis = UInt64(keepaliveMillis)
                unsafe message.pointee.snapshot_bytes_max = UInt64(snapshotBytesMax)
                unsafe message.pointee.settings_bytes_max = UInt64(settingsBytesMax)
                unsafe message.pointee.stream_credit_bytes_min = UInt64(streamCreditBytesMin)
                unsafe message.pointee.decode_bytes_max = UInt64(decodeBytesMax(frameBytes: frameBytesMax))
                unsafe message.pointee.waiting_reads_max = UInt64(waitingReadsMax)
                unsafe message.pointee.heartbeat_millis_min = UInt64(heartbeatMillisMin)
                unsafe message.pointee.upcasters = unsafe upcasters
                unsafe message.pointee.consumers_per_tenant_max = UInt64(consumersPerTenantMax)
                unsafe message.pointee.workers_per_consumer_max = UInt64(workersPerConsumerMax)
                unsafe message.pointee.consumer_lease_millis = UInt64(consumerLeaseMillis)
                unsafe message.pointee.schedules_per_tenant_max = UInt64(schedulesPerTenantMax)
                unsafe message.pointee.tenants_per_stream_max = UInt64(tenantsPerStreamMax)
                return try unsafe body(message)
            }
        }
    }

    /// No limit that is sent counts as more: sums and products of a few of them are computed, and must not overflow.
    private static let sentMax: UInt64 = 1 << 40

    /// Takes what was sent; of the fields that were added later, an older server sends none.
    @unsafe mutating func take(_ message: UnsafePointer<Martlet__V1__Limits>) {
        let sent = unsafe message.pointee
        unsafe frameBytesMax = Self.taken(sent.frame_bytes_max)
        unsafe payloadBytesMax = Self.taken(sent.payload_bytes_max)
        unsafe metadataBytesMax = Self.taken(sent.metadata_bytes_max)
        unsafe eventsPerAppendMax = Self.taken(sent.events_per_append_max)
        unsafe aggregatesPerAppendMax = Self.taken(sent.aggregates_per_append_max)
        unsafe callsPerConnectionMax = Self.taken(sent.calls_per_connection_max)
        unsafe connectionsMax = Self.taken(sent.connections_max)
        unsafe filterValuesMax = Self.taken(sent.filter_values_max)
        unsafe waitingAppendBytesMax = Self.taken(sent.waiting_append_bytes_max)
        unsafe keepaliveMillis = Self.taken(sent.keepalive_millis)
        unsafe snapshotBytesMax = Self.taken(sent.snapshot_bytes_max)
        func replace(_ limit: inout Int, _ sent: UInt64) { if sent > 0 { limit = Self.taken(sent) } }
        unsafe replace(&settingsBytesMax, sent.settings_bytes_max)
        unsafe replace(&waitingReadsMax, sent.waiting_reads_max)
        unsafe replace(&heartbeatMillisMin, sent.heartbeat_millis_min)
        unsafe replace(&consumersPerTenantMax, sent.consumers_per_tenant_max)
        unsafe replace(&workersPerConsumerMax, sent.workers_per_consumer_max)
        unsafe replace(&consumerLeaseMillis, sent.consumer_lease_millis)
        unsafe replace(&schedulesPerTenantMax, sent.schedules_per_tenant_max)
        unsafe replace(&tenantsPerStreamMax, sent.tenants_per_stream_max)
        guard let upcasters = unsafe sent.upcasters?.pointee else { return }
        unsafe replace(&upcasting.documentBytesMax, upcasters.document_bytes_max)
        unsafe replace(&upcasting.documentDepthMax, upcasters.document_depth_max)
        unsafe replace(&upcasting.stepsMax, upcasters.steps_max)
        unsafe replace(&upcasting.operationsPerStepMax, upcasters.operations_per_step_max)
        unsafe replace(&upcasting.chainStepsMax, upcasters.chain_steps_max)
        unsafe replace(&upcasting.tableEntriesMax, upcasters.table_entries_max)
    }

    private static func taken(_ sent: UInt64) -> Int { Int(clamping: min(sent, sentMax)) }
}
