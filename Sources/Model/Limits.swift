/// Every bound of the server, in one place; Welcome reports those that a client needs to know.
///
/// Bytes are bytes of the encoded message. The relations between the limits are checked by
/// ``validate()`` when a server starts.
public struct Limits: Hashable, Sendable {
    /// One frame, without its 5 bytes of prefix.
    public var frameBytesMax = 8 << 20
    /// The payload of one event.
    public var payloadBytesMax = 1 << 20
    /// The metadata of one event.
    public var metadataBytesMax = 16 << 10
    /// The payload of one snapshot. The message that it comes in is within 4 MiB, which is what clients of gRPC take unless
    /// they are set otherwise.
    public var snapshotBytesMax = (4 << 20) - Self.frameEnvelopeBytes
    /// Settings of one kind of one tenant: the document's length.
    public var settingsBytesMax = 1 << 20
    /// Tenants whose settings are held in memory.
    public var settingsTenantsMax = 10_000
    /// Settings that are held in memory, over all tenants: the documents and what was compiled of them.
    public var settingsCacheBytesMax = 64 << 20
    /// Events of one append.
    public var eventsPerAppendMax = 1_000
    /// Aggregates of one append.
    public var aggregatesPerAppendMax = 100
    /// Open calls of one connection.
    public var callsPerConnectionMax = 1_024
    /// Open connections of the server that have said Hello.
    public var connectionsMax = 10_000
    /// Open connections of one address: an IPv4 address, an IPv6 network of 64 bits, loopback too.
    public var connectionsPerAddressMax = 5_000
    /// Open connections of the server that have not said Hello yet, on top of ``connectionsMax``.
    public var greetingConnectionsMax = 1_024
    /// Frames of one connection that open no call (pings, pongs, credit, calls that are refused), at once; answers and
    /// time make room for more.
    public var controlFramesMax = 10_000
    /// Such frames per second, sustained.
    public var controlFramesPerSecondMax = 1_000
    /// Values of one filter.
    public var filterValuesMax = 256
    /// Appends that wait for their commit, over all tenants. One tenant alone gets at most half of what
    /// is free, so that the others always find room.
    public var waitingAppendBytesMax = 64 << 20
    /// Idle time after which the server pings; after twice as long it closes the connection.
    public var keepaliveMillis = 30_000
    /// How long a connection over HTTP/2 is kept, a tenth more or less, before it is drained; 0 for as long as its peer likes.
    public var connectionAgeMillis = 0
    /// Time from accept to a finished TLS handshake, and again to Hello.
    public var handshakeMillis = 10_000
    /// How long a connection may refuse to take bytes before it is closed.
    public var writeStallMillis = 60_000
    /// Idle time of a subscription after which a heartbeat comes, unless the subscriber says otherwise.
    public var heartbeatMillis = 10_000
    /// The shortest heartbeat that a subscriber may ask for.
    public var heartbeatMillisMin = 100
    /// Events of one page, encoded: a load, a read and a subscription send parts of at most this size, or
    /// of one event where that is larger.
    public var pageBytesMax = 256 << 10
    /// Events that a filtered read looks at before it answers, so that a rare match holds up no reader.
    public var pageScanEventsMax = 10_000
    /// Recent events of one tenant that the hub keeps in memory for live subscribers.
    public var tailBytesPerTenantMax = 4 << 20
    /// Recent events that the hub keeps in memory over all tenants.
    public var tailBytesMax = 128 << 20
    /// Bytes of pages that were read for subscriptions and are kept for those that follow closely.
    public var recentPageBytesMax = 8 << 20
    /// Bytes of events that one group commit takes.
    public var commitBytesMax = 8 << 20
    /// Events that one group commit takes.
    public var commitEventsMax = 4_096
    /// Reads that wait for a storage thread or are under way, over all tenants. One tenant alone gets at most half.
    public var waitingReadsMax = 16_384
    /// The upcasters of one tenant.
    public var upcasting = UpcastingLimits()
    /// Consumers of one tenant.
    public var consumersPerTenantMax = 10_000
    /// Workers of one consumer, on all servers.
    public var workersPerConsumerMax = 1_000
    /// For so long a worker counts as present after it was last heard of; at most ``consumerLeaseMillisMax``.
    public var consumerLeaseMillis = 10_000
    /// A day: a worker's row that is damaged keeps others from its slots no longer.
    public static let consumerLeaseMillisMax = 86_400_000
    /// Tenants that one worker's stream follows.
    public var tenantsPerStreamMax = 1_000
    /// How far consumers have come is stored so often at most.
    public var consumerProgressMillis = 100
    /// Consumers that have metrics of their own; those of one tenant alone get at most half of them.
    public var consumerSeriesMax = 200
    /// Schedules of one tenant, parked ones among them.
    public var schedulesPerTenantMax = 1_000_000

    /// Frames that are under way to the server, over all connections, as far as one is longer than
    /// ``inboundFreeBytes``.
    public var inboundBytesMax = 128 << 20
    /// What each connection may have under way to the server without an account.
    public var inboundFreeBytes = 64 << 10
    /// Pages and answers that are read or wait for a socket, over all connections.
    public var outboundBytesMax = 256 << 20
    /// Bytes that the socket of each connection may owe without an account.
    public var outboundFreeBytes = 64 << 10
    /// What open calls hold beside their events, over all connections: requests, filters, state.
    public var callBytesMax = 128 << 20

    /// The process itself, its storage threads with a page and an upcast payload each, and the engine's caches.
    public static let processBytesMax = 512 << 20
    /// What a connection may take beside the pools: TLS, the read that is under way, a page beyond its account.
    public static let connectionBytesMax = 512 << 10

    /// What a frame may hold beside one payload, page or snapshot: names, metadata, keys.
    public static let frameEnvelopeBytes = 64 << 10

    /// The default limits.
    public init() {}

    /// File descriptors that a server with these limits may need: a connection takes one, and 256 are for storage, logs,
    /// listening, and connections that are being closed.
    public var fileDescriptorsMax: Int { connectionsMax + greetingConnectionsMax + 256 }

    /// The memory that decoding one frame of that many bytes may take: 64 KiB plus the lesser of
    /// 32 times its size and 32 MiB.
    public func decodeBytesMax(frameBytes: Int) -> Int {
        (64 << 10) + min(32 * frameBytes, 32 << 20)
    }

    /// The part of ``decodeBytesMax(frameBytes:)`` that a message may take as protobuf-c unpacks it: three quarters. The
    /// rest is for what is made of it, or said about it.
    public func unpackBytesMax(frameBytes: Int) -> Int {
        let bytes = decodeBytesMax(frameBytes: frameBytes)
        return bytes - bytes / 4
    }

    /// The credit with which no stream ever stalls: nothing that is sent is larger than a frame, whatever an
    /// event's limits were when it was stored.
    public var streamCreditBytesMin: Int { frameBytesMax }

    /// The payload of one event that upcasters have changed: it may be twice as long as a stored one, as far as a
    /// frame holds it.
    public var upcastPayloadBytesMax: Int {
        max(payloadBytesMax, min(2 * payloadBytesMax, frameBytesMax - metadataBytesMax - (64 << 10)))
    }

    /// The memory that a server with these limits may need, in bytes, with this many connections: its pools and queues,
    /// and for each connection ``connectionBytesMax``.
    ///
    /// It is a bound on what peers can cause. ``processBytesMax`` of it is not a pool.
    public func memoryBytesMax(connections: Int) -> Int {
        let queues = waitingAppendBytesMax + waitingAppendBytesMax / 4 + 2 * commitBytesMax
        let pools = inboundBytesMax + outboundBytesMax + callBytesMax
        // Settings that calls still use after the cache dropped them may take as much again.
        let caches = tailBytesMax + recentPageBytesMax + 2 * settingsCacheBytesMax
        return Self.processBytesMax + queues + pools + caches + connections * Self.connectionBytesMax
    }

    /// Checks the relations between the limits.
    /// - Throws: ``MartletError`` with reason `INVALID_LIMITS`, naming the relation that does not hold.
    public func validate() throws(MartletError) {
        func require(_ holds: Bool, _ relation: String) throws(MartletError) {
            guard holds else {
                throw MartletError(
                    .invalidArgument, reason: .invalidLimits, message: "the limits contradict each other: \(relation)")
            }
        }
        let envelope = Self.frameEnvelopeBytes
        try require((1...(7 << 20)).contains(payloadBytesMax), "payload_bytes_max must be from 1 byte to 7 MiB")
        try require(metadataBytesMax >= 1, "metadata_bytes_max must be at least 1")
        try require(
            payloadBytesMax + metadataBytesMax + envelope <= frameBytesMax,
            "frame_bytes_max must hold one event of payload_bytes_max and metadata_bytes_max plus 64 KiB")
        try require(
            snapshotBytesMax >= 1 && snapshotBytesMax + envelope <= frameBytesMax,
            "frame_bytes_max must hold one snapshot of snapshot_bytes_max plus 64 KiB")
        try require(
            settingsBytesMax >= 1 && settingsBytesMax + envelope <= frameBytesMax,
            "frame_bytes_max must hold settings of settings_bytes_max plus 64 KiB")
        try require(
            settingsCacheBytesMax >= SettingsKind.all.count * settingsBytesMax,
            "settings_cache_bytes_max must hold all settings of one tenant")
        try require(frameBytesMax <= 1 << 30, "frame_bytes_max must be at most 1 GiB")
        try require(pageBytesMax + envelope <= frameBytesMax, "frame_bytes_max must hold one page plus 64 KiB")
        try require(
            waitingAppendBytesMax >= 2 * frameBytesMax, "waiting_append_bytes_max must be at least two frames")
        try require(
            inboundBytesMax >= 2 * frameBytesMax, "inbound_bytes_max must be at least two frames")
        try require(
            outboundBytesMax >= 4 * frameBytesMax, "outbound_bytes_max must be at least four frames")
        try require(callBytesMax >= 1 << 20, "call_bytes_max must be at least 1 MiB")
        try require(
            tailBytesMax >= tailBytesPerTenantMax, "tail_bytes_max must be at least tail_bytes_per_tenant_max")
        try require(
            100...Self.consumerLeaseMillisMax ~= consumerLeaseMillis,
            "consumer_lease_millis must be from 100 to \(Self.consumerLeaseMillisMax)")
        for (name, value) in [
            ("events_per_append_max", eventsPerAppendMax), ("aggregates_per_append_max", aggregatesPerAppendMax),
            ("calls_per_connection_max", callsPerConnectionMax), ("connections_max", connectionsMax),
            ("connections_per_address_max", connectionsPerAddressMax),
            ("greeting_connections_max", greetingConnectionsMax),
            ("control_frames_max", controlFramesMax),
            ("control_frames_per_second_max", controlFramesPerSecondMax), ("commit_events_max", commitEventsMax),
            ("commit_bytes_max", commitBytesMax),
            ("page_scan_events_max", pageScanEventsMax), ("waiting_reads_max", waitingReadsMax),
            ("keepalive_millis", keepaliveMillis), ("handshake_millis", handshakeMillis),
            ("heartbeat_millis_min", heartbeatMillisMin), ("settings_tenants_max", settingsTenantsMax),
            ("consumers_per_tenant_max", consumersPerTenantMax), ("workers_per_consumer_max", workersPerConsumerMax),
            ("tenants_per_stream_max", tenantsPerStreamMax), ("consumer_progress_millis", consumerProgressMillis),
            ("consumer_series_max", consumerSeriesMax), ("schedules_per_tenant_max", schedulesPerTenantMax),
        ] {
            try require(value >= 1, "\(name) must be at least 1")
        }
    }
}
