import Foundation
import MartletClient
import MartletModel
import MartletSession
import MartletTesting
import NIOCore
import Testing

/// A stream that cannot go on says so, and how much credit it needs; with the credit that `Limits` names none ever waits.
@Suite(.serialized) struct StandstillTests {
    enum Call: String, CaseIterable, Sendable { case load, loadBackward, read, subscribe }

    enum Stored: String, CaseIterable, Sendable {
        case largeEvent, grownEvent, smallSnapshotBeforeALargeEvent, largeSnapshot, snapshotThatGrew
        case eventOfAnotherLimit

        /// What the first part that needs credit takes at least.
        var bytes: UInt64 {
            switch self {
            case .largeEvent, .smallSnapshotBeforeALargeEvent: 1_000_000
            case .grownEvent: 1_800_000
            case .largeSnapshot: UInt64(Limits().snapshotBytesMax)
            case .snapshotThatGrew: 3_000_000
            case .eventOfAnotherLimit: 6 << 20
            }
        }

        var isSnapshot: Bool {
            self == .smallSnapshotBeforeALargeEvent || self == .largeSnapshot || self == .snapshotThatGrew
        }
    }

    struct Case: Sendable, CustomTestStringConvertible {
        var call: Call
        var stored: Stored
        var testDescription: String { "\(call.rawValue), \(stored.rawValue)" }
    }

    static let cases = Stored.allCases.flatMap { stored in
        Call.allCases.filter { $0 == .load || !stored.isSnapshot }.map { Case(call: $0, stored: stored) }
    }

    @Test(arguments: Stored.allCases) func aStreamSaysWhatItWaitsFor(_ stored: Stored) async throws {
        try await withStored(stored) { victim, tenant, target in
            for one in Self.cases where one.stored == stored {
                for credit in [1, 100_000] as [UInt64] {
                    let peer = try await victim.connect()
                    defer { peer.close() }
                    try await peer.call([request(one, tenant, target)], creditBytes: credit)
                    let says = try await peer.waits(seconds: 2) { $0.waitingBytes[CallID(1)] != nil }
                    let needed = peer.received.waitingBytes[CallID(1)] ?? 0
                    print("attack: \(one.testDescription), credit of \(credit): waits for \(needed) bytes")
                    #expect(says, "\(one.testDescription) with \(credit) bytes of credit stands still without a word")
                    // A snapshot that comes first is asked for first.
                    let isFirst = stored == .smallSnapshotBeforeALargeEvent && credit == 1
                    #expect(isFirst ? needed > 1 : needed >= stored.bytes, "\(one.testDescription)")
                    guard says else { continue }
                    // What it asked for is enough for the next part, whatever a small part before took.
                    let before = peer.received.entryBytes[CallID(1)] ?? 0
                    try await peer.send([ClientFrame(CallID(1), .credit(needed))])
                    let goesOn = try await peer.waits(seconds: 5) {
                        $0.entryBytes[CallID(1)] ?? 0 > before || $0.largestFrameBytes > stored.bytes
                            || $0.waitingBytes[CallID(1)] ?? 0 > needed
                    }
                    #expect(goesOn, "\(one.testDescription) got the \(needed) bytes that it asked for")
                }
            }
        }
    }

    @Test(arguments: Stored.allCases) func withTheCreditThatLimitsNameNothingWaits(_ stored: Stored) async throws {
        try await withStored(stored) { victim, tenant, target in
            for one in Self.cases where one.stored == stored {
                let peer = try await victim.connect()
                defer { peer.close() }
                let credit = UInt64(Limits().streamCreditBytesMin)
                try await peer.call([request(one, tenant, target)], creditBytes: credit)
                var granted = 0
                let isOver = try await peer.waits(
                    seconds: 5,
                    checking: {
                        // What was consumed is granted again.
                        let consumed = peer.received.entryBytes[CallID(1)] ?? 0
                        if consumed > granted {
                            peer.push([ClientFrame(CallID(1), .credit(UInt64(consumed - granted)))])
                            granted = consumed
                        }
                        return true
                    }, until: { $0.statuses[CallID(1)] != nil || $0.caughtUp.contains(CallID(1)) })
                let log = peer.received
                print("attack: \(one.testDescription), credit of \(credit): \(log.events[CallID(1)] ?? 0) events")
                #expect(
                    isOver && log.waitingBytes.isEmpty && log.statuses[CallID(1)] ?? nil == nil,
                    "\(one.testDescription)")
            }
        }
    }

    private func request(_ one: Case, _ tenant: TenantID, _ target: AggregateName) -> CallRequest {
        switch one.call {
        case .load:
            .load(
                LoadRequest(
                    tenant: tenant, aggregate: target, snapshot: one.stored.isSnapshot ? SnapshotUse() : nil))
        case .loadBackward: .load(LoadRequest(tenant: tenant, aggregate: target, direction: .backward))
        case .read: .read(ReadRequest(tenant: tenant))
        case .subscribe: .subscribe(SubscribeRequest(tenant: tenant, heartbeatMillis: 200))
        }
    }

    private func withStored(
        _ stored: Stored, _ body: @Sendable (Victim, TenantID, AggregateName) async throws -> Void
    ) async throws {
        let tenant = TenantID(UUID())
        let target = Ammunition.aggregate()
        let folder = try TemporaryFolder()
        let fill: @Sendable (Victim) async throws -> Void = { victim in
            try await victim.withClient { client in
                func append(_ events: [NewEvent]) async throws {
                    _ = try await client.append(events, to: target, expecting: .any, tenant: tenant)
                }
                func save(_ snapshot: NewSnapshot) async throws {
                    _ = try await client.saveSnapshot(
                        SaveSnapshotRequest(tenant: tenant, aggregate: target, version: Version(1), snapshot: snapshot))
                }
                func upcast(_ definition: ByteBuffer) async throws {
                    try await client.putSettings(
                        PutSettingsRequest(tenant: tenant, kind: .upcasters, document: definition))
                }
                switch stored {
                case .largeEvent: try await append(Ammunition.large(1_000_000))
                case .grownEvent:
                    try await append(Ammunition.events(1))
                    try await upcast(Ammunition.growing(to: 1_800_000))
                case .smallSnapshotBeforeALargeEvent:
                    try await append(Ammunition.events(1))
                    try await save(Ammunition.snapshot(10))
                    try await append(Ammunition.large(1_000_000))
                case .largeSnapshot:
                    try await append(Ammunition.events(1))
                    try await save(Ammunition.snapshot(Limits().snapshotBytesMax))
                case .snapshotThatGrew:
                    let half = String(repeating: "x", count: 1_500_000)
                    try await append(Ammunition.events(1))
                    try await save(NewSnapshot(payload: ByteBuffer(string: #"{"filled":"\#(half)"}"#)))
                    try await upcast(Ammunition.definition(#"{"set":{"path":"/a","value":1}}"#))
                case .eventOfAnotherLimit: try await append(Ammunition.large(6 << 20))
                }
            }
        }
        if stored == .eventOfAnotherLimit {
            try await Victim.with(extra: ["--payload-max", "7340032"], folder: folder, fill)
            try await Victim.with(folder: folder) { try await body($0, tenant, target) }
        } else {
            try await Victim.with(folder: folder) { victim in
                try await fill(victim)
                try await body(victim, tenant, target)
            }
        }
    }
}
