import Foundation
import MartletClient
import MartletModel
import MartletTesting
import NIOCore

/// Measures how long an event that one server commits takes to a subscriber of another.
struct CrossServerWake {
    let rounds: Int

    /// The median of the deliveries, each from before the append to the arrival.
    func median(from writer: MartletClient, to reader: MartletClient) async throws -> Duration {
        let tenant = TenantID(UUID())
        let aggregate = AggregateName(type: try type("wake"), id: UUID())
        let (rounds, kind) = (rounds, EventType("Woke"))
        let (arrivals, arrived) = AsyncStream.makeStream(of: Void.self)
        return try await withThrowingTaskGroup(of: [Duration].self) { group in
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
                return []
            }
            group.addTask {
                var times: [Duration] = []
                var iterator = arrivals.makeAsyncIterator()
                _ = await iterator.next()
                for _ in 0..<rounds {
                    let start = ContinuousClock.now
                    _ = try await writer.append(
                        [NewEvent(type: kind, payload: ByteBuffer(string: "1"))], to: aggregate, expecting: .any,
                        tenant: tenant)
                    _ = await iterator.next()
                    times.append(ContinuousClock.now - start)
                }
                return times
            }
            let times = try await group.reduce(into: []) { $0 += $1 }
            return times.sorted()[rounds / 2]
        }
    }

    private func type(_ text: String) throws -> AggregateType {
        guard let type = AggregateType(text) else { throw MartletError.invalidField("type", "is none") }
        return type
    }
}
