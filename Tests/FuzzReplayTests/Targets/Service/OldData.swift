import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletStorage
import NIOCore

/// What storage holds when the service starts, from the first bytes of a script: also what is larger than its limits, as
/// a service with larger limits may have stored it before.
struct OldData {
    private static let payloads = [100, 20_000, 70_000, 100_000].map { ServiceRequests.payload(bytes: $0) }

    /// Three events of each type and payload; made once, as checking long ones takes its time.
    private static let events: [[EncodedEvent]] = (0..<UInt64(3)).map { number in
        payloads.indices.flatMap { size in
            ServiceRequests.types.indices.compactMap { type in
                guard let name = EventType(ServiceRequests.types[type]) else { return nil }
                return try? EncodedEvent(
                    NewEvent(id: UUID(high: 8, low: number), type: name, payload: payloads[size]))
            }
        }
    }

    private var appends: [AppendRequest] = []
    private var changes: [TenantChange] = []

    init(_ input: inout Input) {
        for number in 0..<input.number(below: 4) {
            let choice = input.byte()
            let size = Int(choice & 3)
            let tenant = ServiceWorld.tenants[Int(choice >> 2 & 1)]
            let aggregate = ServiceRequests.name(Int(choice >> 3 & 1))
            let event = Self.events[number][size * ServiceRequests.types.count + Int(choice >> 6)]
            let part = AggregateAppend(aggregate: aggregate, expected: .any, events: [event])
            appends.append(AppendRequest(tenant: tenant, aggregates: [part]))
            if choice & 16 != 0 {
                changes.append(
                    .saveSnapshot(
                        SaveSnapshotRequest(
                            tenant: tenant, aggregate: aggregate, version: Version(1),
                            snapshot: NewSnapshot(payload: Self.payloads[size])), kept: 3))
            }
            if choice & 32 != 0 {
                var document = ByteBuffer(string: #"{"policies":[{"every_events":2}]}"#)
                document.writeRepeatingByte(UInt8(ascii: " "), count: Self.payloads[size].readableBytes)
                changes.append(
                    .putSettings(PutSettingsRequest(tenant: tenant, kind: .snapshotPolicies, document: document)))
            }
        }
    }

    /// Stores it, before the service starts.
    func store(in engine: any StorageEngine) throws {
        let writer = engine.makeWriter()
        let now = Timestamp(microseconds: 1_700_000_000_000_000)
        for command in appends.map({ WriteCommand.append($0) }) + changes.map({ .change($0) }) {
            _ = try writer.commit([command], now: now)
        }
    }
}
