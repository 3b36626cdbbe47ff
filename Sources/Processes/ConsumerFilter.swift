import MartletClient
import MartletModel
import NIOConcurrencyHelpers

/// A consumer's filter, as it was when it was last asked for.
final class ConsumerFilter: Sendable {
    private let known = NIOLockedValueBox<EventFilter?>(nil)

    func value(_ client: MartletClient, _ consumer: ConsumerID, isAnew: Bool) async throws -> EventFilter {
        if !isAnew, let filter = known.withLockedValue({ $0 }) { return filter }
        let filter = try await client.consumer(consumer).definition.filter
        known.withLockedValue { $0 = filter }
        return filter
    }
}
