import MartletModel
import MartletQueries
import MartletStorage
import MartletSubscriptions
import Testing

/// What is handed on by value for each append, page or message is copied by a few moves of registers up to 128 bytes, and beyond by
/// a call each time: on the way of a live event there were 5 such calls, and 28 after a type had grown by a few bytes.
@Suite struct SizeTests {
    @Test func whatIsHandedOnIsSmall() {
        let sizes: [(String, Int)] = [
            ("EventPage", MemoryLayout<EventPage>.size), ("FeedPull", MemoryLayout<FeedPull>.size),
            ("SubscriptionMessage", MemoryLayout<SubscriptionMessage>.size),
            ("SubscriptionMachine.Action", MemoryLayout<SubscriptionMachine.Action>.size),
            ("Result<EventPage, MartletError>", MemoryLayout<Result<EventPage, MartletError>>.size),
            ("CallRequest", MemoryLayout<CallRequest>.size), ("CallMessage", MemoryLayout<CallMessage>.size),
            ("WorkerReply", MemoryLayout<WorkerReply>.size),
            ("ConsumeMessage.Delivery", MemoryLayout<ConsumeMessage.Delivery>.size),
            ("QueryCursor", MemoryLayout<QueryCursor>.size), ("AggregateAppend", MemoryLayout<AggregateAppend>.size),
            ("WriteCommand", MemoryLayout<WriteCommand>.size),
            ("BatchFacts", MemoryLayout<BatchFacts>.size), ("BatchQuestions", MemoryLayout<BatchQuestions>.size),
            ("WriteOutcome", MemoryLayout<WriteOutcome>.size), ("TenantPlan", MemoryLayout<TenantPlan>.size),
        ]

        for (name, size) in sizes { #expect(size <= 128, "\(name)") }
    }
}
