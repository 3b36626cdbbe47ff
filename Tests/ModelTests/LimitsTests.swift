import Foundation
import MartletModel
import MartletTesting
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
            Broken("consumer_lease_millis must be from 100 to 86400000") { $0.consumerLeaseMillis = 99 },
            Broken("consumer_lease_millis must be from 100 to 86400000") {
                $0.consumerLeaseMillis = Limits.consumerLeaseMillisMax + 1
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
            Broken("consumer_series_max must be at least 1") { $0.consumerSeriesMax = 0 },
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
                $0.consumerSeriesMax = 1
            },
        ]
        for change in edges {
            var limits = Limits()
            change(&limits)
            try limits.validate()
        }
    }

    /// The tables of Docs/PROTOCOL.md name each limit that a client meets, with its default.
    @Test func theProtocolPageGivesTheDefaults() throws {
        let limits = Limits()
        let named: [(name: String, value: Int)] = [
            ("frame_bytes_max", limits.frameBytesMax),
            ("decode_bytes_max", limits.decodeBytesMax(frameBytes: limits.frameBytesMax)),
            ("payload_bytes_max", limits.payloadBytesMax), ("metadata_bytes_max", limits.metadataBytesMax),
            ("snapshot_bytes_max", limits.snapshotBytesMax), ("settings_bytes_max", limits.settingsBytesMax),
            ("events_per_append_max", limits.eventsPerAppendMax),
            ("aggregates_per_append_max", limits.aggregatesPerAppendMax),
            ("filter_values_max", limits.filterValuesMax), ("calls_per_connection_max", limits.callsPerConnectionMax),
            ("connections_max", limits.connectionsMax), ("waiting_append_bytes_max", limits.waitingAppendBytesMax),
            ("waiting_reads_max", limits.waitingReadsMax), ("keepalive_millis", limits.keepaliveMillis),
            ("heartbeat_millis_min", limits.heartbeatMillisMin),
            ("stream_credit_bytes_min", limits.streamCreditBytesMin),
            ("connections_per_address_max", limits.connectionsPerAddressMax),
            ("greeting_connections_max", limits.greetingConnectionsMax),
            ("control_frames_max", limits.controlFramesMax), ("inbound_bytes_max", limits.inboundBytesMax),
            ("outbound_bytes_max", limits.outboundBytesMax), ("call_bytes_max", limits.callBytesMax),
            ("settings_cache_bytes_max", limits.settingsCacheBytesMax),
            ("consumers_per_tenant_max", limits.consumersPerTenantMax),
            ("tenants_per_stream_max", limits.tenantsPerStreamMax),
            ("workers_per_consumer_max", limits.workersPerConsumerMax),
            ("consumer_lease_millis", limits.consumerLeaseMillis), ("replies_max", WorkerReply.countMax),
            ("unblocked_keys_max", UnblockKeysRequest.keysMax),
            ("reject_reason_bytes_max", WorkerReply.reasonBytesMax),
            ("schedules_per_tenant_max", limits.schedulesPerTenantMax),
            ("schedule_changes_max", ScheduleChange.countMax),
        ]
        let page = try ManualPage("PROTOCOL").text
        let section = try #require(
            page.components(separatedBy: "\n## Limits\n").last?.components(separatedBy: "\n## ").first)
        let rows = section.split(separator: "\n").filter { $0.hasPrefix("| `") }.map {
            $0.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
        }
        for limit in named {
            let cells = rows.filter { $0[0].hasPrefix("`\(limit.name)`") }
                .flatMap { $0.dropFirst() }.map { $0.replacing(",", with: "") }
            #expect(cells.contains { $0.split(separator: " ").first == "\(limit.value)" }, "\(limit.name): \(cells)")
        }
    }

    /// Docs/OPERATIONS.md gives the figures of the limits, each part of the sum and the sum.
    @Test func theMemoryOfAServerIsAsDocumented() throws {
        let limits = Limits()
        let page = try ManualPage("OPERATIONS").text
        let paragraph = try #require(page.components(separatedBy: "\n- ").first { $0.hasPrefix("**Memory**") })
        let words = ManualPage.words(of: paragraph)
        func mebibytes(_ bytes: Int) -> String {
            let text = String(bytes >> 20)
            return (bytes >> 20 > 999 ? "\(text.dropLast(3)),\(text.suffix(3))" : text) + " MiB"
        }
        let connections = 100
        let parts = [
            (limits.waitingAppendBytesMax * 5 / 4, "of appends and changes that wait"),
            (2 * limits.commitBytesMax, "of batches"), (limits.inboundBytesMax, "of frames that come in"),
            (limits.outboundBytesMax, "of answers that are read or wait for sockets"),
            (limits.callBytesMax, "of open calls"), (limits.tailBytesMax, "of recent events"),
            (limits.recentPageBytesMax, "of pages read for subscribers"),
            (2 * limits.settingsCacheBytesMax, "of settings"),
            (Limits.processBytesMax, "for the process, its storage threads and the engine's caches"),
        ]
        for part in parts { #expect(words.contains("\(mebibytes(part.0)) \(part.1)"), "\(words)") }
        let sum = limits.memoryBytesMax(connections: 0)
        #expect(sum == parts.reduce(0) { $0 + $1.0 })
        #expect(
            words.contains(
                "at most \(mebibytes(sum)) and \(Limits.connectionBytesMax >> 10) KiB for each connection, whatever peers do; "
                    + "with \(connections) connections \(mebibytes(limits.memoryBytesMax(connections: connections)))"),
            "\(words)")
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
