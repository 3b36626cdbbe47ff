public import MartletModel
import MartletSession

extension MartletClient {
    /// Makes a consumer, or replaces its definition; it keeps its place.
    /// - Throws: `CONSUMER_EXISTS` where there is one with another definition and none was expected,
    ///   `CONSUMER_REVISION_CONFLICT` where the revision is not the expected one, `CONSUMER_IN_USE` where key or slots
    ///   change while it is not paused or keys are blocked, `INVALID_FIELD` for a number that is out of its bounds.
    @discardableResult
    public func putConsumer(
        _ request: PutConsumerRequest, timeout: Duration? = nil
    ) async throws(MartletError) -> PutConsumerReceipt {
        guard case .consumerPut(let receipt) = try await answer(.putConsumer(request), timeout: timeout) else {
            throw .wrongAnswer
        }
        return receipt
    }

    /// How a consumer is: its definition, how far it has come, who works on it, what failed last and which slots have stopped.
    /// - Throws: `CONSUMER_NOT_FOUND`.
    public func consumer(
        _ consumer: ConsumerID, timeout: Duration? = nil
    ) async throws(MartletError) -> ConsumerDescription {
        guard case .consumer(let description) = try await answer(.getConsumer(consumer), timeout: timeout) else {
            throw .wrongAnswer
        }
        return description
    }

    /// The tenant's consumers, by name: all of them, ``ListConsumersRequest/countMax`` with each call.
    /// - Parameter timeout: of each call.
    public func consumers(
        of tenant: TenantID, timeout: Duration? = nil
    ) async throws(MartletError) -> [ListedConsumer] {
        var all: [ListedConsumer] = []
        while true {
            let request = ListConsumersRequest(tenant: tenant, after: all.last?.name)
            guard case .consumers(let page) = try await answer(.listConsumers(request), timeout: timeout) else {
                throw .wrongAnswer
            }
            all += page
            guard page.count >= ListConsumersRequest.countMax else { return all }
        }
    }

    /// Deletes a consumer with its place and its blocked keys. Its workers' streams end.
    /// - Throws: `CONSUMER_NOT_FOUND`; also where an earlier try, whose answer was lost, deleted it.
    public func deleteConsumer(_ consumer: ConsumerID, timeout: Duration? = nil) async throws(MartletError) {
        guard case .consumerDeleted = try await answer(.deleteConsumer(consumer), timeout: timeout) else {
            throw .wrongAnswer
        }
    }

    /// Has a consumer begin again from another place, with no key blocked; or only says what would come again.
    /// - Throws: `CONSUMER_NOT_FOUND`; `POSITION_BEYOND_HEAD`.
    @discardableResult
    public func resetConsumer(
        _ request: ResetConsumerRequest, timeout: Duration? = nil
    ) async throws(MartletError) -> ResetConsumerReceipt {
        guard case .consumerReset(let receipt) = try await answer(.resetConsumer(request), timeout: timeout) else {
            throw .wrongAnswer
        }
        return receipt
    }

    /// Blocked keys of a consumer by slot and bytes: one page, of ``ListBlockedKeysRequest/countMax`` keys
    /// unless there are no more.
    /// - Throws: `CONSUMER_NOT_FOUND`.
    public func blockedKeys(
        _ request: ListBlockedKeysRequest, timeout: Duration? = nil
    ) async throws(MartletError) -> [ListedKey] {
        guard case .blockedKeys(let page) = try await answer(.listBlockedKeys(request), timeout: timeout) else {
            throw .wrongAnswer
        }
        return page
    }

    /// The first blocked keys of a consumer by slot and bytes; all of them unless there are more than `max`.
    /// - Parameter timeout: of each call; one is made for ``ListBlockedKeysRequest/countMax`` keys.
    /// - Throws: `CONSUMER_NOT_FOUND`.
    public func blockedKeys(
        of consumer: ConsumerID, max: Int = .max, timeout: Duration? = nil
    ) async throws(MartletError) -> [ListedKey] {
        var all: [ListedKey] = []
        let max = Swift.max(0, max)
        while true {
            let page = try await blockedKeys(
                ListBlockedKeysRequest(consumer, after: all.last?.place), timeout: timeout)
            all += page.prefix(max - all.count)
            guard page.count >= ListBlockedKeysRequest.countMax, all.count < max else { return all }
        }
    }

    /// Has blocked keys tried again, at most ``UnblockKeysRequest/keysMax`` of them; their first events can be
    /// skipped. Keys that are not blocked are passed over.
    /// - Returns: how many are tried again.
    /// - Throws: `CONSUMER_NOT_FOUND`; `LIMIT_EXCEEDED` for too many keys, `INVALID_FIELD` for none.
    @discardableResult
    public func unblockKeys(
        _ request: UnblockKeysRequest, timeout: Duration? = nil
    ) async throws(MartletError) -> Int {
        guard case .keysUnblocked(let count) = try await answer(.unblockKeys(request), timeout: timeout) else {
            throw .wrongAnswer
        }
        return Int(clamping: count)
    }

    /// Waits until everything up to a position is settled by the consumer, or belongs to a blocked key: what its read
    /// model shows has the event of that position in it then.
    /// - Parameter timeout: nil means ``ClientConfiguration/requestTimeout``.
    /// - Returns: how far the consumer has come, at least to the position.
    /// - Throws: `DEADLINE_EXCEEDED` where it does not come so far in time, `CONSUMER_NOT_FOUND`.
    @discardableResult
    public func awaitConsumer(
        _ consumer: ConsumerID, position: Position, timeout: Duration? = nil
    ) async throws(MartletError) -> Position {
        let request = AwaitConsumerRequest(consumer, position: position)
        guard case .consumerReached(let reached) = try await answer(.awaitConsumer(request), timeout: timeout) else {
            throw .wrongAnswer
        }
        return reached
    }
}
