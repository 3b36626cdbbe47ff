import Foundation
import MartletClient
import MartletModel
import MartletSession
import NIOCore
import Testing

/// No answer is above the frame limit, whatever upcasters make of what is stored.
@Suite(.serialized) struct AnswerSizeTests {
    /// Events of an answer are a page, or one event, whichever aggregates they are of.
    private static let answerBytesMax = {
        let limits = Limits()
        return limits.pageBytesMax + limits.upcastPayloadBytesMax + limits.metadataBytesMax + 64 << 10
    }()
    /// What answering one call may take beside what the server had.
    private static let memoryMiB = 96

    struct Conflict: CustomTestStringConvertible {
        var testDescription: String
        var aggregates = 1
        var eventsOfEach: Int
        var payload = "{}"
        var upcasters: ByteBuffer
        /// 128 bytes are what an aggregate type may have.
        var typeBytes = 6
    }

    static let conflicts = [
        Conflict(testDescription: "60 grow to 1.8 MB", eventsOfEach: 60, upcasters: Ammunition.growing(to: 1_800_000)),
        Conflict(
            testDescription: "2,600 grow to 1.8 MB", eventsOfEach: 2_600, upcasters: Ammunition.growing(to: 1_800_000)),
        Conflict(
            testDescription: "1,000 grow to 100 KB", eventsOfEach: 1_000, upcasters: Ammunition.growing(to: 100_000)),
        Conflict(
            testDescription: "1 each of 100 grows to 1.8 MB", aggregates: 100, eventsOfEach: 1,
            upcasters: Ammunition.growing(to: 1_800_000), typeBytes: 128),
        Conflict(
            testDescription: "20 each of 100 grow to 10 KB", aggregates: 100, eventsOfEach: 20,
            upcasters: Ammunition.growing(to: 10_000)),
        Conflict(testDescription: "2,600 fail at length", eventsOfEach: 2_600, upcasters: Ammunition.failing()),
        Conflict(testDescription: "1 grows to 1.8 MB", eventsOfEach: 1, upcasters: Ammunition.growing(to: 1_800_000)),
    ]

    @Test(arguments: conflicts) func conflictingEventsFitTheirFrame(_ attack: Conflict) async throws {
        try await Victim.with { victim in
            let tenant = TenantID(UUID())
            let names = (0..<attack.aggregates).map { _ in
                Ammunition.aggregate(String(repeating: "t", count: attack.typeBytes))
            }
            try await victim.withClient { client in
                for start in stride(from: 0, to: attack.eventsOfEach, by: 1_000 / attack.aggregates) {
                    let count = min(attack.eventsOfEach - start, 1_000 / attack.aggregates)
                    _ = try await client.append(
                        names.map {
                            NewAggregateEvents(
                                aggregate: $0, expected: .any, events: Ammunition.events(count, payload: attack.payload)
                            )
                        }, tenant: tenant)
                }
                try await client.putSettings(
                    PutSettingsRequest(tenant: tenant, kind: .upcasters, document: attack.upcasters))
            }
            let peer = try await victim.connect()
            let before = try victim.forgetPeak()
            let request = try AppendRequest(
                names.map { NewAggregateEvents(aggregate: $0, expected: .none, events: Ammunition.events(1)) },
                tenant: tenant, includeConflictingEvents: true)
            try await peer.call([.append(request)])
            let isAnswered = try await peer.waits(
                seconds: 30, checking: { try victim.memoryMiB().peak - before < 1_500 },
                until: { $0.endCount > 0 || $0.largestFrameBytes > 8 << 20 })
            let log = peer.received
            let more = try victim.memoryMiB().peak - before
            print("attack: conflict: \(attack.testDescription): frame \(log.largestFrameBytes) bytes, \(more) MiB more")
            #expect(isAnswered && log.largestFrameBytes <= Self.answerBytesMax && more < Self.memoryMiB)
            let error = try #require(log.statuses[CallID(1)] ?? nil)
            #expect(error.reason == .versionConflict && error.conflicts.count == attack.aggregates)
            let brought = try error.decodedConflictEvents()
            for conflict in error.conflicts {
                let count = brought[conflict.aggregate]?.count ?? 0
                #expect(conflict.actual == Version(UInt64(attack.eventsOfEach)))
                #expect(conflict.eventsTruncated == (count < attack.eventsOfEach))
            }
        }
    }

    /// Every other call whose answer could grow, each at the largest that a tenant can make it.
    @Test func everyOtherAnswerFitsItsFrame() async throws {
        try await Victim.with { victim in
            let tenant = TenantID(UUID())
            let target = Ammunition.aggregate()
            let longName = Ammunition.aggregate(String(repeating: "n", count: 128))
            let reused = Ammunition.events(1_000)
            try await victim.withClient { client in
                try await client.putSettings(
                    PutSettingsRequest(tenant: tenant, kind: .upcasters, document: Ammunition.growing(to: 1_800_000)))
                try await client.putSettings(
                    PutSettingsRequest(
                        tenant: tenant, kind: .snapshotPolicies,
                        document: ByteBuffer(string: #"{"policies":[{"keep":100}]}"#)))
                _ = try await client.append(Ammunition.events(100), to: target, expecting: .none, tenant: tenant)
                _ = try await client.append(reused, to: longName, expecting: .none, tenant: tenant)
                for version in 1...100 {
                    let payload = #"{"filled":"\#(String(repeating: "x", count: version == 100 ? 4_000_000 : 1))"}"#
                    _ = try await client.saveSnapshot(
                        SaveSnapshotRequest(
                            tenant: tenant, aggregate: target, version: Version(UInt64(version)),
                            snapshot: NewSnapshot(payload: ByteBuffer(string: payload))))
                }
            }
            var requests: [(String, CallRequest)] = [
                ("load_snapshot", .loadSnapshot(LoadSnapshotRequest(tenant: tenant, aggregate: target))),
                ("list_snapshots", .listSnapshots(tenant, target)),
                ("get_settings", .getSettings(tenant, .upcasters)),
                ("get_status", .getStatus),
                ("load", .load(LoadRequest(tenant: tenant, aggregate: target, eventsMax: 8))),
                (
                    "load backward",
                    .load(LoadRequest(tenant: tenant, aggregate: target, direction: .backward, eventsMax: 8))
                ),
                (
                    "load with a snapshot",
                    .load(LoadRequest(tenant: tenant, aggregate: target, eventsMax: 8, snapshot: SnapshotUse()))
                ),
                ("read", .read(ReadRequest(tenant: tenant, eventsMax: 8))),
                ("subscribe", .subscribe(SubscribeRequest(tenant: tenant))),
            ]
            let twice = try AppendRequest(
                [NewAggregateEvents(aggregate: Ammunition.aggregate(), expected: .any, events: reused)], tenant: tenant)
            requests.append(("1,000 reused ids", .append(twice)))
            for (name, request) in requests {
                let peer = try await victim.connect()
                let before = try victim.forgetPeak()
                try await peer.call([request], creditBytes: 16 << 20)
                let isAnswered = try await peer.waits(seconds: 20) {
                    $0.endCount > 0 || $0.entryBytes[CallID(1)] ?? 0 > 12 << 20
                }
                let log = peer.received
                let more = try victim.memoryMiB().peak - before
                print("attack: \(name): frame \(log.largestFrameBytes) bytes, \(more) MiB more")
                #expect(isAnswered && log.largestFrameBytes <= 8 << 20 && more < Self.memoryMiB, "\(name)")
                // A part of a stream is a page, or one event.
                if log.parts[CallID(1)] != nil, name != "load with a snapshot" {
                    let limits = Limits()
                    #expect(log.largestFrameBytes <= limits.upcastPayloadBytesMax + limits.metadataBytesMax + 64 << 10)
                }
                peer.close()
            }
        }
    }
}
