import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletSession
import NIOCore

/// One frame of each kind, by the name that it has in Docs/PROTOCOL.md.
enum GoldenFrames {
    static let tenant = TenantID(UUID(high: 0x0000_0000_0000_4000, low: 0x8000_0000_0000_0001))
    static let eventID = UUID(high: 0x0196_f3a0_7c5e_7c5e, low: 0x8c5e_7c5e_0196_f3a0)
    static let order = AggregateName(
        type: "order",
        id: UUID(high: 0x1111_1111_1111_4111, low: 0x8111_1111_1111_1111))
    static let placed = EventType("Placed")
    static let recordedAt = Timestamp(microseconds: 1_767_225_600_000_000)

    static var event: NewEvent {
        var metadata = EventMetadata()
        metadata.userID = "u1"
        metadata.tags = ["a": "b"]
        return NewEvent(id: eventID, type: placed, metadata: metadata, payload: ByteBuffer(string: #"{"n":1}"#))
    }

    static func encoded() throws -> EncodedEvent { try EncodedEvent(event) }

    static func entries() throws -> ByteBuffer {
        var entries = ByteBuffer()
        RecordedEntries.write(
            position: Position(7), version: Version(1), recordedAt: recordedAt, aggregate: order,
            body: try encoded().body, to: &entries)
        return entries
    }

    static var appendCheckpoint: AppendCheckpoint {
        AppendCheckpoint(
            consumer: consumer.name, slot: 11, epoch: 3, event: Checkpoint(position: Position(7), eventID: eventID),
            key: blockedPlace.key, isKeyBlocked: false)
    }

    static let head = TenantHead(position: Position(7), recordedAt: recordedAt)

    static func client() throws -> [(String, ClientFrame)] {
        [
            ("hello", ClientFrame(.connection, .hello(Hello(clientName: "demo/1")))),
            ("credit", ClientFrame(CallID(3), .credit(65_536))),
            ("cancel", ClientFrame(CallID(3), .cancel)),
            ("client ping", ClientFrame(.connection, .ping(42))),
            ("client pong", ClientFrame(.connection, .pong(42))),
            (
                "append request",
                ClientFrame(
                    CallID(1),
                    .request(
                        .append(
                            AppendRequest(
                                tenant: tenant,
                                aggregates: [
                                    AggregateAppend(aggregate: order, expected: .none, events: [try encoded()])
                                ]))), timeoutMillis: 5_000)
            ),
            (
                "load request",
                ClientFrame(
                    CallID(2),
                    .request(.load(LoadRequest(tenant: tenant, aggregate: order, target: .position(Position(7))))),
                    creditBytes: 1_048_576)
            ),
            (
                "read request",
                ClientFrame(
                    CallID(3),
                    .request(
                        .read(
                            ReadRequest(
                                tenant: tenant, after: Position(5), direction: .backward,
                                filter: EventFilter(eventTypes: [placed]), eventsMax: 10))), creditBytes: 1_048_576)
            ),
            (
                "subscribe request",
                ClientFrame(
                    CallID(4),
                    .request(
                        .subscribe(
                            SubscribeRequest(tenant: tenant, start: .after(Position(5)), heartbeatMillis: 1_000))),
                    creditBytes: 1_048_576)
            ),
            ("get_head request", ClientFrame(CallID(5), .request(.getHead(tenant)))),
            ("get_status request", ClientFrame(CallID(6), .request(.getStatus))),
            ("get_server_info request", ClientFrame(CallID(38), .request(.getServerInfo))),
            (
                "append request with a snapshot",
                ClientFrame(
                    CallID(7),
                    .request(
                        .append(
                            AppendRequest(
                                tenant: tenant,
                                aggregates: [
                                    AggregateAppend(
                                        aggregate: order, expected: .none, events: [try encoded()], snapshot: state)
                                ]))))
            ),
            (
                "append request with a checkpoint",
                ClientFrame(
                    CallID(24),
                    .request(
                        .append(
                            AppendRequest(
                                tenant: tenant,
                                aggregates: [
                                    AggregateAppend(aggregate: order, expected: .none, events: [try encoded()])
                                ], checkpoint: appendCheckpoint))))
            ),
            (
                "load request with a snapshot",
                ClientFrame(
                    CallID(8),
                    .request(
                        .load(
                            LoadRequest(
                                tenant: tenant, aggregate: order, snapshot: SnapshotUse(schemaVersions: [2, 3]),
                                upcasting: UpcastingOptions(onFailure: .raw, stopAt: [placed: 2])))),
                    creditBytes: 8_388_608)
            ),
            (
                "save_snapshot request",
                ClientFrame(
                    CallID(9),
                    .request(
                        .saveSnapshot(
                            SaveSnapshotRequest(tenant: tenant, aggregate: order, version: Version(1), snapshot: state))
                    ))
            ),
            (
                "load_snapshot request",
                ClientFrame(
                    CallID(10),
                    .request(.loadSnapshot(LoadSnapshotRequest(tenant: tenant, aggregate: order, upcasting: .raw))))
            ),
            ("list_snapshots request", ClientFrame(CallID(11), .request(.listSnapshots(tenant, order)))),
            (
                "delete_snapshots request",
                ClientFrame(
                    CallID(12),
                    .request(
                        .deleteSnapshots(
                            DeleteSnapshotsRequest(tenant: tenant, aggregate: order, version: Version(1)))))
            ),
            (
                "put_settings request",
                ClientFrame(
                    CallID(13),
                    .request(
                        .putSettings(
                            PutSettingsRequest(
                                tenant: tenant, kind: .snapshotPolicies, document: policies, expectedRevision: 4))))
            ),
            ("get_settings request", ClientFrame(CallID(14), .request(.getSettings(tenant, .snapshotPolicies)))),
        ] + clientOfConsumers() + (try clientOfSchedules())
    }

    static let state = NewSnapshot(schemaVersion: 2, payload: ByteBuffer(string: #"{"n":1}"#))
    static let snapshot = Snapshot(
        version: Version(1), createdAt: recordedAt, schemaVersion: 3, storedSchemaVersion: 2,
        contentType: NewEvent.json, payload: ByteBuffer(string: #"{"count":1}"#))
    static let policies = ByteBuffer(string: #"{"policies":[{"every_events":100}]}"#)

    /// The event of ``entries()`` as an upcaster has made it.
    static func upcastEntries() throws -> ByteBuffer {
        var stored = try entries()
        var upcast = ByteBuffer()
        if let record = try RecordedEntries.nextRecord(of: &stored), let layout = RecordLayout(record) {
            layout.writeEntry(
                of: record, type: "Ordered", schemaVersion: 2, payload: ByteBuffer(string: #"{"count":1}"#),
                to: &upcast)
        }
        return upcast
    }

    static func server() throws -> [(String, ServerFrame)] {
        var status = ServerStatus()
        status.serverVersion = "0.1.0"
        status.storageEngine = "sqlite"
        status.storageReady = true
        status.schemaVersion = 1
        status.uptimeMicros = 1_000_000
        status.serverTime = recordedAt
        status.connections = 1
        return [
            (
                "welcome",
                ServerFrame(
                    .connection,
                    .welcome(
                        Welcome(
                            protocolVersion: 1, serverVersion: "0.1.0", scope: .only([tenant]), identity: "CN=demo",
                            limits: Limits(), serverTime: recordedAt)))
            ),
            ("status OK", ServerFrame(CallID(2), .status(nil))),
            (
                "status VERSION_CONFLICT",
                ServerFrame(
                    CallID(1),
                    .status(
                        MartletError(
                            .aborted, reason: .versionConflict, message: "conflict",
                            conflicts: [
                                VersionConflict(
                                    aggregate: order, expected: .none, actual: Version(1), events: try entries())
                            ])))
            ),
            (
                "status EVENT_ID_REUSED",
                ServerFrame(
                    CallID(1),
                    .status(
                        MartletError(
                            .alreadyExists, reason: .eventIDReused, message: "reused",
                            reusedEventIDs: [
                                ReusedEventID(id: eventID, aggregate: order, version: Version(1), position: Position(7))
                            ])))
            ),
            (
                "status LIMIT_EXCEEDED",
                ServerFrame(
                    CallID(1),
                    .status(.limitExceeded("events_per_append_max", limit: 1_000, actual: 1_001, "append fewer")))
            ),
            ("go_away", ServerFrame(.connection, .goAway(lastCallID: CallID(6), message: "bye"))),
            ("server ping", ServerFrame(.connection, .ping(42))),
            ("server pong", ServerFrame(.connection, .pong(42))),
            (
                "append response",
                ServerFrame(
                    CallID(1),
                    .append(
                        AppendReceipt(
                            aggregates: [
                                AppendedAggregate(aggregate: order, firstVersion: Version(1), lastVersion: Version(1))
                            ], firstPosition: Position(7), lastPosition: Position(7), recordedAt: recordedAt,
                            replayed: false)))
            ),
            (
                "load response",
                ServerFrame(
                    CallID(2), .load(try entries(), LoadView(version: Version(1), position: Position(7))))
            ),
            (
                "read response",
                ServerFrame(CallID(3), .read(try entries(), ReadView(to: Position(7), head: head)))
            ),
            (
                "load response that waits for credit",
                ServerFrame(CallID(2), .message(.loadWaits(creditBytes: 1_100_000)))
            ),
            (
                "read response that waits for credit",
                ServerFrame(CallID(3), .message(.readWaits(creditBytes: 1_100_000)))
            ),
            (
                "subscribe events",
                ServerFrame(CallID(4), .subscribe(SubscriptionMessage(entries: try entries(), head: head)))
            ),
            (
                "subscribe started",
                ServerFrame(
                    CallID(4), .subscribe(SubscriptionMessage(head: head, signal: .started(after: Position(5)))))
            ),
            (
                "subscribe caught_up",
                ServerFrame(CallID(4), .subscribe(SubscriptionMessage(head: head, signal: .caughtUp(Position(7)))))
            ),
            (
                "subscribe fell_behind",
                ServerFrame(CallID(4), .subscribe(SubscriptionMessage(head: head, signal: .fellBehind(Position(7)))))
            ),
            (
                "subscribe checkpoint",
                ServerFrame(CallID(4), .subscribe(SubscriptionMessage(head: head, signal: .checkpoint(Position(7)))))
            ),
            (
                "subscribe heartbeat",
                ServerFrame(
                    CallID(4),
                    .subscribe(
                        SubscriptionMessage(
                            head: head, signal: .heartbeat(Position(7), waitingForCreditBytes: 900))))
            ),
            (
                "subscribe upcasters_changed",
                ServerFrame(
                    CallID(4),
                    .subscribe(SubscriptionMessage(head: head, signal: .upcastersChanged(Position(7), revision: 5))))
            ),
            ("get_head response", ServerFrame(CallID(5), .head(head))),
            ("get_status response", ServerFrame(CallID(6), .serverStatus(status))),
            (
                "get_server_info response",
                ServerFrame(
                    CallID(38),
                    .serverInfo(
                        ServerInfo(
                            serverVersion: "0.1.0", scope: .only([tenant]), identity: "CN=demo", limits: Limits(),
                            serverTime: recordedAt, features: ["consumers", "snapshots"])))
            ),
            (
                "append response with a snapshot due",
                ServerFrame(
                    CallID(7),
                    .append(
                        AppendReceipt(
                            aggregates: [
                                AppendedAggregate(
                                    aggregate: order, firstVersion: Version(100), lastVersion: Version(100),
                                    snapshotDue: true)
                            ], firstPosition: Position(107), lastPosition: Position(107), recordedAt: recordedAt,
                            replayed: false)))
            ),
            (
                "load response with a snapshot",
                ServerFrame(
                    CallID(8),
                    .load(
                        try upcastEntries(),
                        LoadView(
                            version: Version(2), position: Position(7), snapshot: snapshot, snapshotsSkipped: 1)))
            ),
            (
                "status UPCAST_FAILED",
                ServerFrame(
                    CallID(8),
                    .status(
                        MartletError(
                            .failedPrecondition, reason: .upcastFailed, message: "failed",
                            failedUpcast: FailedUpcast(
                                position: Position(7), eventID: eventID, eventType: "Placed", fromVersion: 1,
                                operation: 2, path: "/n", complaint: "is no text"))))
            ),
            (
                "save_snapshot response",
                ServerFrame(CallID(9), .snapshotSaved(SaveSnapshotReceipt(isKept: true, newestVersion: Version(1))))
            ),
            (
                "load_snapshot response",
                ServerFrame(CallID(10), .snapshot(LoadedSnapshot(snapshot: snapshot, skipped: 1)))
            ),
            (
                "list_snapshots response",
                ServerFrame(
                    CallID(11),
                    .snapshots([
                        SnapshotInfo(
                            version: Version(1), createdAt: recordedAt, schemaVersion: 2, contentType: NewEvent.json,
                            payloadBytes: 7, isIntact: true)
                    ]))
            ),
            ("delete_snapshots response", ServerFrame(CallID(12), .snapshotsDeleted(1))),
            ("put_settings response", ServerFrame(CallID(13), .settingsPut(revision: 5))),
            (
                "get_settings response",
                ServerFrame(CallID(14), .settings(SettingsDocument(document: policies, revision: 5)))
            ),
        ] + (try serverOfConsumers()) + (try serverOfSchedules())
    }
}
