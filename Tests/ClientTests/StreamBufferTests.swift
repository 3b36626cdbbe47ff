import MartletModel
import MartletSession
import NIOCore
import Testing

@testable import MartletClient

@Suite(.timeLimit(.minutes(1))) struct StreamBufferTests {
    private func buffer(_ windowBytes: Int = 1_000) -> StreamBuffer {
        StreamBuffer(window: CreditWindow(windowBytes: windowBytes, windowBytesMax: 10_000))
    }

    private func message(_ bytes: Int, _ signal: SubscriptionMessage.Signal? = nil) -> CallMessage {
        .subscribe(
            SubscriptionMessage(
                entries: ByteBuffer(repeating: 1, count: bytes), head: Sample.head(1), signal: signal))
    }

    private func next(_ buffer: StreamBuffer) async -> (CallMessage?, Int, CallFailure?) {
        switch await buffer.next() {
        case .part(let body, let bytes): (body, bytes, nil)
        case .end(let failure): (nil, 0, failure)
        }
    }

    @Test func whatCameIsDeliveredBeforeTheEnd() async {
        let buffer = buffer()
        #expect(buffer.offer(message(300)) == .none)
        #expect(buffer.offer(message(200)) == .none)
        buffer.finish(.clientClosed)
        #expect(buffer.offer(message(100)) == .none)
        let first = await next(buffer)
        #expect(first.0 == message(300) && first.1 == 300)
        let second = await next(buffer)
        #expect(second.0 == message(200) && second.1 == 0)
        for _ in 0..<2 {
            let end = await next(buffer)
            #expect(end.0 == nil && end.2 == .clientClosed)
        }
    }

    @Test func aWaitingConsumerIsWoken() async {
        // Before it waits, while it begins to, and while it does.
        for round in 0..<500 {
            let buffer = buffer()
            async let part = next(buffer)
            for _ in 0..<round % 50 { await Task.yield() }
            #expect(buffer.offer(message(300)) == .none)
            let (body, grant, _) = await part
            #expect(body == message(300) && grant == 300, "round \(round)")
        }
    }

    @Test func cancellingDropsWhatWaits() async {
        let buffer = buffer()
        #expect(buffer.offer(message(300)) == .none)
        buffer.cancel()
        let end = await next(buffer)
        #expect(end.2?.error.reason == .cancelled)
    }

    @Test(arguments: [CallMessage.loadWaits(creditBytes: 4_000), .readWaits(creditBytes: 4_000)])
    func theWindowFollowsWhatIsStored(_ waiting: CallMessage) async {
        let buffer = buffer(1_000)
        #expect(buffer.offer(waiting) == .grant(3_000))
        #expect(buffer.offer(waiting) == .none)
        #expect(buffer.offer(message(4_000)) == .none)
        let part = await next(buffer)
        #expect(part.0 == message(4_000) && part.1 == 4_000)
    }

    @Test(arguments: [
        CallMessage.loadWaits(creditBytes: 10_001), .readWaits(creditBytes: .max),
        .subscribe(
            SubscriptionMessage(
                head: Sample.head(1), signal: .heartbeat(Position(1), waitingForCreditBytes: 10_001))),
    ])
    func whatIsTooLargeForTheClientEndsTheStream(_ waiting: CallMessage) async throws {
        let buffer = buffer()
        async let end = next(buffer)
        #expect(buffer.offer(waiting) == .giveUp)
        let error = try #require(await end.2?.error)
        #expect(error.reason == .limitExceeded && error.limit?.name == "frame_bytes_max")
        #expect(error.limit?.limit == 10_000 && error.message.contains("10000"), "\(error)")
    }

    @Test func onlyTheLastHeartbeatIsKept() async {
        let buffer = buffer()
        for position in 1...5_000 as ClosedRange<UInt64> {
            let signal: SubscriptionMessage.Signal =
                position % 2 == 0
                ? .checkpoint(Position(position)) : .heartbeat(Position(position), waitingForCreditBytes: 0)
            #expect(buffer.offer(message(0, signal)) == .none)
        }
        buffer.finish(nil)
        let last = await next(buffer)
        #expect(last.0 == message(0, .checkpoint(Position(5_000))))
        let end = await next(buffer)
        #expect(end.0 == nil && end.2 == nil)
    }

    @Test func signalsAreBounded() async {
        let buffer = buffer()
        var taken = 0
        while buffer.offer(message(0, .caughtUp(Position(1)))) == .none { taken += 1 }
        #expect(taken == 1_024)
        for _ in 0..<taken { _ = await next(buffer) }
        let end = await next(buffer)
        #expect(end.2?.error.isRetryable == true)
    }

    @Test func aWaitingServerGetsCredit() {
        let buffer = buffer(100)
        let signal = SubscriptionMessage.Signal.heartbeat(Position(1), waitingForCreditBytes: 500)
        #expect(buffer.offer(message(0, signal)) == .grant(400))
    }

    private func committed(_ slot: Int, _ position: UInt64) -> CallMessage {
        .consume(.committed(slot: slot, Checkpoint(position: Position(position), eventID: nil)))
    }

    @Test func onlyTheLastCheckpointOfASlotIsKept() async {
        let buffer = StreamBuffer(
            window: CreditWindow(windowBytes: 1_000, windowBytesMax: 10_000), workerSignals: WorkerSignals())
        for round in 1...20 as ClosedRange<UInt64> {
            for slot in 0..<ConsumerDefinition.slotsMax { #expect(buffer.offer(committed(slot, round)) == .none) }
        }
        for slot in 0..<3 {
            let part = await next(buffer)
            #expect(part.0 == committed(slot, 20))
        }
        // What was taken is not changed, nor what was said before the slot was another one.
        #expect(buffer.offer(committed(0, 21)) == .none)
        #expect(buffer.offer(.consume(.revoked([0]))) == .none)
        #expect(buffer.offer(committed(0, 1)) == .none)
        #expect(buffer.offer(committed(1_023, 22)) == .none)
        for slot in 3..<ConsumerDefinition.slotsMax {
            let part = await next(buffer)
            #expect(part.0 == committed(slot, slot == 1_023 ? 22 : 20))
        }
        for expected in [committed(0, 21), .consume(.revoked([0])), committed(0, 1)] {
            let part = await next(buffer)
            #expect(part.0 == expected)
        }
    }

    @Test func onlyTheLastCheckpointOfATenantsSlotIsKept() async {
        let buffer = StreamBuffer(
            window: CreditWindow(windowBytes: 1_000, windowBytesMax: 10_000),
            workerSignals: WorkerSignals(tenantsMax: 2))
        let (a, b) = (Sample.tenant(1), Sample.tenant(2))
        func committed(_ tenant: TenantID, _ position: UInt64) -> CallMessage {
            .consumeOf(tenant, .committed(slot: 0, Checkpoint(position: Position(position), eventID: nil)))
        }
        let left = CallMessage.consumeOf(a, .left(Sample.error(.consumerNotFound, .notFound)))
        for message in [
            .consume(.joined([a, b])), committed(a, 1), committed(b, 2), committed(a, 3), left,
            .consume(.joined([a])), committed(a, 4), committed(b, 5),
        ] { #expect(buffer.offer(message) == .none) }
        for expected in [
            .consume(.joined([a, b])), committed(a, 3), committed(b, 5), left, .consume(.joined([a])), committed(a, 4),
        ] {
            let part = await next(buffer)
            #expect(part.0 == expected)
        }
    }

    @Test func asMuchMayWaitAsThereAreSlots() {
        for tenantsMax in [2, 6] {
            let buffer = StreamBuffer(
                window: CreditWindow(windowBytes: 1_000, windowBytesMax: 10_000),
                workerSignals: WorkerSignals(tenantsMax: tenantsMax))
            let slots = 0..<ConsumerDefinition.slotsMax
            let assigned = ConsumeMessage.assigned(
                slots.map { ConsumeMessage.Slot(number: $0, epoch: 1, checkpoint: .start) })
            let tenants = (1...6).map { Sample.tenant($0) }
            #expect(buffer.offer(.consume(.joined(tenants))) == .none)
            var count = 1
            for tenant in tenants {
                #expect(buffer.offer(.consumeOf(tenant, assigned)) == .none)
                for slot in slots {
                    #expect(buffer.offer(.consumeOf(tenant, .committed(slot: slot, .start))) == .none)
                }
                count += 1 + slots.count
            }
            while count < 100_000, buffer.offer(.consumeOf(tenants[0], .paused(true))) == .none { count += 1 }
            // Four for each slot and each tenant that a stream may have.
            #expect(count == 4 * tenantsMax * (slots.count + 1), "\(tenantsMax)")
        }
    }

    @Test func whatAWorkerHasNotTakenEndsWithItsStream() async {
        let buffer = StreamBuffer(
            window: CreditWindow(windowBytes: 1_000, windowBytesMax: 10_000), workerSignals: WorkerSignals())
        #expect(buffer.offer(committed(0, 1)) == .none)
        #expect(buffer.offer(.consume(.waits(creditBytes: 1_500))) == .grant(500))
        buffer.finish(.clientClosed)
        let end = await next(buffer)
        #expect(end.0 == nil && end.2 == .clientClosed)
    }

    @Test func creditThatIsHeldIsGrantedWhenItIsGivenBack() async {
        let buffer = StreamBuffer(
            window: CreditWindow(windowBytes: 1_000, windowBytesMax: 10_000), workerSignals: WorkerSignals(),
            holdsCredit: true)
        let events = CallMessage.consume(.events(ByteBuffer(repeating: 1, count: 500), []))
        for _ in 0..<2 { #expect(buffer.offer(events) == .none) }
        for _ in 0..<2 {
            let part = await next(buffer)
            #expect(part.0 == events && part.1 == 0)
        }
        #expect(buffer.offer(.consume(.waits(creditBytes: 300))) == .none, "all of the window is held")
        #expect(buffer.giveBack(100) == 100, "the server waits for it")
        #expect(buffer.giveBack(900) == 900)
        // One that is larger than the window still gets through.
        #expect(buffer.offer(.consume(.waits(creditBytes: 5_000))) == .grant(4_000))
    }
}
