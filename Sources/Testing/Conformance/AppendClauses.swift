import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore

extension ConformanceSuite {
    static let appendClauses: [ConformanceClause] = [
        ConformanceClause("append.first", "Versions and positions begin at 1 and go on without a gap.") { s in
            let order = s.aggregate()
            let first = try await s.append(try s.events(2), to: order, .none)
            try requireEqual(
                first.aggregates,
                [AppendedAggregate(aggregate: order, firstVersion: Version(1), lastVersion: Version(2))], "the answer")
            try requireEqual([first.firstPosition, first.lastPosition], [Position(1), Position(2)], "positions")
            let other = s.aggregate()
            let second = try await s.append(try s.events(3), to: other, .none)
            try requireEqual([second.firstPosition, second.lastPosition], [Position(3), Position(5)], "positions")
            try requireEqual(second.aggregates[0].firstVersion, Version(1), "the other aggregate's first version")
            try require(!first.replayed && !second.replayed, "nothing was replayed")
        },
        ConformanceClause("append.any", "`any` is accepted at every version.") { s in
            let order = s.aggregate()
            for version in 1...3 {
                let receipt = try await s.append(try s.events(1), to: order, .any)
                try requireEqual(receipt.aggregates[0].lastVersion, Version(UInt64(version)), "the version")
            }
        },
        ConformanceClause("append.none", "`none` is accepted without events only.") { s in
            let order = s.aggregate()
            try await s.append(try s.events(1), to: order, .none)
            let one = try s.events(1)
            let error = try await s.refused(.versionConflict) { () async throws(MartletError) in
                try await s.append(one, to: order, .none)
            }
            try requireEqual(
                error.conflicts, [VersionConflict(aggregate: order, expected: .none, actual: Version(1))], "conflicts")
        },
        ConformanceClause("append.exists", "`exists` is accepted with events only.") { s in
            let order = s.aggregate()
            let one = try s.events(1)
            let error = try await s.refused(.versionConflict) { () async throws(MartletError) in
                try await s.append(one, to: order, .exists)
            }
            try requireEqual(
                error.conflicts, [VersionConflict(aggregate: order, expected: .exists, actual: .none)], "conflicts")
            try await s.append(try s.events(1), to: order, .any)
            try await s.append(try s.events(1), to: order, .exists)
        },
        ConformanceClause("append.exact", "`exact n` is accepted at version n only.") { s in
            let order = s.aggregate()
            try await s.append(try s.events(3), to: order, .exact(.none))
            for wrong: UInt64 in [0, 2, 4, 1 << 40] {
                let one = try s.events(1)
                let error = try await s.refused(.versionConflict) { () async throws(MartletError) in
                    try await s.append(one, to: order, .exact(Version(wrong)))
                }
                try requireEqual(error.conflicts[0].actual, Version(3), "the actual version")
                try requireEqual(error.conflicts[0].expected, .exact(Version(wrong)), "the expected version")
            }
            try await s.append(try s.events(1), to: order, .exact(Version(3)))
        },
        ConformanceClause(
            "append.atomic",
            "A call over several aggregates commits as a whole or not at all; every violation is reported."
        ) { s in
            let (a, b, c) = (s.aggregate(), s.aggregate(), s.aggregate())
            try await s.append(try s.events(1), to: a)
            let parts = [
                AggregateAppend(aggregate: a, expected: .exact(Version(7)), events: try s.events(1)),
                AggregateAppend(aggregate: b, expected: .none, events: try s.events(1)),
                AggregateAppend(aggregate: c, expected: .exists, events: try s.events(1)),
            ]
            let error = try await s.refused(.versionConflict) { () async throws(MartletError) in
                try await s.append(parts)
            }
            try requireEqual(error.conflicts.map(\.aggregate), [a, c], "the aggregates in conflict")
            try requireEqual(error.conflicts.map(\.actual), [Version(1), .none], "the actual versions")
            try require(!error.isRetryable, "a conflict is not retryable")
            for (name, version) in [(a, 1), (b, 0), (c, 0)] {
                try requireEqual(
                    try await s.load(name).view.version.rawValue, UInt64(version), "the version of \(name)")
            }
            try requireEqual(try await s.head().position, Position(1), "the head")
        },
        ConformanceClause("append.several", "Positions follow the order of the call, aggregate by aggregate.") { s in
            let (a, b) = (s.aggregate(), s.aggregate("customer"))
            let (first, second) = (try s.events(2), try s.events(2))
            let receipt = try await s.append([
                AggregateAppend(aggregate: a, expected: .none, events: first),
                AggregateAppend(aggregate: b, expected: .none, events: second),
            ])
            try requireEqual(receipt.aggregates.map(\.aggregate), [a, b], "the aggregates of the answer")
            let events = try await s.read().events
            try requireEqual(events.map(\.event.id), (first + second).map(\.id), "the ids in position order")
            try requireEqual(events.map(\.version.rawValue), [1, 2, 1, 2], "the versions")
            try requireEqual(events.map(\.position.rawValue), [1, 2, 3, 4], "the positions")
        },
        ConformanceClause("append.conflict-events", "On request a conflict carries the events that came in between.") {
            s in
            let order = s.aggregate()
            let stored = try s.events(4)
            try await s.append(stored, to: order)
            let part = AggregateAppend(aggregate: order, expected: .exact(Version(1)), events: try s.events(1))
            let asked = try await s.refused(.versionConflict) { () async throws(MartletError) in
                try await s.append([part], includeConflictingEvents: true)
            }
            let between = try RecordedEntries.decode(asked.conflicts[0].events)
            try requireEqual(between.map(\.event.id), stored.dropFirst().map(\.id), "the events in between")
            try require(!asked.conflicts[0].eventsTruncated, "they are complete")
            let plain = try await s.refused(.versionConflict) { () async throws(MartletError) in
                try await s.append([part])
            }
            try requireEqual(plain.conflicts[0].events.readableBytes, 0, "without the request, the events' bytes")
        },
        ConformanceClause(
            "append.conflict-events-bounded",
            "Events of a conflict that one answer cannot hold are cut, and it says so."
        ) { s in
            let order = s.aggregate()
            let large = "\"" + String(repeating: "x", count: 100_000) + "\""
            try await s.append(try s.events(5, payload: large), to: order)
            let part = AggregateAppend(aggregate: order, expected: .none, events: try s.events(1))
            let error = try await s.refused(.versionConflict) { () async throws(MartletError) in
                try await s.append([part], includeConflictingEvents: true)
            }
            let between = try RecordedEntries.decode(error.conflicts[0].events)
            try require(!between.isEmpty && between.count < 5, "\(between.count) of 5 events came")
            try require(error.conflicts[0].eventsTruncated, "it says that there are more")
        },
        ConformanceClause("append.verbatim", "Stored bytes are the bytes that came in, to the last blank.") { s in
            let order = s.aggregate()
            var metadata = EventMetadata()
            metadata.userID = "ü\u{0}x"
            metadata.occurredAt = Timestamp(microseconds: -5)
            metadata.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            metadata.tracestate = "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"
            metadata.tags = ["b": "", "a": "1"]
            let payloads = [" {\"n\" : 1.10,\n\t\"a\":\"\\u0000\"} ", "12345678901234567890.0000", "\"\\ud800\"", "[]"]
            let json = try payloads.map { try s.event(payload: $0, schemaVersion: 9, metadata: metadata) }
            let bytes = try EncodedEvent(
                NewEvent(
                    type: s.type("Blöb"), contentType: "application/octet-stream", payload: ByteBuffer(bytes: 0...255)))
            let empty = try s.event(payload: "", contentType: "text/plain")
            try await s.append(json + [bytes, empty], to: order)
            let events = try await s.load(order).events
            try requireEqual(events.prefix(4).map { String(buffer: $0.event.payload) }, payloads, "the payloads")
            try requireEqual(events[0].event.metadata, metadata, "the metadata")
            try requireEqual(events[0].event.schemaVersion, 9, "the schema version")
            try requireEqual(Array(events[4].event.payload.readableBytesView), Array(0...255), "the bytes")
            try requireEqual(events[4].event.type, s.type("Blöb"), "the type")
            try requireEqual(events[4].event.contentType, "application/octet-stream", "the content type")
            try requireEqual(events[5].event.payload.readableBytes, 0, "the empty payload's bytes")
            try requireEqual(
                try events.map { try EncodedEvent($0.event).body }, (json + [bytes, empty]).map(\.body), "the encodings"
            )
        },
        ConformanceClause("append.recorded-at", "Recorded-at never decreases along a tenant's positions.") { s in
            for _ in 0..<20 { try await s.append(try s.events(1), to: s.aggregate()) }
            let times = try await s.read().events.map(\.recordedAt)
            try requireEqual(times, times.sorted(), "the times")
            try requireEqual(try await s.head().recordedAt, times[19], "the head's time")
        },
        ConformanceClause("append.receipt", "The answer tells what a load then shows.") { s in
            let order = s.aggregate()
            try await s.append(try s.events(2), to: order)
            let receipt = try await s.append(try s.events(3), to: order)
            let events = try await s.load(order, after: 2).events
            try requireEqual(events.first?.position, receipt.firstPosition, "the first position")
            try requireEqual(events.last?.position, receipt.lastPosition, "the last position")
            try requireEqual(events.last?.version, receipt.aggregates[0].lastVersion, "the last version")
            try requireEqual(Set(events.map(\.recordedAt)), [receipt.recordedAt], "the commit time")
        },
        ConformanceClause("append.large", "A thousand events, and a payload of a mebibyte, go in one call each.") { s in
            let order = s.aggregate()
            try await s.append(try s.events(1_000), to: order)
            try requireEqual(try await s.load(order).events.count, 1_000, "the events")
            let large = "\"" + String(repeating: "x", count: (1 << 20) - 2) + "\""
            let big = s.aggregate()
            try await s.append([try s.event(payload: large)], to: big)
            try requireEqual(String(buffer: try await s.load(big).events[0].event.payload), large, "the payload")
        },
        ConformanceClause("append.many-aggregates", "A hundred aggregates go in one call.") { s in
            let names = (0..<100).map { s.aggregate("t\($0 % 7)") }
            let parts = try names.map { AggregateAppend(aggregate: $0, expected: .none, events: try s.events(2)) }
            let receipt = try await s.append(parts)
            try requireEqual(receipt.aggregates.map(\.aggregate), names, "the aggregates")
            try requireEqual(receipt.lastPosition, Position(200), "the last position")
        },
        ConformanceClause("append.same-id-other-type", "Aggregates of one id and different types are different.") { s in
            let id = UUID()
            let names = ["a", "b"].map { AggregateName(type: s.aggregate($0).type, id: id) }
            for name in names { try await s.append(try s.events(1), to: name, .none) }
            for name in names { try requireEqual(try await s.load(name).view.version, Version(1), "the version") }
        },
        ConformanceClause("tenant.isolation", "Nothing of one tenant is ever visible to another.") { s in
            let (order, other) = (s.aggregate(), TenantID(UUID()))
            let event = try s.event()
            try await s.append([event], to: order, .none)
            let receipt = try await s.append([event], to: order, .none, tenant: other)
            try require(!receipt.replayed, "an id of another tenant is another id")
            try requireEqual(receipt.firstPosition, Position(1), "the other tenant's position")
            let empty = TenantID(UUID())
            try requireEqual(
                try await s.load(order, tenant: empty).view, LoadView(version: .none, position: .start), "the view")
            try requireEqual(try await s.read(tenant: empty).events.count, 0, "the events")
            try requireEqual(try await s.subject.head(of: empty), .empty, "the head")
        },
    ]
}
