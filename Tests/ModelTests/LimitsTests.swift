import MartletModel
import Testing

@Suite struct LimitsTests {
    /// A change that breaks one relation, and words that the complaint must hold.
    struct Broken: Sendable, CustomTestStringConvertible {
        var words: String
        var change: @Sendable (inout Limits) -> Void
        var testDescription: String { words }

        init(_ words: String, _ change: @escaping @Sendable (inout Limits) -> Void) {
            self.words = words
            self.change = change
        }

        static let all = [
            Broken("payload_bytes_max must be from 1 byte to 7 MiB") { $0.payloadBytesMax = 0 },
            Broken("payload_bytes_max must be from 1 byte to 7 MiB") { $0.payloadBytesMax = (7 << 20) + 1 },
            Broken("metadata_bytes_max must be at least 1") { $0.metadataBytesMax = 0 },
            Broken("inbound_bytes_max must be at least two frames") { $0.inboundBytesMax = (16 << 20) - 1 },
            Broken("outbound_bytes_max must be at least four frames") { $0.outboundBytesMax = (32 << 20) - 1 },
            Broken("call_bytes_max must be at least 1 MiB") { $0.callBytesMax = (1 << 20) - 1 },
            Broken("frame_bytes_max must hold one event") {
                $0.pageBytesMax = 1
                $0.snapshotBytesMax = 1
                $0.settingsBytesMax = 1
                $0.frameBytesMax = $0.payloadBytesMax + $0.metadataBytesMax + (64 << 10) - 1
            },
            Broken("frame_bytes_max must be at most 1 GiB") {
                $0.frameBytesMax = (1 << 30) + 1
                $0.waitingAppendBytesMax = 4 << 30
            },
            Broken("frame_bytes_max must hold one page") { $0.pageBytesMax = $0.frameBytesMax - (64 << 10) + 1 },
            Broken("frame_bytes_max must hold one snapshot") {
                $0.snapshotBytesMax = $0.frameBytesMax - (64 << 10) + 1
            },
            Broken("frame_bytes_max must hold one snapshot") { $0.snapshotBytesMax = 0 },
            Broken("frame_bytes_max must hold settings") {
                $0.settingsBytesMax = $0.frameBytesMax - (64 << 10) + 1
            },
            Broken("settings_tenants_max must be at least 1") { $0.settingsTenantsMax = 0 },
            Broken("waiting_append_bytes_max must be at least two frames") {
                $0.waitingAppendBytesMax = 2 * $0.frameBytesMax - 1
            },
            Broken("tail_bytes_max must be at least tail_bytes_per_tenant_max") {
                $0.tailBytesMax = $0.tailBytesPerTenantMax - 1
            },
            Broken("events_per_append_max must be at least 1") { $0.eventsPerAppendMax = 0 },
            Broken("aggregates_per_append_max must be at least 1") { $0.aggregatesPerAppendMax = 0 },
            Broken("calls_per_connection_max must be at least 1") { $0.callsPerConnectionMax = 0 },
            Broken("connections_max must be at least 1") { $0.connectionsMax = 0 },
            Broken("commit_events_max must be at least 1") { $0.commitEventsMax = 0 },
            Broken("commit_bytes_max must be at least 1") { $0.commitBytesMax = 0 },
            Broken("page_scan_events_max must be at least 1") { $0.pageScanEventsMax = 0 },
            Broken("waiting_reads_max must be at least 1") { $0.waitingReadsMax = 0 },
            Broken("keepalive_millis must be at least 1") { $0.keepaliveMillis = 0 },
            Broken("handshake_millis must be at least 1") { $0.handshakeMillis = 0 },
            Broken("heartbeat_millis_min must be at least 1") { $0.heartbeatMillisMin = 0 },
        ]
    }

    @Test func theDefaultsAgree() throws { try Limits().validate() }

    @Test(arguments: Broken.all)
    func aBrokenRelationIsNamed(_ broken: Broken) {
        var limits = Limits()
        broken.change(&limits)
        let error = #expect(throws: MartletError.self) { try limits.validate() }
        #expect(error?.reason == .invalidLimits && error?.code == .invalidArgument && error?.isRetryable == false)
        #expect(error?.message.contains(broken.words) == true, "\(error?.message ?? "")")
    }

    @Test func eachRelationHoldsAtItsEdge() throws {
        let edges: [(inout Limits) -> Void] = [
            { $0.payloadBytesMax = 1 },
            { $0.payloadBytesMax = 7 << 20 },
            { $0.metadataBytesMax = 1 },
            {
                $0.pageBytesMax = 1
                $0.snapshotBytesMax = 1
                $0.settingsBytesMax = 1
                $0.frameBytesMax = $0.payloadBytesMax + $0.metadataBytesMax + (64 << 10)
            },
            {
                $0.frameBytesMax = 1 << 30
                $0.waitingAppendBytesMax = 2 << 30
                $0.inboundBytesMax = 2 << 30
                $0.outboundBytesMax = 4 << 30
            },
            { $0.pageBytesMax = $0.frameBytesMax - (64 << 10) },
            { $0.snapshotBytesMax = $0.frameBytesMax - (64 << 10) },
            { $0.settingsBytesMax = $0.frameBytesMax - (64 << 10) },
            { $0.waitingAppendBytesMax = 2 * $0.frameBytesMax },
            { $0.inboundBytesMax = 2 * $0.frameBytesMax },
            { $0.outboundBytesMax = 4 * $0.frameBytesMax },
            { $0.callBytesMax = 1 << 20 },
            { $0.tailBytesMax = $0.tailBytesPerTenantMax },
            {
                $0.eventsPerAppendMax = 1
                $0.aggregatesPerAppendMax = 1
                $0.callsPerConnectionMax = 1
                $0.connectionsMax = 1
                $0.commitEventsMax = 1
                $0.commitBytesMax = 1
                $0.pageScanEventsMax = 1
                $0.waitingReadsMax = 1
                $0.keepaliveMillis = 1
                $0.handshakeMillis = 1
                $0.heartbeatMillisMin = 1
            },
        ]
        for change in edges {
            var limits = Limits()
            change(&limits)
            try limits.validate()
        }
    }

    /// The figures that Docs/OPERATIONS.md gives.
    @Test func theMemoryOfAServerIsTheSumOfItsPools() {
        let limits = Limits()
        #expect(limits.memoryBytesMax(connections: 0) == 1_384 << 20)
        #expect(limits.memoryBytesMax(connections: 100) == 1_434 << 20)
    }

    @Test func theMemoryOfOneFrameIsBounded() {
        let limits = Limits()
        #expect(limits.decodeBytesMax(frameBytes: 0) == 64 << 10)
        #expect(limits.decodeBytesMax(frameBytes: 1) == (64 << 10) + 32)
        #expect(limits.decodeBytesMax(frameBytes: 1 << 20) == (64 << 10) + (32 << 20))
        #expect(limits.decodeBytesMax(frameBytes: 8 << 20) == (64 << 10) + (32 << 20))
        #expect(limits.unpackBytesMax(frameBytes: 0) == 48 << 10)
        #expect(limits.unpackBytesMax(frameBytes: 8 << 20) == (48 << 10) + (24 << 20), "the largest payload fits")
    }
}
