import MartletModel
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import MartletClient

/// Workers of consumers against the real server, over TLS.
@Suite(.timeLimit(.minutes(2))) struct ConsumptionTests {
    /// What comes of each key is in order and without a gap; what comes again on a later stream starts no later than where
    /// the key was.
    private func expectOrder(_ events: [ConsumedEvent], _ comment: Comment? = nil) {
        var versions: [AggregateName: (stream: UInt64, version: UInt64)] = [:]
        for consumed in events {
            let version = consumed.event.version.rawValue
            let last = versions[consumed.event.aggregate] ?? (0, 0)
            if last.stream == consumed.delivery.stream {
                #expect(version == last.version + 1, comment)
            } else {
                #expect(version <= last.version + 1, comment)
            }
            versions[consumed.event.aggregate] = (consumed.delivery.stream, version)
        }
    }

    @Test func aWorkerGetsEverythingInOrderAndGoesOnAfterALostConnection() async throws {
        try await TestServer.with(MemoryEngine()) { server in
            let proxy = try await ChoppingProxy.start(to: server.port)
            try await MartletClient.withClient(server.clientConfiguration(port: proxy.port)) { client in
                let id = try Sample.consumer()
                let put = try await client.putConsumer(PutConsumerRequest(id, Sample.definition()))
                #expect(put == PutConsumerReceipt(revision: 1, isNew: true))
                try await client.fill(60)
                let worker = TestWorker(client.consume(try Sample.work()))
                let first = try await worker.take(60)
                #expect(first.positions.sorted() == Array(1...60))
                #expect(first.allSatisfy { $0.attempt == 1 })
                expectOrder(first)
                let settled = first.filter { $0.event.aggregate == first[0].event.aggregate }
                for event in settled { worker.consumption.acknowledge(event.delivery) }
                let epochs = await worker.epochs
                try await client.fill(1)
                proxy.chop()
                while await worker.revocations.isEmpty { try await worker.next() }
                #expect(await worker.revocations == [[0, 1, 2, 3]], "all slots, before new ones")
                worker.consumption.acknowledge(upTo: first[59].delivery)
                try await worker.hold(slots: 4)
                for (slot, epoch) in await worker.epochs { #expect(epoch > epochs[slot] ?? 0) }
                // All that was not settled comes again, and then what is new.
                let missing = Set(first.positions).subtracting(settled.positions).union([61])
                var second: [ConsumedEvent] = []
                while !missing.isSubset(of: second.positions) { second += try await worker.take(1) }
                expectOrder(first + second)
                #expect(second.allSatisfy { $0.delivery.stream != first[0].delivery.stream })
                for event in second { worker.consumption.acknowledge(event.delivery) }
                #expect(try await client.awaitConsumer(id, position: Position(61)) == Position(61))
                #expect(try await client.consumer(id).positionsBehind == 0)
            }
            await proxy.stop()
        }
    }

    @Test func nothingIsLostHoweverOftenTheConnectionIs() async throws {
        let seed = UInt64.random(in: 1...UInt64.max)
        let progress = NIOLockedValueBox(0)
        try await TestServer.with(MemoryEngine()) { server in
            let proxy = try await ChoppingProxy.start(to: server.port)
            var configuration = server.clientConfiguration(port: proxy.port)
            configuration.backoff = Backoff(initial: .milliseconds(2), max: .milliseconds(20))
            try await MartletClient.withClient(configuration) { client in
                let id = try Sample.consumer()
                try await client.putConsumer(PutConsumerRequest(id, Sample.definition { $0.inFlightMax = 3 }))
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask {
                        var random = SplitMix(state: seed)
                        var seen = 0
                        while !Task.isCancelled {
                            try? await Task.sleep(for: .milliseconds(Int.random(in: 5...60, using: &random)))
                            // Something gets through between two cuts, however slow the machine is.
                            while progress.withLockedValue({ $0 }) == seen, !Task.isCancelled {
                                try? await Task.sleep(for: .milliseconds(1))
                            }
                            seen = progress.withLockedValue { $0 }
                            proxy.chop()
                        }
                    }
                    group.addTask {
                        try await client.fill(200)
                        progress.withLockedValue { $0 += 1 }
                    }
                    let consumption = client.consume(try Sample.work(), windowBytes: 1_000)
                    var all: [ConsumedEvent] = []
                    for try await item in consumption {
                        guard case .events(let events) = item else { continue }
                        for event in events { consumption.acknowledge(event.delivery) }
                        all += events
                        progress.withLockedValue { $0 += 1 }
                        if Set(all.positions).count == 200 { break }
                    }
                    expectOrder(all, "seed \(seed)")
                    group.cancelAll()
                }
            }
            await proxy.stop()
        }
    }

    @Test func aRejectedEventIsRetriedParkedRetriedByHandAndSkipped() async throws {
        try await withConsumer(Sample.definition(slots: 1)) { client, id in
            try await client.fill(4, aggregates: 1...2)
            let worker = TestWorker(client.consume(try Sample.work()))
            let first = try await worker.take(4)
            #expect(first.positions == [1, 2, 3, 4])
            worker.consumption.reject(first[0].delivery, .retry(after: .milliseconds(20)), reason: "busy")
            worker.consumption.acknowledge(first[1].delivery)
            worker.consumption.acknowledge(first[3].delivery)
            let second = try await worker.take(1)
            #expect(second[0].event.position == Position(1) && second[0].attempt == 2)
            #expect(second[0].delivery != first[0].delivery)
            let reason = String(repeating: "ä", count: 5_000)
            worker.consumption.reject(second[0].delivery, .park, reason: reason)
            // Its key waits, all others go on.
            #expect(try await client.awaitConsumer(id, position: Position(4)) == Position(4))
            try await waitUntil { try await client.blockedKeys(of: id).first?.blocked.until == .asked }
            let keys = try await client.blockedKeys(of: id)
            let key = try #require(keys.first)
            #expect(keys.count == 1 && key.place.slot == 0)
            #expect(key.place.key.description == "a:\(try Sample.aggregate(1))")
            #expect(key.blocked.first.position == Position(1))
            #expect(key.blocked.tries == 2 && key.blocked.reason == String(repeating: "ä", count: 512))
            #expect(try await client.consumer(id).blockedKeyCount == 1)
            #expect(try await client.blockedKeys(ListBlockedKeysRequest(id, after: key.place)).isEmpty)
            #expect(try await client.blockedKeys(of: id, max: 0).isEmpty)

            let again = UnblockKeysRequest(id, keys: [UnblockKeysRequest.Key(key.place)])
            #expect(try await client.unblockKeys(again) == 1)
            let third = try await worker.take(1)
            #expect(third[0].event.position == Position(1))
            worker.consumption.reject(third[0].delivery, .park, reason: "still")
            try await waitUntil { try await client.blockedKeys(of: id).first?.blocked.reason == "still" }
            #expect(try await client.consumer(id).lastFailure == client.blockedKeys(of: id).first)
            let skip = UnblockKeysRequest(id, keys: [UnblockKeysRequest.Key(key.place, skipping: Position(1))])
            #expect(try await client.unblockKeys(skip) == 1)
            var fourth = try await worker.take(1)
            while fourth[0].event.position == Position(1) { fourth = try await worker.take(1) }
            #expect(fourth.positions == [3], "the key goes on behind what was skipped")
            worker.consumption.acknowledge(fourth[0].delivery)
            while try await client.consumer(id).blockedKeyCount > 0 { try await worker.next() }
        }
    }

    @Test func aWorkerStopsASlotAndAResetHasItGoOn() async throws {
        try await withConsumer(Sample.definition(slots: 1)) { client, id in
            try await client.fill(2)
            let worker = TestWorker(client.consume(try Sample.work()))
            let first = try await worker.take(2)
            worker.consumption.reject(first[0].delivery, .stop, reason: "the table is gone")
            try await worker.stop()
            #expect(await worker.stopped == [0: "the table is gone"])
            #expect(
                try await client.consumer(id).stoppedSlots
                    == [ConsumerDescription.StoppedSlot(number: 0, reason: "the table is gone")])
            let start = SubscriptionStart.after(.start)
            let preview = try await client.resetConsumer(ResetConsumerRequest(id, start: start, isPreview: true))
            #expect(preview == ResetConsumerReceipt(after: .start, before: .start))
            try await client.resetConsumer(ResetConsumerRequest(id, start: start))
            #expect(try await worker.take(2).positions == [1, 2])
        }
    }

    @Test func twoWorkersShareTheSlots() async throws {
        try await withConsumer(Sample.definition()) { client, id in
            let first = TestWorker(client.consume(try Sample.work("a")))
            try await first.hold(slots: 4)
            let second = TestWorker(client.consume(try Sample.work("b")))
            async let gotSome: Void = second.hold(slots: 2)
            try await first.hold(slots: 2)
            try await gotSome
            #expect(try await client.consumer(id).workers.map(\.text) == ["a", "b"])
            let slots = await (first.epochs.keys, second.epochs.keys)
            #expect(Set(slots.0).union(slots.1) == [0, 1, 2, 3])
            try await client.fill(24, aggregates: 1...12)
            let seen = NIOLockedValueBox<[ConsumedEvent]>([])
            try await withThrowingTaskGroup(of: Void.self) { group in
                for worker in [first, second] {
                    group.addTask {
                        while true {
                            let events = try await worker.take(1)
                            for event in events { worker.consumption.acknowledge(event.delivery) }
                            seen.withLockedValue { $0 += events }
                        }
                    }
                }
                try await client.awaitConsumer(id, position: Position(24))
                group.cancelAll()
            }
            #expect(seen.withLockedValue { $0.positions.sorted() } == Array(1...24), "each once")
            #expect(Set(seen.withLockedValue { $0.map(\.delivery.stream) }).count == 2, "both have some")
        }
    }

    @Test func waitingForAConsumerEndsInTime() async throws {
        try await withConsumer(Sample.definition()) { client, id in
            try await client.fill(1)
            let late = await failure {
                try await client.awaitConsumer(id, position: Position(1), timeout: .milliseconds(200))
            }
            #expect(late?.code == .deadlineExceeded, "\(String(describing: late))")
            async let reached = client.awaitConsumer(id, position: Position(2))
            let worker = TestWorker(client.consume(try Sample.work()))
            worker.consumption.acknowledge(try await worker.take(1)[0].delivery)
            try await client.fill(1)
            worker.consumption.acknowledge(upTo: try await worker.take(1)[0].delivery)
            #expect(try await reached == Position(2))
        }
    }

    @Test(arguments: [true, false])
    func aWorkerKeepsItsSlotsWhileItIsIdle(takesItems: Bool) async throws {
        var limits = Limits()
        limits.consumerLeaseMillis = 300
        try await withConsumer(Sample.definition(slots: 1), limits: limits) { client, id in
            let worker = TestWorker(client.consume(try Sample.work()))
            try await worker.hold(slots: 1)
            let epochs = await worker.epochs
            async let event = takesItems ? worker.take(1) : []
            try await Task.sleep(for: .milliseconds(1_500))
            #expect(try await client.consumer(id).workers.count == 1)
            try await client.fill(1)
            let events = takesItems ? try await event : try await worker.take(1)
            #expect(events.count == 1)
            #expect(await worker.epochs == epochs)
            #expect(await worker.revocations.isEmpty)
            // Once it leaves, nothing says that it is there.
            await worker.leave()
            try await waitUntil { try await client.consumer(id).workers.isEmpty }
        }
    }

    @Test func aPausedConsumerSaysSo() async throws {
        try await withConsumer(Sample.definition()) { client, id in
            let worker = TestWorker(client.consume(try Sample.work()))
            try await worker.hold(slots: 4)
            var definition = Sample.definition()
            definition.isPaused = true
            try await client.putConsumer(PutConsumerRequest(id, definition, expected: .revision(1)))
            while await !worker.isPaused { try await worker.next() }
            try await worker.hold(slots: 0)
            try await client.fill(1)
            try await client.putConsumer(PutConsumerRequest(id, Sample.definition(), expected: .any))
            #expect(try await worker.take(1).positions == [1])
            #expect(await !worker.isPaused)
        }
    }

    @Test func aWorkerCanComeToAPausedConsumer() async throws {
        var definition = Sample.definition()
        definition.isPaused = true
        try await withConsumer(definition) { client, id in
            let worker = TestWorker(client.consume(try Sample.work()))
            while await !worker.isPaused { try await worker.next() }
            try await client.putConsumer(PutConsumerRequest(id, Sample.definition(), expected: .any))
            try await worker.hold(slots: 4)
        }
    }

    @Test func whatIsWrongIsNamed() async throws {
        try await withConsumer(Sample.definition()) { client, id in
            let other = try Sample.consumer("nobody")
            let key = KeyPlace(slot: 0, key: ConsumerKey(bytes: "a:x".utf8))
            let start = SubscriptionStart.after(.start)
            for error in await [
                failure { try await client.consumer(other) },
                failure { try await client.deleteConsumer(other) },
                failure { try await client.resetConsumer(ResetConsumerRequest(other, start: start)) },
                failure { try await client.blockedKeys(of: other) },
                failure { try await client.awaitConsumer(other, position: .start) },
                failure {
                    try await client.consume(ConsumeRequest(other, worker: Sample.work().worker)).first { _ in true }
                },
            ] {
                #expect(error?.reason == .consumerNotFound && error?.code == .notFound, "\(String(describing: error))")
            }
            let unblocked = await failure {
                try await client.unblockKeys(UnblockKeysRequest(other, keys: [.init(key)]))
            }
            #expect(unblocked?.reason == .consumerNotFound)
            // The same again is no conflict: a retry finds its own first try.
            #expect(
                try await client.putConsumer(PutConsumerRequest(id, Sample.definition()))
                    == PutConsumerReceipt(revision: 1, isNew: false))
            let taken = await failure {
                try await client.putConsumer(PutConsumerRequest(id, Sample.definition(slots: 5)))
            }
            #expect(taken?.reason == .consumerExists && taken?.message.contains("revision 1") == true)
            let high = await failure {
                try await client.consume(Sample.work(epochAbove: ConsumeRequest.epochMax + 1)).first { _ in true }
            }
            #expect(high?.reason == .invalidField && high?.message.contains("epoch_above") == true)
            let many = await failure {
                try await client.unblockKeys(
                    UnblockKeysRequest(id, keys: Array(repeating: .init(key), count: 101)))
            }
            #expect(many?.reason == .limitExceeded && many?.limit?.name == "unblocked_keys_max")
            #expect(many?.limit?.limit == 100 && many?.limit?.actual == 101)
            let bad = await failure {
                try await client.putConsumer(PutConsumerRequest(id, Sample.definition(slots: 1_025), expected: .any))
            }
            #expect(bad?.reason == .invalidField && bad?.message.contains("1024") == true)
            let beyond = await failure {
                try await client.resetConsumer(ResetConsumerRequest(id, start: .after(Position(1))))
            }
            #expect(beyond?.reason == .positionBeyondHead)
        }
    }

    @Test func aNewerStreamOfTheSameNameEndsAnOlderOne() async throws {
        try await withConsumer(Sample.definition()) { client, _ in
            let first = TestWorker(client.consume(try Sample.work()))
            try await first.hold(slots: 4)
            let second = TestWorker(client.consume(try Sample.work()))
            try await second.hold(slots: 4)
            let end = await failure { while try await first.next() != nil {} }
            #expect(end?.reason == .workerReplaced)
            #expect(try await first.next() == nil)
        }
    }

    @Test func whatIsCommittedIsNotDeliveredToTheNextWorker() async throws {
        try await withConsumer(Sample.definition(slots: 1)) { client, id in
            try await client.fill(12)
            let worker = TestWorker(client.consume(try Sample.work("a")))
            for event in try await worker.take(12).prefix(10) { worker.consumption.acknowledge(event.delivery) }
            try await worker.committed(to: 10)
            await worker.leave()
            let next = TestWorker(client.consume(try Sample.work("b")))
            let events = try await next.take(2)
            #expect(events.positions == [11, 12] && events.allSatisfy(\.mayBeRepeated))
        }
    }

    @Test func allConsumersAreListed() async throws {
        try await withConsumer(Sample.definition()) { client, id in
            for number in 1...130 {
                try await client.putConsumer(
                    PutConsumerRequest(Sample.consumer("c-\(number)"), Sample.definition(slots: 1)))
            }
            let all = try await client.consumers(of: Sample.tenant)
            #expect(all.map(\.name) == all.map(\.name).sorted() && Set(all.map(\.name)).count == 131)
            #expect(all.first { $0.name == id.name }?.definition == Sample.definition())
            try await client.deleteConsumer(id)
            #expect(try await client.consumers(of: Sample.tenant).count == 130)
        }
    }

    private func waitUntil(_ condition: () async throws -> Bool) async throws {
        while try await !condition() { try await Task.sleep(for: .milliseconds(10)) }
    }

    private func withConsumer(
        _ definition: ConsumerDefinition, limits: Limits = Limits(),
        _ body: @escaping @Sendable (MartletClient, ConsumerID) async throws -> Void
    ) async throws {
        var limits = limits
        // Workers hear of what others do to the consumer the sooner.
        limits.consumerLeaseMillis = min(limits.consumerLeaseMillis, 1_500)
        try await TestServer.with(MemoryEngine(), limits: limits) { server in
            try await server.withClient { client in
                let id = try Sample.consumer()
                try await client.putConsumer(PutConsumerRequest(id, definition))
                try await body(client, id)
            }
        }
    }
}
