import FoundationEssentials
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTenants
import MartletTesting
import NIOCore
import Testing

@testable import MartletService

/// What workers of a consumer get, and what becomes of what they say.
@Suite struct ConsumeCallTests {
    private static let accounts = (0..<6).map {
        AggregateName(type: "account", id: UUID(high: 5, low: UInt64($0)))
    }

    private static func definition(
        slots: Int = 4, _ change: (inout SlotSettings) -> Void = { _ in }
    ) -> ConsumerDefinition {
        var definition = ConsumerDefinition(slotCount: slots)
        change(&definition.delivery)
        return definition
    }

    @Test func aWorkerGetsEveryEventAndGoesOnFromThere() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition())
        for number in 0..<12 { try bench.append("\(number)", to: Self.accounts[number % 6]) }
        let worker = try bench.worker("a")
        bench.run()
        let first = try worker.take()
        #expect(worker.slots.keys.sorted() == [0, 1, 2, 3])
        #expect(Set(first.map(\.payload)) == Set((0..<12).map { "\($0)" }) && first.count == 12)
        #expect(first.map(\.delivery.number) == Array(1...12))
        for account in Self.accounts {
            let own = first.filter { $0.event.aggregate == account }.map(\.event.version)
            #expect(own == own.sorted(), "in order")
        }
        #expect(first.allSatisfy { $0.delivery.attempt == 1 })
        worker.acknowledge(first)
        bench.advance(.milliseconds(300))
        _ = try worker.take()
        #expect(worker.committed.values.map(\.position).max() == Position(12))
        let description = try bench.describe()
        #expect(description.positionsBehind == 0 && description.oldest == nil && description.workers.count == 1)
        worker.leave()
        bench.run()
        try bench.append("12", to: Self.accounts[0])
        let next = try bench.worker("a")
        bench.run()
        let second = try next.take()
        #expect(second.map(\.payload) == ["12"], "nothing that was settled comes again")
        #expect(next.slots.values.allSatisfy { $0.epoch == 2 })
    }

    @Test func whatWasNotAcknowledgedComesAgainAndIsMarked() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1))
        for number in 0..<4 { try bench.append("\(number)", to: Self.accounts[0]) }
        let worker = try bench.worker("a")
        let first = try worker.take()
        worker.acknowledge(Array(first.prefix(2)))
        bench.advance(.milliseconds(200))
        worker.connection.close()
        bench.run()
        try bench.append("4", to: Self.accounts[0])
        let next = try bench.worker("a")
        let second = try next.take()
        #expect(second.map(\.payload) == ["2", "3", "4"])
        #expect(second.map(\.delivery.mayBeRepeated) == [true, true, true], "all that may have been there before")
        try bench.append("5", to: Self.accounts[0])
        bench.run()
        #expect(try next.take().map(\.delivery.mayBeRepeated) == [false])
    }

    @Test(arguments: [false, true]) func aConnectionThatIsClosedLeavesNothingInMemory(isBusy: Bool) throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition())
        weak var calls: ConnectionCalls?
        weak var work: (any CallWork)?
        do {
            let worker = try bench.worker("a")
            if isBusy { for number in 0..<4 { try bench.append("\(number)", to: Self.accounts[number]) } }
            (calls, work) = (worker.connection.connection, worker.work)
            #expect(calls != nil && work is ConsumeCall)
            worker.connection.close()
        }
        bench.run()
        #expect(calls == nil && work == nil)
    }

    @Test func liveEventsComeAtOnce() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition())
        let worker = try bench.worker("a")
        bench.run()
        #expect(try worker.take().isEmpty && worker.slots.count == 4, "assigned, and nothing to do")
        try bench.append("0", to: Self.accounts[3])
        #expect(try worker.take().map(\.payload) == ["0"])
    }

    @Test func workersShareTheSlotsAndAKeyHasOneOfThem() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition())
        let first = try bench.worker("a")
        bench.run()
        _ = try first.take()
        #expect(first.slots.count == 4)
        for number in 0..<6 { try bench.append("\(number)", to: Self.accounts[number]) }
        let before = try first.take()
        #expect(before.count == 6)
        let second = try bench.worker("b")
        bench.advance(.seconds(1))
        _ = try (first.take(), second.take())
        #expect(first.slots.count == 4 && second.slots.isEmpty, "what is under way is settled before its slot goes")
        for number in 6..<12 { try bench.append("\(number)", to: Self.accounts[number % 6]) }
        let kept = try first.take()
        first.acknowledge(before)
        second.say(.alive)
        bench.advance(.seconds(1))
        let moved = try second.take()
        _ = try first.take()
        #expect(first.slots.count == 2 && second.slots.count == 2)
        #expect(Set(first.slots.keys).isDisjoint(with: second.slots.keys))
        #expect(Set((kept + moved).map(\.payload)) == Set((6..<12).map { "\($0)" }))
        #expect(moved.allSatisfy { second.slots[$0.delivery.slot] != nil })
        #expect(kept.count + moved.count == 6, "each once")
    }

    @Test func noMoreSlotsMoveThanAreTooMany() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 8))
        // Five events of each slot.
        for slot in 0..<8 {
            for number in 0..<5 {
                var account = AggregateName.new("account")
                while ConsumerKey(.aggregate, aggregate: account, tag: { _ in nil }).slot(of: 8) != slot {
                    account = .new("account")
                }
                try bench.append("\(number)", to: account)
            }
        }
        let first = try bench.worker("a")
        let before = try first.take()
        #expect(Set(before.map(\.delivery.slot)).count == 8, "each slot has something under way")
        let second = try bench.worker("b")
        for delivered in before {
            // They run dry one after the other.
            first.acknowledge([delivered])
            bench.advance(.milliseconds(20))
        }
        bench.advance(.seconds(1))
        _ = try (first.take(), second.take())
        #expect(first.slots.count == 4 && second.slots.count == 4)
        #expect(first.slots.values.allSatisfy { $0.epoch == 1 }, "what it keeps it has kept all the time")
        #expect(second.slots.values.allSatisfy { $0.epoch == 2 })
    }

    @Test func aFailedEventHoldsUpItsKeyAlone() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1))
        for number in 0..<4 { try bench.append("\(number)", to: Self.accounts[number % 2]) }
        let worker = try bench.worker("a")
        let first = try worker.take()
        worker.say(.reject(first[0].delivery.number, .retry(afterMillis: 400), reason: "later"))
        worker.acknowledge(Array(first.dropFirst()))
        for number in 4..<6 { try bench.append("\(number)", to: Self.accounts[number % 2]) }
        let live = try worker.take()
        #expect(live.map(\.payload) == ["5"], "4 is of the key that waits")
        worker.acknowledge(live)
        bench.advance(.milliseconds(200))
        #expect(try bench.describe().blockedKeyCount == 1)
        #expect(try worker.take().isEmpty)
        bench.advance(.milliseconds(500))
        let again = try worker.take()
        #expect(again.map(\.payload) == ["0", "2", "4"], "in order")
        #expect(again.map(\.delivery.attempt) == [2, 1, 1])
        worker.acknowledge(again)
        bench.advance(.milliseconds(300))
        let description = try bench.describe()
        #expect(description.blockedKeyCount == 0 && description.positionsBehind == 0)
    }

    @Test func aKeyIsParkedAfterSomeTriesAndGoesOnWhenAsked() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 2) { $0.triesMax = 2 })
        try bench.append("13", to: Self.accounts[0])
        try bench.append("14", to: Self.accounts[0])
        let worker = try bench.worker("a")
        for attempt in 1...2 {
            let got = try worker.take()
            #expect(got.first?.payload == "13" && got.first?.delivery.attempt == UInt32(attempt))
            worker.say(.reject(try #require(got.first).delivery.number, .retry(afterMillis: nil), reason: "no account"))
            bench.advance(.seconds(2))
            worker.say(.alive)
        }
        #expect(try worker.take().isEmpty)
        guard case .blockedKeys(let keys) = try bench.answer(.listBlockedKeys(ListBlockedKeysRequest(bench.id()))),
            let key = keys.first
        else { throw ConsumerBench.Unexpected() }
        #expect(keys.count == 1 && key.blocked.reason == "no account" && key.blocked.tries == 2)
        #expect(key.blocked.until == .asked && key.place.key.description == "a:\(Self.accounts[0])")
        let retry = UnblockKeysRequest(bench.id(), keys: [.init(key.place)])
        #expect(try bench.answer(.unblockKeys(retry)) == .keysUnblocked(1))
        bench.advance(.seconds(1))
        worker.say(.alive)
        let again = try worker.take()
        #expect(again.first?.payload == "13" && again.first?.delivery.attempt == 3)
        worker.acknowledge(again)
        bench.advance(.milliseconds(300))
        let rest = try worker.take()
        worker.acknowledge(rest)
        bench.advance(.milliseconds(300))
        #expect((again + rest).map(\.payload) == ["13", "14"])
        #expect(try bench.describe().blockedKeyCount == 0)
    }

    @Test func anEventCanBeSkipped() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1))
        for number in 0..<3 { try bench.append("\(number)", to: Self.accounts[0]) }
        let worker = try bench.worker("a")
        let first = try worker.take()
        worker.say(.reject(first[0].delivery.number, .park, reason: "never"))
        bench.advance(.milliseconds(300))
        guard case .blockedKeys(let keys) = try bench.answer(.listBlockedKeys(ListBlockedKeysRequest(bench.id()))),
            let key = keys.first
        else { throw ConsumerBench.Unexpected() }
        let skip = UnblockKeysRequest(bench.id(), keys: [.init(key.place, skipping: key.blocked.first.position)])
        #expect(try bench.answer(.unblockKeys(skip)) == .keysUnblocked(1))
        bench.advance(.seconds(1))
        #expect(try worker.take().map(\.payload) == ["1", "2"])
    }

    @Test func aSlotThatWasLeftBehindComesBackWithLittleRoom() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1) { $0.inFlightMax = 3 })
        for number in 0..<8 { try bench.append("\(number)", to: Self.accounts[number % 6]) }
        let worker = try bench.worker("a")
        var open = try worker.take()
        #expect(open.map(\.payload) == ["0", "1", "2"])
        for next in 3..<8 {
            // The reading goes on without it.
            bench.advance(.seconds(2))
            worker.acknowledge([open.removeFirst()])
            bench.advance(.seconds(2))
            worker.say(.alive)
            open += try worker.take()
            #expect(open.last?.payload == "\(next)" && open.count == 3)
        }
    }

    @Test func aSlotStopsWhereItsWorkerSaysSo() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1))
        try bench.append("0", to: Self.accounts[0])
        let worker = try bench.worker("a")
        worker.say(.reject(try #require(try worker.take().first).delivery.number, .stop, reason: "disk full"))
        try bench.append("1", to: Self.accounts[1])
        bench.advance(.seconds(1))
        #expect(try worker.take().isEmpty && worker.stopped == [0: "disk full"])
        #expect(try bench.describe().oldest?.position == Position(1))
    }

    @Test func aSilentWorkerLosesItsSlots() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1))
        try bench.append("0", to: Self.accounts[0])
        let silent = try bench.worker("a")
        let first = try silent.take()
        #expect(first.count == 1)
        let other = try bench.worker("b")
        bench.advance(.seconds(2))
        other.say(.alive)
        bench.advance(.seconds(2))
        #expect(silent.error?.reason == .workerSilent)
        let second = try other.take()
        #expect(second.map(\.payload) == ["0"] && second.map(\.delivery.mayBeRepeated) == [true])
        silent.acknowledge(first)
        bench.advance(.milliseconds(300))
        #expect(try bench.describe().oldest?.position == Position(1), "it came too late")
    }

    @Test func aNewerStreamOfTheNameEndsTheOlder() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition())
        let old = try bench.worker("a")
        let new = try bench.worker("a")
        bench.advance(.seconds(2))
        #expect(old.error?.reason == .workerReplaced)
        _ = try new.take()
        #expect(new.slots.count == 4)
    }

    @Test func aConsumerThatIsNotThereHasNoWorkers() throws {
        let bench = try ConsumerBench()
        let worker = try bench.worker("a")
        bench.run()
        #expect(worker.error?.reason == .consumerNotFound)
        #expect(throws: MartletError.consumerNotFound) { try bench.describe() }
    }

    @Test func whatChangesOfAConsumerReachesItsWorkers() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1))
        try bench.append("0", to: Self.accounts[0])
        let worker = try bench.worker("a")
        worker.acknowledge(try worker.take())
        bench.advance(.milliseconds(300))
        var paused = Self.definition(slots: 1)
        paused.isPaused = true
        try bench.put(paused)
        try bench.append("1", to: Self.accounts[0])
        bench.advance(.seconds(1))
        worker.say(.alive)
        bench.advance(.seconds(1))
        _ = try worker.take()
        #expect(worker.isPaused && worker.slots.isEmpty)
        try bench.put(Self.definition(slots: 1))
        bench.advance(.seconds(1))
        worker.say(.alive)
        bench.advance(.seconds(1))
        let resumed = try worker.take()
        #expect(!worker.isPaused && worker.slots.count == 1 && resumed.last?.payload == "1")
        worker.acknowledge(resumed)
        bench.advance(.milliseconds(300))
        let reset = ResetConsumerRequest(bench.id(), start: .after(.start), isPreview: true)
        #expect(
            try bench.answer(.resetConsumer(reset))
                == .consumerReset(ResetConsumerReceipt(after: .start, before: Position(2))))
        _ = try bench.answer(.resetConsumer(ResetConsumerRequest(bench.id(), start: .after(.start))))
        bench.advance(.seconds(2))
        #expect(try worker.take().map(\.payload) == ["0", "1"], "from the beginning")
        #expect(try bench.answer(.deleteConsumer(bench.id())) == .consumerDeleted)
        bench.advance(.seconds(2))
        #expect(worker.error?.reason == .consumerNotFound)
    }

    @Test func aWorkerOfAPausedConsumerIsToldOfItsSlotsFirst() throws {
        let bench = try ConsumerBench()
        var definition = Self.definition()
        definition.isPaused = true
        try bench.put(definition)
        let worker = try bench.worker("a")
        bench.run()
        #expect(worker.messages == [.assigned([]), .paused(true)])
    }

    @Test func aDrainEndsTheStream() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition())
        let worker = try bench.worker("a")
        worker.connection.drain()
        #expect(worker.error?.reason == .draining)
    }

    @Test func aMessageHoldsAPageOrOneLargerEvent() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1))
        for size in [200_000, 200_000, 10, 600_000, 10] {
            try bench.append("\"" + String(repeating: "x", count: size) + "\"", to: Self.accounts[0])
        }
        let worker = try bench.worker("a", creditBytes: 8 << 20)
        bench.run()
        let counts = worker.messages.compactMap { message -> Int? in
            if case .events(let entries, let deliveries) = message {
                #expect(deliveries.count == 1 || entries.readableBytes <= bench.service.limits.pageBytesMax)
                return deliveries.count
            }
            return nil
        }
        #expect(counts.reduce(0, +) == 5)
    }

    @Test func workersOfTheServerHearOfChangesAtOnce() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1))
        try bench.append("0", to: Self.accounts[0])
        let worker = try bench.worker("a")
        worker.say(.reject(try #require(try worker.take().first).delivery.number, .park, reason: "no account"))
        bench.advance(.milliseconds(200))
        guard case .blockedKeys(let keys) = try bench.answer(.listBlockedKeys(ListBlockedKeysRequest(bench.id()))),
            let key = keys.first
        else { throw ConsumerBench.Unexpected() }
        _ = try bench.answer(.unblockKeys(UnblockKeysRequest(bench.id(), keys: [.init(key.place)])))
        bench.run()
        #expect(try worker.take().map(\.payload) == ["0"])
        var paused = Self.definition(slots: 1)
        paused.isPaused = true
        try bench.put(paused)
        bench.run()
        #expect(try worker.take().isEmpty && worker.isPaused && worker.slots.isEmpty)
        #expect(try bench.answer(.deleteConsumer(bench.id())) == .consumerDeleted)
        bench.run()
        #expect(worker.error?.reason == .consumerNotFound)
    }

    @Test func aWorkerWithoutCreditIsToldSoAndGetsNothing() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1))
        try bench.append(String(repeating: "7", count: 2_000), to: Self.accounts[0])
        let worker = try bench.worker("a", creditBytes: 1_000)
        bench.run()
        #expect(try worker.take().isEmpty)
        let needed = try #require(worker.waitsForCredit)
        #expect((2_000...2_500).contains(needed))
        worker.addCredit(needed - 1_000)
        bench.run()
        #expect(try worker.take().count == 1)
    }

    @Test func aConnectionThatTakesNothingGetsNothing() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1))
        let worker = try bench.worker("a")
        _ = try worker.take()
        worker.connection.isWritable = false
        try bench.append("0", to: Self.accounts[0])
        #expect(try worker.take().isEmpty)
        worker.connection.isWritable = true
        worker.connection.pump()
        bench.run()
        #expect(try worker.take().map(\.payload) == ["0"])
    }

    @Test func repliesToWhatWasNeverDeliveredEndTheCall() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1))
        try bench.append("0", to: Self.accounts[0])
        let worker = try bench.worker("a")
        let first = try worker.take()
        worker.acknowledge(first)
        worker.acknowledge(first)
        bench.run()
        #expect(!worker.isOver, "late is no fault")
        worker.say(.acknowledge(2, upTo: false))
        #expect(worker.error?.reason == .neverDelivered)
        let flood = try bench.worker("b")
        bench.run()
        try bench.append("1", to: Self.accounts[0])
        let got = try flood.take()
        for _ in 0..<10_020 { flood.acknowledge(got) }
        #expect(flood.error?.reason == .neverDelivered, "the same for ever")
    }

    @Test func anotherPastEndsTheCall() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 1))
        for number in 0..<3 { try bench.append("\(number)", to: Self.accounts[0]) }
        let worker = try bench.worker("a")
        worker.acknowledge(try worker.take())
        bench.advance(.milliseconds(300))
        worker.leave()
        bench.run()
        bench.engine.restore([bench.tenant: 2])
        let next = try bench.worker("a")
        bench.run()
        #expect(next.error?.reason == .historyChanged && next.error?.message.contains("position 3") == true)
    }

    @Test func aWaiterHearsWhenTheConsumerHasComeSoFar() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition(slots: 4))
        for number in 0..<3 { try bench.append("\(number)", to: Self.accounts[number]) }
        let worker = try bench.worker("a")
        let got = try worker.take()
        worker.acknowledge(got.filter { $0.payload != "2" })
        bench.advance(.milliseconds(300))
        let second = AwaitConsumerRequest(bench.id(), position: Position(2))
        guard case .consumerReached(let settled) = try bench.answer(.awaitConsumer(second)) else {
            throw ConsumerBench.Unexpected()
        }
        #expect(settled == Position(2), "what comes after it holds nobody up")
        let third = AwaitConsumerRequest(bench.id(), position: Position(3))
        #expect(throws: MartletError.self) { try bench.answer(.awaitConsumer(third), timeoutMillis: 500) }
        worker.acknowledge(got.filter { $0.payload == "2" })
        bench.advance(.milliseconds(300))
        #expect(try bench.answer(.awaitConsumer(third)) == .consumerReached(Position(3)))
    }

    @Test func nothingIsHeldWhenAllIsOver() throws {
        let bench = try ConsumerBench()
        try bench.put(Self.definition())
        for number in 0..<50 { try bench.append("\(number)", to: Self.accounts[number % 6]) }
        let worker = try bench.worker("a", creditBytes: 500)
        bench.run()
        #expect(bench.service.pools.calls.bytes > 0)
        worker.leave()
        bench.run()
        #expect(bench.service.pools.calls.bytes == 0 && bench.service.pools.outbound.bytes == 0)
    }
}
