public import MartletModel
public import MartletStorage
import NIOCore

/// An aggregate with three snapshots, for tests of their list.
public struct SnapshotListHistory: Sendable {
    /// The aggregate, which has 9 events.
    public let name = AggregateName.new()
    /// How long the state of each snapshot is, of versions 3, 6 and 9.
    public let payloadBytes: [Int]
    private let tenant: TenantID

    /// Stores the events and the snapshots.
    public init(_ engine: any StorageEngine, tenant: TenantID, payloadBytes: [Int] = [7, 8, 9]) throws {
        self.tenant = tenant
        self.payloadBytes = payloadBytes
        let writer = engine.makeWriter()
        try writer.append(AppendRequest.of((0..<9).map { _ in try .sample() }, to: name, tenant: tenant))
        for (index, bytes) in payloadBytes.enumerated() {
            let state = ByteBuffer(repeating: UInt8(ascii: "1") + UInt8(index), count: bytes)
            _ = try writer.apply(
                .saveSnapshot(
                    SaveSnapshotRequest(
                        tenant: tenant, aggregate: name, version: Version(UInt64(3 * index + 3)),
                        snapshot: NewSnapshot(payload: state)), kept: 3), now: .now())
        }
    }

    /// Whether a list is that of the snapshots as they were saved.
    public func isTold(by infos: [SnapshotInfo]) -> Bool {
        infos.map(\.version.rawValue) == [9, 6, 3] && infos.map(\.payloadBytes) == payloadBytes.reversed()
            && infos.allSatisfy(\.isIntact)
    }

    /// The versions of which a state can be loaded and is intact.
    public func intactVersions(_ reader: any StorageReader) throws -> [UInt64] {
        try [3, 6, 9].filter { try reader.snapshot(of: name, in: tenant, at: Version($0))?.isIntact == true }
    }
}
