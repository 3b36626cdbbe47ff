import FoundationEssentials
import MartletModel
import NIOCore

/// `Placed` 1 → 2 renames a member, 2 → 3 changes the type; snapshots of `order` 1 → 2 rename a member.
private let upcasters = definition(isStrict: false)

private func definition(isStrict: Bool) -> String {
    #"""
    {"upcasters":[
        {"event":"Placed","from":1,"operations":[{"rename":{"path":"/n","to":"count","required":\#(isStrict)}}]},
        {"event":"Placed","from":2,"operations":[{"type":"Ordered"},{"set":{"path":"/new","value":true}}]},
        {"snapshot":"order","from":1,"operations":[{"rename":{"path":"/n","to":"count","required":true}}]}]}
    """#
}

extension ConformanceSuite {
    static let upcastClauses: [ConformanceClause] = [
        ConformanceClause("settings.put", "Settings are handed out as they came in; each change has a new revision.") {
            s in
            try requireEqual(
                try await s.subject.settings(.upcasters, tenant: s.tenant), SettingsDocument(), "without settings")
            try requireEqual(try await s.put(.upcasters, upcasters), 1, "the first revision")
            try requireEqual(try await s.put(.snapshotPolicies, #"{"policies":[]}"#), 2, "the second revision")
            let found = try await s.subject.settings(.upcasters, tenant: s.tenant)
            try requireEqual(
                found, SettingsDocument(document: ByteBuffer(string: upcasters), revision: 2), "the settings")
            try requireEqual(try await s.put(.upcasters, ""), 3, "the revision of a removal")
            let removed = try await s.subject.settings(.upcasters, tenant: s.tenant)
            try requireEqual(removed, SettingsDocument(revision: 3), "what is left")
        },
        ConformanceClause("settings.conflict", "With an expected revision, one of two racing changes wins.") { s in
            try requireEqual(try await s.put(.upcasters, upcasters, expecting: 0), 1, "the revision")
            try await s.refused(.settingsConflict) { () async throws(MartletError) in
                try await s.put(.upcasters, "", expecting: 0)
            }
            let scenario = s
            let wins = await withTaskGroup(of: Bool.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        do throws(MartletError) {
                            try await scenario.put(.upcasters, upcasters, expecting: 1)
                            return true
                        } catch { return false }
                    }
                }
                return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
            try requireEqual(wins, 1, "how many won")
        },
        ConformanceClause("upcast.everywhere", "Upcasting happens alike on load, on read and on subscriptions.") { s in
            let order = try await s.generations()
            try await s.put(.upcasters, upcasters)
            try await s.append([try s.event("Placed", payload: #"{"n": 4}"#)], to: order)
            let loaded = try await s.load(order).events
            let read = try await s.read().events
            let followed = try await s.followed()
            try requireEqual(read, loaded, "the events of a read")
            try requireEqual(followed, loaded, "the events of a subscription")
            try requireEqual(loaded.map(\.event.schemaVersion), [3, 3, 3, 3], "the schema versions")
            try requireEqual(loaded.map(\.event.type.text), Array(repeating: "Ordered", count: 4), "the types")
            try requireEqual(loaded.map(\.storedSchemaVersion), [1, 2, 3, 1], "the stored schema versions")
            try requireEqual(
                loaded.map(\.storedType.text), ["Placed", "Placed", "Ordered", "Placed"], "the stored types")
            try requireEqual(
                loaded.map { String(buffer: $0.event.payload) },
                [
                    #"{"count":1,"new":true}"#, #"{"count":2,"new":true}"#, #"{"count": 3, "new": true}"#,
                    #"{"count":4,"new":true}"#,
                ], "the payloads")
        },
        ConformanceClause("upcast.raw", "raw turns it off, and stored events are never changed.") { s in
            let order = try await s.generations()
            let before = try await s.load(order).events
            try await s.put(.upcasters, upcasters)
            let raw = try await s.subject.load(LoadRequest(tenant: s.tenant, aggregate: order, upcasting: .raw)).events
            try requireEqual(raw, before, "the events as stored")
            let read = try await s.subject.read(ReadRequest(tenant: s.tenant, upcasting: .raw)).events
            try requireEqual(read, before, "the events of a read as stored")
            try requireEqual(try await s.followed(upcasting: .raw), before, "the events of a subscription as stored")
        },
        ConformanceClause("upcast.live", "A live subscription gets upcast events, and is told of new upcasters.") { s in
            try await s.generations()
            let scenario = s
            let seen = Box<[String]>([])
            try await s.subject.subscribe(SubscribeRequest(tenant: s.tenant, start: .head)) { item in
                switch item {
                case .signal(.caughtUp, _):
                    try await scenario.append([try scenario.event("Placed")], to: scenario.aggregate())
                case .events(let events, _):
                    await seen.update { $0 += events.map { "\($0.event.type) \($0.event.schemaVersion)" } }
                    guard await seen.value.count < 2 else { return false }
                    try await scenario.put(.upcasters, upcasters)
                case .signal(.upcastersChanged(let position, let revision), _):
                    await seen.update { $0.append("changed after \(position), revision \(revision)") }
                    try await scenario.append([try scenario.event("Placed")], to: scenario.aggregate())
                case .signal: break
                }
                return true
            }
            try requireEqual(
                await seen.value, ["Placed 1", "changed after 4, revision 1", "Ordered 3"], "what the subscription saw")
        },
        ConformanceClause("upcast.filter", "Filters speak of what is delivered.") { s in
            try await s.generations()
            try await s.append(try s.events(3, "Other"), to: s.aggregate())
            try await s.put(.upcasters, upcasters)
            for (type, count) in [("Ordered", 3), ("Placed", 0), ("Other", 3)] {
                let filter = EventFilter(eventTypes: [s.type(type)])
                try requireEqual(
                    try await s.read(after: 0, .head, .forward, filter).events.count, count, "\(type), read")
                try requireEqual(
                    try await s.read(after: 0, .head, .backward, filter, max: 2).events.map(\.position.rawValue),
                    Array(
                        try await s.read(after: 0, .head, .forward, filter).events.map(\.position.rawValue).reversed()
                            .prefix(2)),
                    "\(type), backward")
                try requireEqual(try await s.followed(.after(.start), filter).count, count, "\(type), subscription")
            }
        },
        ConformanceClause("upcast.stop", "A caller may ask for a given schema version instead of the latest.") { s in
            let order = try await s.generations()
            try await s.put(.upcasters, upcasters)
            let options = UpcastingOptions(stopAt: [s.type("Placed"): 2])
            let events = try await s.subject.load(
                LoadRequest(tenant: s.tenant, aggregate: order, upcasting: options)
            ).events
            try requireEqual(
                events.map { "\($0.event.type) \($0.event.schemaVersion)" }, ["Placed 2", "Placed 2", "Ordered 3"],
                "the events")
        },
        ConformanceClause("upcast.fail", "An event that cannot be upcast ends the stream after those before it.") { s in
            let order = try await s.broken()
            let error = try await s.refused(.upcastFailed) { () async throws(MartletError) in
                _ = try await s.load(order)
            }
            try requireEqual(error.failedUpcast?.position, Position(3), "the position")
            try requireEqual(error.failedUpcast?.eventType, "Placed", "the type")
            try requireEqual(error.failedUpcast?.fromVersion, 1, "the step")
            try requireEqual(error.failedUpcast?.path, "/n", "the path")
            let first = try await s.load(order, max: 2).events
            try requireEqual(first.map(\.event.schemaVersion), [3, 3], "those before it")
        },
        ConformanceClause("upcast.fail-raw", "Or it is delivered as stored and marked: never dropped.") { s in
            let order = try await s.broken()
            let options = UpcastingOptions(onFailure: .raw)
            let loaded = try await s.subject.load(
                LoadRequest(tenant: s.tenant, aggregate: order, upcasting: options)
            ).events
            try requireEqual(loaded.map(\.event.schemaVersion), [3, 3, 1, 3], "the schema versions")
            try requireEqual(loaded.map { $0.upcastFailure != nil }, [false, false, true, false], "the marks")
            try requireEqual(try await s.followed(upcasting: options), loaded, "the events of a subscription")
        },
        ConformanceClause(
            "upcast.fail-filter",
            "A filter goes by what an event would become, also where it fails and comes as stored."
        ) { s in
            try await s.broken()
            let tolerant = UpcastingOptions(onFailure: .raw)
            for (type, options, types) in [
                ("Ordered", tolerant, ["Ordered", "Ordered", "Placed", "Ordered"]), ("Placed", tolerant, []),
                ("Placed", .latest, []), ("Ordered", .raw, []), ("Placed", .raw, Array(repeating: "Placed", count: 4)),
            ] {
                let filter = EventFilter(eventTypes: [s.type(type)])
                let read = try await s.subject.read(
                    ReadRequest(tenant: s.tenant, filter: filter, upcasting: options)
                ).events
                try requireEqual(read.map(\.event.type.text), types, "\(type), read with \(options)")
                try requireEqual(
                    try await s.followed(filter, upcasting: options), read, "\(type), subscription with \(options)")
            }
            let filter = EventFilter(eventTypes: [s.type("Ordered")])
            let error = try await s.refused(.upcastFailed) { () async throws(MartletError) in
                _ = try await s.read(after: 0, .head, .forward, filter)
            }
            try requireEqual(error.failedUpcast?.position, Position(3), "the position")
        },
        ConformanceClause("upcast.snapshot", "A snapshot is upcast; one that cannot be is skipped for an older one.") {
            s in
            let order = try await s.order(events: 3)
            try await s.put(.upcasters, upcasters)
            _ = try await s.save(order, 1, #"{"n":1}"#)
            let upcast = try await s.snapshot(order)
            try requireEqual(upcast.snapshot?.schemaVersion, 2, "the schema version")
            try requireEqual(upcast.snapshot?.storedSchemaVersion, 1, "the stored schema version")
            try requireEqual(upcast.snapshot?.payload, ByteBuffer(string: #"{"count":1}"#), "the state")
            let asked = try await s.snapshot(order, use: [1])
            try requireEqual(asked.snapshot?.payload, ByteBuffer(string: #"{"n":1}"#), "in the version asked for")
            _ = try await s.save(order, 2, "{}")
            let skipped = try await s.snapshot(order)
            try require(skipped.snapshot?.version == Version(1) && skipped.skipped == 1, "found \(skipped)")
            let raw = try await s.snapshot(order, use: [], .raw)
            try require(raw.snapshot?.version == Version(2) && raw.skipped == 0, "found \(raw)")
            let (view, events) = try await s.subject.load(
                LoadRequest(tenant: s.tenant, aggregate: order, snapshot: SnapshotUse()))
            try require(
                view.snapshot?.version == Version(1) && view.snapshotsSkipped == 1 && events.count == 2, "found \(view)"
            )
        },
    ]
}

extension Scenario {
    /// An aggregate with one event of each of the schema versions 1, 2 and 3.
    @discardableResult
    fileprivate func generations() async throws -> AggregateName {
        let order = aggregate()
        try await append(
            [
                try event("Placed", payload: #"{"n": 1}"#),
                try event("Placed", payload: #"{"count": 2}"#, schemaVersion: 2),
                try event("Ordered", payload: #"{"count": 3, "new": true}"#, schemaVersion: 3),
            ], to: order)
        return order
    }

    /// An aggregate whose third event of four cannot be upcast.
    @discardableResult
    fileprivate func broken() async throws -> AggregateName {
        let order = aggregate()
        try await put(.upcasters, definition(isStrict: true))
        for payload in [#"{"n":1}"#, #"{"n":2}"#, "{}", #"{"n":4}"#] {
            try await append([try event("Placed", payload: payload)], to: order)
        }
        return order
    }

    fileprivate func followed(
        _ filter: EventFilter = .all, upcasting: UpcastingOptions
    ) async throws -> [RecordedEvent] {
        let box = Box<[RecordedEvent]>([])
        let request = SubscribeRequest(tenant: tenant, filter: filter, upcasting: upcasting)
        try await subject.subscribe(request) { item in
            switch item {
            case .events(let events, _):
                await box.update { $0 += events }
                return true
            case .signal(.caughtUp, _): return false
            case .signal: return true
            }
        }
        return await box.value
    }
}
