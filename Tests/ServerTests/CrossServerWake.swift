import Foundation
import MartletClient
import MartletModel
import MartletTesting
import NIOCore

/// Measures how long an event that one server commits takes to a subscriber of another.
struct CrossServerWake {
    let rounds: Int

    /// The slowest delivery, from before the append to the arrival.
    func slowest(from writer: MartletClient, to reader: MartletClient) async throws -> Duration {
        let tenant = TenantID(UUID())
        let aggregate = AggregateName(type: try type("wake"), id: UUID())
        let (rounds, kind) = (rounds, EventType("Woke"))
        guard let kind else { throw MartletError.invalidField("type", "is none") }
        let (arrivals, arrived) = AsyncStream.makeStream(of: Void.self)
        return try await withThrowingTaskGroup(of: Duration.self) { group in
            group.addTask {
                var count = 0
                for try await item in reader.subscribe(SubscribeRequest(tenant: tenant)) {
                    switch item {
                    case .caughtUp where count == 0: arrived.yield()
                    case .events(let events, _):
                        count += events.count
                        for _ in events { arrived.yield() }
                    default: break
                    }
                    if count == rounds { break }
                }
                return .zero
            }
            group.addTask {
                var slowest = Duration.zero
                var iterator = arrivals.makeAsyncIterator()
                _ = await iterator.next()
                for _ in 0..<rounds {
                    let start = ContinuousClock.now
                    _ = try await writer.append(
                        [NewEvent(type: kind, payload: ByteBuffer(string: "1"))], to: aggregate, expecting: .any,
                        tenant: tenant)
                    _ = await iterator.next()
                    slowest = max(slowest, ContinuousClock.now - start)
                }
                return slowest
            }
            var slowest = Duration.zero
            for try await one in group { slowest = max(slowest, one) }
            return slowest
        }
    }

    private func type(_ text: String) throws -> AggregateType {
        guard let type = AggregateType(text) else { throw MartletError.invalidField("type", "is none") }
        return type
    }
}
