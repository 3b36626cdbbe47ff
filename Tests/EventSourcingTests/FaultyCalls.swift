import MartletModel
import MartletClient
import NIOConcurrencyHelpers

@testable import MartletEventSourcing

/// A client that loses answers, and lets others write first.
struct FaultyCalls: StoreCalls {
    enum Fault: Sendable {
        /// The append is stored, its answer is lost.
        case answerLost
        /// The append is not sent.
        case notSent
    }

    let calls: ClientCalls
    let faults = NIOLockedValueBox<[Fault]>([])
    let loads = NIOLockedValueBox(0)
    let before = NIOLockedValueBox<[@Sendable () async throws -> Void]>([])

    static let unknown = MartletError(.unknown, reason: .outcomeUnknown, message: "as told", isRetryable: true)

    init(_ client: MartletClient, _ faults: [Fault] = []) {
        calls = ClientCalls(client: client)
        self.faults.withLockedValue { $0 = faults }
    }

    func load(_ request: LoadRequest) async throws(MartletError) -> EventStream<LoadView> {
        loads.withLockedValue { $0 += 1 }
        return try await calls.load(request)
    }

    func append(_ parts: [NewAggregateEvents], tenant: TenantID) async throws(MartletError) -> AppendReceipt {
        if let interloper = before.withLockedValue({ $0.popLast() }) {
            do { try await interloper() } catch { throw (error as? MartletError) ?? Self.unknown }
        }
        switch faults.withLockedValue({ $0.popLast() }) {
        case nil: return try await calls.append(parts, tenant: tenant)
        case .notSent: throw Self.unknown
        case .answerLost:
            _ = try await calls.append(parts, tenant: tenant)
            throw Self.unknown
        }
    }

    func save(_ request: SaveSnapshotRequest) async throws(MartletError) -> SaveSnapshotReceipt {
        guard faults.withLockedValue({ $0.popLast() }) == nil else { throw Self.unknown }
        return try await calls.save(request)
    }
}
