import FoundationEssentials
import MartletModel
import MartletRecordCodec
import NIOCore

extension ConformanceSuite {
    static let replayClauses: [ConformanceClause] = [
        ConformanceClause("replay.answer", "A call whose events are all stored is answered as it was, marked replayed.")
        { s in
            let (a, b) = (s.aggregate(), s.aggregate())
            let parts = [
                AggregateAppend(aggregate: a, expected: .none, events: try s.events(2)),
                AggregateAppend(aggregate: b, expected: .none, events: try s.events(1)),
            ]
            var original = try await s.append(parts)
            let again = try await s.append(parts)
            try require(again.replayed, "the second answer is marked")
            original.replayed = true
            try requireEqual(again, original, "the answer")
            try requireEqual(try await s.head().position, Position(3), "the head")
        },
        ConformanceClause("replay.later", "Replay is safe whatever was appended since.") { s in
            let order = s.aggregate()
            let events = try s.events(2)
            let original = try await s.append(events, to: order, .none)
            for _ in 0..<10 { try await s.append(try s.events(3), to: order) }
            try await s.append(try s.events(1), to: s.aggregate())
            let again = try await s.append(events, to: order, .none)
            try require(again.replayed && again.firstPosition == original.firstPosition, "the original answer")
            try requireEqual(again.recordedAt, original.recordedAt, "the original time")
            try requireEqual(try await s.load(order).view.version, Version(32), "the version")
        },
        ConformanceClause("replay.any-expected", "Replay is answered whatever the expected version says.") { s in
            let order = s.aggregate()
            let events = try s.events(1)
            try await s.append(events, to: order, .none)
            for expected: ExpectedVersion in [.any, .none, .exists, .exact(Version(77))] {
                try require(try await s.append(events, to: order, expected).replayed, "replayed with \(expected)")
            }
        },
        ConformanceClause(
            "reuse.payload", "An id that is stored with another payload is refused, and nothing is written."
        ) { s in
            let order = s.aggregate()
            let id = UUID.v7()
            try await s.append([try s.event(id: id, payload: "1")], to: order)
            for payload in ["2", "1 ", " 1", "1.0"] {
                let changed = [try s.event(id: id, payload: payload)]
                let error = try await s.refused(.eventIDReused) { () async throws(MartletError) in
                    try await s.append(changed, to: order)
                }
                try requireEqual(
                    error.reusedEventIDs,
                    [ReusedEventID(id: id, aggregate: order, version: Version(1), position: Position(1))], "the ids")
                try require(!error.isRetryable, "it is not retryable")
            }
            try requireEqual(try await s.head().position, Position(1), "the head")
        },
        ConformanceClause("reuse.content", "Type, content type, schema version and metadata are content, too.") { s in
            let order = s.aggregate()
            let id = UUID.v7()
            try await s.append([try s.event(id: id)], to: order)
            var metadata = EventMetadata()
            metadata.tags = ["a": "b"]
            let others = [
                try s.event("Other", id: id), try s.event(id: id, contentType: "application/x+json"),
                try s.event(id: id, schemaVersion: 2), try s.event(id: id, metadata: metadata),
            ]
            for other in others {
                try await s.refused(.eventIDReused) { () async throws(MartletError) in
                    try await s.append([other], to: order)
                }
            }
        },
        ConformanceClause("reuse.aggregate", "An id that is stored in another aggregate is refused.") { s in
            let (order, other) = (s.aggregate(), s.aggregate())
            let event = try s.event()
            try await s.append([event], to: order)
            try await s.refused(.eventIDReused) { () async throws(MartletError) in
                try await s.append([event], to: other)
            }
            let sameID = AggregateName(type: s.aggregate("elsewhere").type, id: order.id)
            try await s.refused(.eventIDReused) { () async throws(MartletError) in
                try await s.append([event], to: sameID)
            }
            try requireEqual(try await s.load(other).view.version, .none, "the other aggregate's version")
        },
        ConformanceClause("reuse.order", "Ids that are stored in another order are refused.") { s in
            let order = s.aggregate()
            let events = try s.events(2)
            try await s.append(events, to: order)
            let turned = [events[1], events[0]]
            let error = try await s.refused(.eventIDReused) { () async throws(MartletError) in
                try await s.append(turned, to: order)
            }
            try requireEqual(Set(error.reusedEventIDs.map(\.id)), Set(events.map(\.id)), "the ids")
        },
        ConformanceClause("reuse.partial", "A call of which some ids are stored and some are not is refused.") { s in
            let order = s.aggregate()
            let stored = try s.event()
            let new = try s.event()
            try await s.append([stored], to: order)
            for events in [[stored, new], [new, stored]] {
                let error = try await s.refused(.eventIDReused) { () async throws(MartletError) in
                    try await s.append(events, to: order)
                }
                try requireEqual(error.reusedEventIDs.map(\.id), [stored.id], "the ids")
            }
            try requireEqual(try await s.load(order).view.version, Version(1), "the version")
            try await s.append([new], to: order, .exact(Version(1)))
        },
        ConformanceClause(
            "replay.across-calls", "Events at consecutive positions are a replay, whichever calls stored them."
        ) { s in
            let (a, b) = (s.aggregate(), s.aggregate())
            let first = try s.events(3)
            let second = try s.events(2)
            let original = try await s.append(first, to: a, .none)
            try await s.append(second, to: b, .none)
            let part = try await s.append(Array(first[1...]), to: a, .none)
            try require(
                part.replayed && part.firstPosition == Position(2) && part.lastPosition == Position(3),
                "a part of a call: \(part)")
            try requireEqual(part.aggregates.map(\.firstVersion), [Version(2)], "the part's first version")
            let both = try await s.append([
                AggregateAppend(aggregate: a, expected: .none, events: Array(first[2...])),
                AggregateAppend(aggregate: b, expected: .none, events: second),
            ])
            try require(
                both.replayed && both.firstPosition == Position(3) && both.lastPosition == Position(5),
                "the end of one call and the next call: \(both)")
            try requireEqual(both.recordedAt, original.recordedAt, "the time of the first event")
            let gap = [
                AggregateAppend(aggregate: a, expected: .any, events: Array(first[..<2])),
                AggregateAppend(aggregate: b, expected: .any, events: second),
            ]
            let error = try await s.refused(.eventIDReused) { () async throws(MartletError) in
                try await s.append(gap)
            }
            try requireEqual(error.reusedEventIDs.count, 4, "ids with another event in between")
        },
        ConformanceClause("replay.snapshot", "A replay saves no snapshot, and is not compared by one.") { s in
            let order = s.aggregate()
            let events = try s.events(1)
            try await s.append(events, to: order, .none)
            var part = AggregateAppend(aggregate: order, expected: .none, events: events)
            part.snapshot = NewSnapshot(payload: ByteBuffer(string: "{}"))
            try require(try await s.append([part]).replayed, "replayed with a snapshot that was not there before")
            try requireEqual(try await s.list(order), [], "the snapshots")
        },
        ConformanceClause(
            "reuse.before-conflict", "A reused id is reported also where the expected version would not hold."
        ) { s in
            let order = s.aggregate()
            let id = UUID.v7()
            try await s.append([try s.event(id: id, payload: "1")], to: order)
            let changed = [try s.event(id: id, payload: "2")]
            try await s.refused(.eventIDReused) { () async throws(MartletError) in
                try await s.append(changed, to: order, .exact(Version(9)))
            }
        },
        ConformanceClause("replay.refused-call", "The ids of a refused call are not taken.") { s in
            let order = s.aggregate()
            let events = try s.events(2)
            try await s.refused(.versionConflict) { () async throws(MartletError) in
                try await s.append(events, to: order, .exists)
            }
            let receipt = try await s.append(events, to: order, .none)
            try require(!receipt.replayed, "it is stored now, and was not before")
        },
        ConformanceClause("replay.canonical", "The order of tags does not make another content.") { s in
            let order = s.aggregate()
            let id = UUID.v7()
            var metadata = EventMetadata()
            for key in ["a", "b", "c", "ä", "z"] { metadata.tags[ExactText(key)] = key }
            try await s.append([try s.event(id: id, metadata: metadata)], to: order)
            var again = EventMetadata()
            for key in ["z", "ä", "c", "b", "a"] { again.tags[ExactText(key)] = key }
            try require(try await s.append([try s.event(id: id, metadata: again)], to: order).replayed, "replayed")
        },
    ]
}
