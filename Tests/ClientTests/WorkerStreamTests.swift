import MartletModel
import MartletSession
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import MartletClient

/// What a worker's stream says to the server, frame by frame.
@Suite(.timeLimit(.minutes(1))) struct WorkerStreamTests {
    private func assigned(_ epoch: UInt64, slots: Range<Int> = 0..<2) -> CallMessage {
        .consume(.assigned(slots.map { ConsumeMessage.Slot(number: $0, epoch: epoch, checkpoint: .start) }))
    }

    private func events(_ numbers: ClosedRange<UInt64>, slot: Int = 0) throws -> CallMessage {
        .consume(
            .events(
                try Sample.entries(Array(numbers)),
                numbers.map {
                    .init(number: $0, slot: slot, attempt: 1, mayBeRepeated: false, key: ConsumerKey(bytes: [7]))
                }))
    }

    /// The next replies; other frames in between are passed over.
    private func replies(_ server: FakeServer) async throws -> [WorkerReply] {
        while true {
            if case .replies(let replies) = try await server.frame().frame.body { return replies }
        }
    }

    @Test func repliesLeaveTogetherAndInOrder() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let worker = TestWorker(client.consume(try Sample.work(epochAbove: 7)))
                async let taken = worker.take(2_500)
                let call = try await server.call()
                #expect(call.request == .consume(try Sample.work(epochAbove: 7)))
                #expect(call.frame.creditBytes == 1 << 20 && call.frame.timeoutMillis == 0)
                call.send(assigned(8))
                call.send(try events(1...1_250))
                call.send(try events(1_251...2_500, slot: 1))
                let events = try await taken
                #expect(events.allSatisfy { $0.epoch == 8 })
                worker.consumption.reject(events[0].delivery, .retry(), reason: "first")
                for event in events.dropFirst() { worker.consumption.acknowledge(event.delivery) }
                // Once is enough.
                worker.consumption.reject(events[0].delivery, .retry(after: .seconds(1)), reason: "again")
                worker.consumption.reject(events[2_499].delivery, .park, reason: "again")
                var said: [WorkerReply] = []
                var frames = 0
                while said.count < 2_500 {
                    let more = try await replies(server)
                    #expect(more.count <= WorkerReply.countMax && !more.isEmpty)
                    said += more
                    frames += 1
                }
                #expect(said.first == .reject(1, .retry(afterMillis: nil), reason: "first"))
                let numbers = said.compactMap { reply in
                    if case .acknowledge(let number, upTo: false) = reply { number } else { nil }
                }
                #expect(numbers.prefix(2_499) == Array(2...2_500)[...])
            }
        }
    }

    @Test func whatIsSaidOfAnEarlierStreamIsDropped() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let worker = TestWorker(client.consume(try Sample.work()))
                async let taken = worker.take(2)
                let first = try await server.call()
                first.send(assigned(1))
                first.send(try events(1...2))
                let old = try await taken
                await first.connection.close()
                #expect(try await worker.next() == .revoked([0, 1]))
                async let fresh = worker.take(1)
                let second = try await server.call()
                worker.consumption.acknowledge(upTo: old[1].delivery)
                second.send(assigned(2))
                second.send(try events(1...1))
                let new = try await fresh
                #expect(new[0].delivery != old[0].delivery && new[0].epoch == 2)
                worker.consumption.acknowledge(old[1].delivery)
                worker.consumption.reject(old[0].delivery, .stop, reason: "late")
                worker.consumption.acknowledge(new[0].delivery)
                #expect(try await replies(server) == [.acknowledge(1, upTo: false)])
                await worker.leave()
                while try await server.frame().frame != ClientFrame(second.frame.callID, .cancel) {}
            }
        }
    }

    @Test func aWorkerIsAliveInEachThirdOfItsLease() async throws {
        var limits = Limits()
        limits.consumerLeaseMillis = 300
        try await withServer(limits: limits) { server, setup in
            try await setup.run { client in
                let worker = TestWorker(client.consume(try Sample.work()))
                async let held: Void = worker.hold(slots: 2)
                let call = try await server.call()
                call.send(assigned(1))
                try await held
                let start = ContinuousClock.now
                for _ in 0..<4 { #expect(try await replies(server) == [.alive]) }
                let time = ContinuousClock.now - start
                #expect(time >= .milliseconds(250), "no more often than needed: \(time)")
                await worker.leave()
                while try await server.frame().frame != ClientFrame(call.frame.callID, .cancel) {}
                // Nothing is said after that.
                call.end(Sample.error(.cancelled, .cancelled, isRetryable: false))
                call.connection.send(ServerFrame(.connection, .ping(9)))
                #expect(try await server.frame().frame.body == .pong(9))
                try await Task.sleep(for: .milliseconds(250))
                call.connection.send(ServerFrame(.connection, .ping(10)))
                #expect(try await server.frame().frame.body == .pong(10))
            }
        }
    }

    @Test func creditComesBackAsEventsAreTaken() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let worker = TestWorker(client.consume(try Sample.work(), windowBytes: 1_000))
                async let held: Void = worker.hold(slots: 2)
                let call = try await server.call()
                #expect(call.frame.creditBytes == 1_000)
                call.send(assigned(1))
                try await held
                // The next event needs more than the window: the server is given it, and it is no item.
                call.send(.consume(.waits(creditBytes: 2_000)))
                #expect(try await server.frame().frame == ClientFrame(call.frame.callID, .credit(1_000)))
                let large = CallMessage.consume(
                    .events(
                        try Sample.entries([1], payloadBytes: 1_500),
                        [
                            .init(
                                number: 1, slot: 1, attempt: 1, mayBeRepeated: true, key: ConsumerKey(bytes: [7]))
                        ]))
                call.send(large)
                let events = try await worker.take(1)
                #expect(events[0].mayBeRepeated && events[0].slot == 1)
                #expect(
                    try await server.frame().frame == ClientFrame(call.frame.callID, .credit(large.entryBytes)))
            }
        }
    }

    @Test func anEventOfASlotThatWasNotAssignedEndsIt() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let worker = TestWorker(client.consume(try Sample.work()))
                async let held: Void = worker.hold(slots: 2)
                let call = try await server.call()
                call.send(assigned(1))
                try await held
                call.send(.consume(.revoked([1])))
                call.send(try events(1...1, slot: 1))
                #expect(try await worker.next() == .revoked([1]))
                let error = await failure { try await worker.next() }
                #expect(error?.reason == .badFrame && error?.message.contains("slot 1") == true)
                #expect(try await worker.next() == nil)
                while try await server.frame().frame != ClientFrame(call.frame.callID, .cancel) {}
            }
        }
    }

    @Test func aServerThatFailsAfterEachStartIsAskedLessAndLess() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let worker = TestWorker(client.consume(try Sample.work()))
                async let first: Void = worker.hold(slots: 2)
                for _ in 0..<4 {
                    let call = try await server.call()
                    call.send(.consume(.assigned([])))
                    call.end(Sample.error(.storageUnavailable))
                }
                try await server.call().send(assigned(1))
                try await first
            }
            let waits = setup.waits.withLockedValue { $0 }
            #expect(waits == [.seconds(0.025), .seconds(0.05), .seconds(0.1), .seconds(0.2)])
        }
    }

    @Test func aConsumptionIsIteratedOnce() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let consumption = client.consume(try Sample.work())
                _ = consumption.makeAsyncIterator()
                let again = await failure { for try await _ in consumption {} }
                #expect(again?.code == .failedPrecondition)
            }
        }
    }
}

@Suite struct ReplyQueueTests {
    @Test func aFrameIsBoundedInRepliesAndBytes() {
        let queue = ReplyQueue()
        #expect(queue.add(.acknowledge(1, upTo: false)), "the connection is told of the first")
        for number in 2...1_500 as ClosedRange<UInt64> { #expect(!queue.add(.acknowledge(number, upTo: false))) }
        #expect(queue.take(bytesMax: 1 << 20).count == WorkerReply.countMax)
        #expect(queue.take(bytesMax: 1 << 20).count == 500)
        #expect(!queue.add(.acknowledge(1_501, upTo: false)), "it has not come to the end")
        #expect(queue.take(bytesMax: 1 << 20).count == 1)
        #expect(queue.take(bytesMax: 1 << 20).isEmpty)
        let reason = String(repeating: "x", count: 1_000)
        #expect(queue.add(.reject(1_502, .park, reason: reason)), "it is told again")
        for number in 1_503...1_520 as ClosedRange<UInt64> { _ = queue.add(.reject(number, .park, reason: reason)) }
        #expect(queue.take(bytesMax: 10_400).count == 10)
        #expect(queue.take(bytesMax: 1).count == 1, "one goes however long it is")
    }

    @Test func whatSaysNothingNewIsDropped() {
        let queue = ReplyQueue()
        _ = queue.add(.acknowledge(5, upTo: true))
        for reply in [
            WorkerReply.acknowledge(5, upTo: true), .acknowledge(4, upTo: true), .acknowledge(5, upTo: false),
            .reject(3, .park, reason: ""), .acknowledge(6, upTo: false), .reject(6, .stop, reason: ""),
        ] { _ = queue.add(reply) }
        #expect(queue.take(bytesMax: 1_000) == [.acknowledge(5, upTo: true), .acknowledge(6, upTo: false)])
    }

    @Test func afterTheEndNothingIsTakenIn() {
        let queue = ReplyQueue()
        _ = queue.add(.alive)
        queue.close()
        #expect(!queue.add(.acknowledge(1, upTo: false)) && queue.take(bytesMax: 1_000).isEmpty)
    }
}
