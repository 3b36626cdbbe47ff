import Foundation
import MartletClient
import MartletModel
import MartletSession
import NIOCore
import Testing

/// One tenant's flood leaves the others their turn.
@Suite(.serialized) struct FairnessTests {
    enum Flood: String, CaseIterable {
        case listSnapshots, loadSnapshot, getHead, heavyLoads, scanningReads, saveSnapshot, putSettings

        /// Calls that bring much; the others are small.
        var largeCalls: Int? {
            switch self {
            case .saveSnapshot: 20
            case .putSettings: 60
            default: nil
            }
        }
    }

    /// Calls that are cancelled at once: no more than one is ever open on a connection.
    @Test(arguments: Flood.allCases) func callsThatAreCancelledHoldUpNobody(_ flood: Flood) async throws {
        try await attack(flood, connections: 4, callsOfEach: flood.largeCalls ?? 4_000, cancels: true)
    }

    /// Calls that wait for their answers, as many as a connection may have.
    @Test(arguments: [Flood.listSnapshots, .loadSnapshot, .heavyLoads, .scanningReads])
    func callsThatWaitHoldUpNobody(_ flood: Flood) async throws {
        try await attack(flood, connections: 4, callsOfEach: flood.largeCalls ?? 1_000, cancels: false)
    }

    private func attack(_ flood: Flood, connections: Int, callsOfEach: Int, cancels: Bool) async throws {
        try await Victim.with { victim in
            let tenant = TenantID(UUID())
            let target = Ammunition.aggregate()
            try await seed(victim, tenant, target, flood)
            var peers: [AttackPeer] = []
            for _ in 0..<connections { peers.append(try await victim.connect()) }
            let all = peers
            let request = request(flood, tenant, target)
            let frames = (1...UInt64(callsOfEach)).flatMap { number in
                let call = ClientFrame(CallID(number), .request(request), creditBytes: 1 << 20)
                return cancels ? [call, ClientFrame(CallID(number), .cancel)] : [call]
            }
            let (_, times) = try await victim.bystander {
                for peer in all { peer.push(frames) }
                // Long enough for a hundred calls of the other tenant's, and for those that a queue holds up.
                let start = ContinuousClock.now
                for peer in all {
                    let left = max(0, Bound.attackSeconds - (.now - start) / .seconds(1))
                    _ = try await peer.waits(seconds: left) { $0.endCount == callsOfEach }
                }
                try await Task.sleep(until: start + .seconds(1.5))
            }
            let ended = all.reduce(0) { $0 + $1.received.endCount }
            print(
                "attack: flood of \(connections * callsOfEach) \(flood.rawValue)\(cancels ? ", cancelled" : ""): "
                    + "\(ended) ended; bystander \(times)")
            #expect(times.slowest < Bound.callMillis && times.failures.isEmpty, "\(times)")
            for peer in all { #expect(peer.received.doubled.isEmpty && peer.received.fault == nil) }
        }
    }

    private func seed(
        _ victim: Victim, _ tenant: TenantID, _ target: AggregateName, _ flood: Flood
    ) async throws {
        try await victim.withClient { client in
            switch flood {
            case .listSnapshots:
                try await client.putSettings(
                    PutSettingsRequest(
                        tenant: tenant, kind: .snapshotPolicies,
                        document: ByteBuffer(string: #"{"policies":[{"keep":100}]}"#)))
                _ = try await client.append(Ammunition.events(40), to: target, expecting: .none, tenant: tenant)
                for version in 1...40 {
                    _ = try await client.saveSnapshot(
                        SaveSnapshotRequest(
                            tenant: tenant, aggregate: target, version: Version(UInt64(version)),
                            snapshot: Ammunition.snapshot(Limits().snapshotBytesMax)))
                }
            case .heavyLoads:
                _ = try await client.append(Ammunition.events(40), to: target, expecting: .none, tenant: tenant)
                try await client.putSettings(
                    PutSettingsRequest(tenant: tenant, kind: .upcasters, document: Heavy.elements.definition))
            case .scanningReads:
                for _ in 0..<10 {
                    _ = try await client.append(Ammunition.events(1_000), to: target, expecting: .any, tenant: tenant)
                }
            case .loadSnapshot, .saveSnapshot, .getHead, .putSettings:
                _ = try await client.append(Ammunition.events(1), to: target, expecting: .none, tenant: tenant)
                _ = try await client.saveSnapshot(
                    SaveSnapshotRequest(
                        tenant: tenant, aggregate: target, version: Version(1),
                        snapshot: Ammunition.snapshot(Limits().snapshotBytesMax)))
            }
        }
    }

    private func request(_ flood: Flood, _ tenant: TenantID, _ target: AggregateName) -> CallRequest {
        switch flood {
        case .listSnapshots: .listSnapshots(tenant, target)
        case .loadSnapshot: .loadSnapshot(LoadSnapshotRequest(tenant: tenant, aggregate: target))
        case .getHead: .getHead(tenant)
        case .heavyLoads: .load(LoadRequest(tenant: tenant, aggregate: target))
        case .scanningReads:
            .read(ReadRequest(tenant: tenant, filter: EventFilter(eventTypes: [Ammunition.eventType("Never")])))
        case .saveSnapshot:
            .saveSnapshot(
                SaveSnapshotRequest(
                    tenant: tenant, aggregate: target, version: Version(1),
                    snapshot: Ammunition.snapshot(Limits().snapshotBytesMax)))
        case .putSettings:
            .putSettings(
                PutSettingsRequest(tenant: tenant, kind: .upcasters, document: Ammunition.growing(to: 200_000)))
        }
    }
}
