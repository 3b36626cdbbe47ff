import FoundationEssentials
import MartletModel
import NIOCore

extension ConformanceSuite {
    static let snapshotClauses: [ConformanceClause] = [
        ConformanceClause("snapshot.save", "A snapshot is handed out as it came in; without one there is none.") { s in
            let order = try await s.order(events: 3)
            try requireEqual(try await s.snapshot(order), LoadedSnapshot(), "the snapshot of an aggregate without one")
            let receipt = try await s.save(order, 2, "{ \"n\":\t2 }", schemaVersion: 4)
            try requireEqual(receipt, SaveSnapshotReceipt(isKept: true, newestVersion: Version(2)), "the receipt")
            let loaded = try await s.snapshot(order)
            try requireEqual(loaded.snapshot?.version, Version(2), "the version")
            try requireEqual(loaded.snapshot?.schemaVersion, 4, "the schema version")
            try requireEqual(loaded.snapshot?.payload, ByteBuffer(string: "{ \"n\":\t2 }"), "the state")
            try requireEqual(try await s.snapshot(s.aggregate()), LoadedSnapshot(), "that of an unknown aggregate")
        },
        ConformanceClause("snapshot.bytes", "A state of any bytes is kept, and an empty one.") { s in
            let order = try await s.order(events: 2)
            let bytes = ByteBuffer(bytes: (0..<100_000).map { UInt8(truncatingIfNeeded: $0 * 7) })
            for (version, payload) in [(UInt64(1), bytes), (2, ByteBuffer())] {
                _ = try await s.subject.saveSnapshot(
                    SaveSnapshotRequest(
                        tenant: s.tenant, aggregate: order, version: Version(version),
                        snapshot: NewSnapshot(contentType: "application/octet-stream", payload: payload)))
                try requireEqual(try await s.snapshot(order).snapshot?.payload, payload, "the state")
            }
        },
        ConformanceClause("snapshot.beyond", "A version above the aggregate's is refused, however high it is.") { s in
            let order = try await s.order(events: 2)
            for aggregate in [order, s.aggregate()] {
                for version in [3, UInt64(Int64.max), 1 << 63, .max] {
                    try await s.refused(.snapshotBeyondAggregate) { () async throws(MartletError) in
                        _ = try await s.save(aggregate, version)
                    }
                }
            }
            try requireEqual(try await s.list(order), [], "the snapshots")
        },
        ConformanceClause("snapshot.high-versions", "Versions of 2^63 and more are higher than any, in every call.") {
            s in
            let order = try await s.order(events: 2)
            _ = try await s.save(order, 1)
            for version in [UInt64(Int64.max), 1 << 63, .max] {
                try requireEqual(
                    try await s.snapshot(order, to: version).snapshot?.version, Version(1), "to \(version)")
                try requireEqual(try await s.delete(order, version), 0, "how many of version \(version)")
                var part = AggregateAppend(
                    aggregate: order, expected: .exact(Version(version)), events: try s.events(1))
                part.snapshot = NewSnapshot(payload: ByteBuffer(string: "{}"))
                try await s.refused(.versionConflict) { [part] () async throws(MartletError) in
                    try await s.append([part])
                }
                let load = LoadRequest(
                    tenant: s.tenant, aggregate: order, target: .version(Version(version)), snapshot: SnapshotUse())
                let (view, events) = try await s.subject.load(load)
                try require(
                    view.version == Version(2) && view.snapshot?.version == Version(1) && events.count == 1,
                    "as of version \(version): \(view), \(events.count) events")
                let (_, later) = try await s.subject.load(
                    LoadRequest(tenant: s.tenant, aggregate: order, after: Version(version)))
                try requireEqual(later.count, 0, "events after version \(version)")
            }
            try requireEqual(try await s.list(order), [1], "the snapshots")
        },
        ConformanceClause("snapshot.kept", "The newest three are kept; an older one never replaces a newer one.") { s in
            let order = try await s.order(events: 9)
            for version in [UInt64(2), 4, 6, 8] { _ = try await s.save(order, version) }
            try requireEqual(try await s.list(order), [8, 6, 4], "the versions, newest first")
            let late = try await s.save(order, 3)
            try requireEqual(
                late, SaveSnapshotReceipt(isKept: false, newestVersion: Version(8)), "an older one's receipt")
            try requireEqual(try await s.list(order), [8, 6, 4], "the versions after an older one")
            _ = try await s.save(order, 5)
            try requireEqual(try await s.list(order), [8, 6, 5], "the versions after one in between")
        },
        ConformanceClause(
            "snapshot.same-version", "Of two of the same version the later one stays, unless its schema is older."
        ) { s in
            let order = try await s.order(events: 1)
            _ = try await s.save(order, 1, #"{"a":1}"#, schemaVersion: 2)
            _ = try await s.save(order, 1, #"{"b":1}"#, schemaVersion: 2)
            try requireEqual(
                try await s.snapshot(order).snapshot?.payload, ByteBuffer(string: #"{"b":1}"#), "the later")
            let older = try await s.save(order, 1, #"{"c":1}"#, schemaVersion: 1)
            try require(!older.isKept, "one in an older schema is not kept")
            try requireEqual(
                try await s.snapshot(order).snapshot?.payload, ByteBuffer(string: #"{"b":1}"#), "the newer")
            try requireEqual(try await s.list(order), [1], "the versions")
        },
        ConformanceClause("snapshot.to", "The newest not after a version.") { s in
            let order = try await s.order(events: 9)
            for version in [UInt64(3), 6, 9] { _ = try await s.save(order, version) }
            for (to, expected) in [(UInt64(9), UInt64(9)), (8, 6), (5, 3), (100, 9)] {
                try requireEqual(try await s.snapshot(order, to: to).snapshot?.version, Version(expected), "to \(to)")
            }
            try requireEqual(try await s.snapshot(order, to: 2).snapshot, nil, "to 2")
        },
        ConformanceClause("snapshot.schema", "One in a schema that the caller cannot read is skipped and counted.") {
            s in
            let order = try await s.order(events: 3)
            _ = try await s.save(order, 1, schemaVersion: 1)
            _ = try await s.save(order, 2, schemaVersion: 2)
            _ = try await s.save(order, 3, schemaVersion: 3)
            let loaded = try await s.snapshot(order, use: [1])
            try require(loaded.snapshot?.version == Version(1) && loaded.skipped == 2, "found \(loaded)")
            let none = try await s.snapshot(order, use: [7])
            try require(none.snapshot == nil && none.skipped == 3, "found \(none)")
        },
        ConformanceClause("snapshot.delete", "Snapshots are deleted one by one or all; events stay.") { s in
            let order = try await s.order(events: 3)
            for version in UInt64(1)...3 { _ = try await s.save(order, version) }
            try requireEqual(try await s.delete(order, 2), 1, "how many of version 2")
            try requireEqual(try await s.delete(order, 2), 0, "how many, again")
            try requireEqual(try await s.list(order), [3, 1], "the versions")
            try requireEqual(try await s.delete(order, nil), 2, "how many are left")
            try requireEqual(try await s.list(order), [], "the versions")
            try requireEqual(try await s.load(order).events.count, 3, "the events")
            try requireEqual(try await s.delete(s.aggregate(), nil), 0, "how many of an unknown aggregate")
        },
        ConformanceClause("snapshot.append", "In an append, a snapshot is saved with its events or not at all.") { s in
            let order = s.aggregate()
            let scenario = s
            func append(_ events: [EncodedEvent], _ expected: ExpectedVersion) async throws(MartletError) {
                let snapshot = NewSnapshot(payload: ByteBuffer(string: "{}"))
                try await scenario.append([
                    AggregateAppend(aggregate: order, expected: expected, events: events, snapshot: snapshot)
                ])
            }
            try await append(try s.events(4), .none)
            try requireEqual(try await s.snapshot(order).snapshot?.version, Version(4), "the version")
            let more = try s.events(2)
            try await s.refused(.versionConflict) { () async throws(MartletError) in try await append(more, .none) }
            try requireEqual(try await s.list(order), [4], "the versions after a refusal")
            for _ in 0..<4 { try await append(try s.events(1), .any) }
            try requireEqual(try await s.list(order), [8, 7, 6], "the versions")
        },
        ConformanceClause("snapshot.replay", "A retried append answers the original, and saves its snapshot once.") {
            s in
            let order = s.aggregate()
            var part = AggregateAppend(aggregate: order, expected: .none, events: try s.events(2))
            part.snapshot = NewSnapshot(payload: ByteBuffer(string: "{}"))
            try await s.append([part])
            _ = try await s.delete(order, nil)
            try require(try await s.append([part]).replayed, "it is replayed")
            try requireEqual(try await s.list(order), [], "a replay writes nothing")
        },
        ConformanceClause("snapshot.due", "An append says when a snapshot is due by the tenant's policy.") { s in
            let (order, other) = (s.aggregate("order"), s.aggregate("other"))
            let document = #"{"policies":[{"aggregate_type":"order","every_events":3,"keep":1},{"every_bytes":400}]}"#
            _ = try await s.put(.snapshotPolicies, document)
            var due: [Bool] = []
            for _ in 0..<4 { due += try await s.append(try s.events(1), to: order).aggregates.map(\.snapshotDue) }
            try requireEqual(due, [false, false, true, true], "due after each event")
            _ = try await s.save(order, 4)
            due = []
            for _ in 0..<3 { due += try await s.append(try s.events(1), to: order).aggregates.map(\.snapshotDue) }
            try requireEqual(due, [false, false, true], "due after a snapshot")
            _ = try await s.save(order, 7)
            try requireEqual(try await s.list(order), [7], "one is kept")
            let small = try await s.append(try s.events(1), to: other).aggregates[0].snapshotDue
            let payload = "\"\(String(repeating: "x", count: 500))\""
            let large = try await s.append(try s.events(1, payload: payload), to: other).aggregates[0].snapshotDue
            try require(!small && large, "due for bytes: \(small), then \(large)")
        },
        ConformanceClause(
            "snapshot.due-stale", "Saving a snapshot that is not newer than the newest one puts nothing off."
        ) { s in
            let order = s.aggregate()
            _ = try await s.put(.snapshotPolicies, #"{"policies":[{"every_bytes":1000,"keep":2}]}"#)
            let payload = "\"\(String(repeating: "x", count: 600))\""
            for _ in 0..<3 { _ = try await s.append(try s.events(1), to: order) }
            _ = try await s.save(order, 2)
            _ = try await s.save(order, 3, schemaVersion: 2)
            // More than half of what makes one due.
            var due = try await s.append(try s.events(1, payload: payload), to: order).aggregates[0].snapshotDue
            try require(!due, "due after one event")
            // One that is kept and is older, one that is not kept, the newest once more, and one in an older schema.
            for (version, schemaVersion) in [(UInt64(2), UInt32(1)), (1, 1), (3, 2), (3, 1)] {
                _ = try await s.save(order, version, schemaVersion: schemaVersion)
                due = try await s.append(try s.events(1, payload: payload), to: order).aggregates[0].snapshotDue
                try require(due, "version \(version) in schema \(schemaVersion) put it off")
            }
            _ = try await s.save(order, 8)
            due = try await s.append(try s.events(1), to: order).aggregates[0].snapshotDue
            try require(!due, "a newer one puts it off")
        },
        ConformanceClause(
            "snapshot.load",
            "One load answers the newest usable snapshot not after the target, and the events after it."
        ) { s in
            let order = try await s.order(events: 10)
            for version in [UInt64(3), 7] { _ = try await s.save(order, version, schemaVersion: UInt32(version)) }
            let cases:
                [(target: LoadTarget, after: UInt64, use: Set<UInt32>, snapshot: UInt64?, first: UInt64, skipped: Int)] =
                    [
                        (.now, 0, [], 7, 8, 0), (.version(Version(6)), 0, [], 3, 4, 0),
                        (.version(Version(2)), 0, [], nil, 1, 0),
                        (.position(Position(7)), 0, [], 7, 8, 0), (.now, 0, [3], 3, 4, 1), (.now, 0, [9], nil, 1, 2),
                        (.now, 7, [], nil, 8, 0), (.now, 5, [], 7, 8, 0),
                    ]
            for test in cases {
                let (view, events) = try await s.subject.load(
                    LoadRequest(
                        tenant: s.tenant, aggregate: order, after: Version(test.after), target: test.target,
                        snapshot: SnapshotUse(schemaVersions: test.use)))
                try requireEqual(view.snapshot?.version.rawValue, test.snapshot, "the snapshot of \(test)")
                try requireEqual(view.snapshotsSkipped, test.skipped, "the skipped of \(test)")
                try requireEqual(
                    events.map(\.version.rawValue),
                    test.first <= view.version.rawValue ? Array(test.first...view.version.rawValue) : [],
                    "the events of \(test)")
            }
        },
        ConformanceClause("snapshot.load-end", "A snapshot of the last version is answered without events.") { s in
            let order = try await s.order(events: 4)
            _ = try await s.save(order, 4)
            let (view, events) = try await s.subject.load(
                LoadRequest(tenant: s.tenant, aggregate: order, snapshot: SnapshotUse()))
            try require(view.snapshot?.version == Version(4) && events.isEmpty, "\(view), \(events.count) events")
        },
        ConformanceClause("snapshot.tenants", "Snapshots and settings of one tenant are not visible to another.") { s in
            let order = try await s.order(events: 1)
            _ = try await s.save(order, 1)
            _ = try await s.put(.snapshotPolicies, #"{"policies":[]}"#)
            let other = TenantID(UUID())
            try await s.append(try s.events(1), to: order, tenant: other)
            let seen = try await s.subject.listSnapshots(of: order, tenant: other)
            let settings = try await s.subject.settings(.snapshotPolicies, tenant: other)
            try require(seen.isEmpty && settings == SettingsDocument(), "\(seen), \(settings)")
        },
    ]
}

extension Scenario {
    /// A new aggregate with so many events.
    func order(events count: Int) async throws -> AggregateName {
        let order = aggregate()
        try await append(try events(count), to: order)
        return order
    }

    func save(
        _ aggregate: AggregateName, _ version: UInt64, _ payload: String = "{}", schemaVersion: UInt32 = 1
    ) async throws(MartletError) -> SaveSnapshotReceipt {
        try await subject.saveSnapshot(
            SaveSnapshotRequest(
                tenant: tenant, aggregate: aggregate, version: Version(version),
                snapshot: NewSnapshot(schemaVersion: schemaVersion, payload: ByteBuffer(string: payload))))
    }

    func snapshot(
        _ aggregate: AggregateName, to: UInt64? = nil, use: Set<UInt32> = [], _ upcasting: UpcastingOptions = .latest
    ) async throws(MartletError) -> LoadedSnapshot {
        try await subject.loadSnapshot(
            LoadSnapshotRequest(
                tenant: tenant, aggregate: aggregate, to: to.map { Version($0) }, use: SnapshotUse(schemaVersions: use),
                upcasting: upcasting))
    }

    /// The versions of the snapshots, all of which must be intact.
    func list(_ aggregate: AggregateName) async throws -> [UInt64] {
        let all = try await subject.listSnapshots(of: aggregate, tenant: tenant)
        try require(all.allSatisfy(\.isIntact), "they are intact")
        return all.map(\.version.rawValue)
    }

    func delete(_ aggregate: AggregateName, _ version: UInt64?) async throws(MartletError) -> Int {
        try await subject.deleteSnapshots(
            DeleteSnapshotsRequest(tenant: tenant, aggregate: aggregate, version: version.map { Version($0) }))
    }

    @discardableResult
    func put(
        _ kind: SettingsKind, _ document: String, expecting revision: UInt64? = nil
    ) async throws(MartletError) -> UInt64 {
        try await subject.putSettings(
            PutSettingsRequest(
                tenant: tenant, kind: kind, document: ByteBuffer(string: document), expectedRevision: revision))
    }
}
