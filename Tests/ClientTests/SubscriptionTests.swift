import MartletModel
import MartletSession
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import MartletClient

@Suite(.timeLimit(.minutes(1))) struct SubscriptionTests {
    private let head = Sample.head(100)

    private func positions(_ item: SubscriptionItem?) -> [UInt64]? {
        guard case .events(let events, _)? = item else { return nil }
        return events.positions
    }

    @Test func itGoesOnAfterALostConnection() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let request = SubscribeRequest(tenant: Sample.tenant, start: .head)
                let items = Items(client.subscribe(request))
                async let opened = server.call()
                async let started = items.next()
                let first = try await opened
                #expect(first.request == .subscribe(request))
                #expect(first.frame.creditBytes == 1 << 20)
                #expect(first.frame.timeoutMillis == 0)
                first.send(try Sample.message([], .started(after: Position(40))))
                #expect(try await started == .started(after: Position(40), head: head))
                first.send(try Sample.message([41, 43]))
                first.send(try Sample.message([44], .caughtUp(Position(45))))
                #expect(positions(try await items.next()) == [41, 43])
                // What is here when the connection goes is still delivered, and not asked for again.
                await first.connection.close()
                #expect(positions(try await items.next()) == [44])
                #expect(try await items.next() == .caughtUp(Position(45), head: head))

                async let reconnected = items.next()
                let second = try await server.call()
                try expect(second.request, after: 45, lastSeen: 44)
                second.send(try Sample.message([], .started(after: Position(45))))
                #expect(try await reconnected == .reconnected)
                second.send(try Sample.message([46]))
                #expect(positions(try await items.next()) == [46])
                // A drain ends it there, and it goes on elsewhere.
                second.connection.send(
                    ServerFrame(.connection, .goAway(lastCallID: second.frame.callID, message: "bye")))
                second.end(Sample.error(.draining))
                async let moved = items.next()
                let third = try await server.call()
                #expect(third.connection !== second.connection)
                try expect(third.request, after: 46, lastSeen: 46)
                third.send(try Sample.message([], .started(after: Position(46))))
                #expect(try await moved == .reconnected)
            }
        }
    }

    /// Going on names the position, and the last event that came, which a server compares.
    private func expect(_ request: CallRequest, after: UInt64, lastSeen: UInt64) throws {
        guard case .subscribe(let request) = request else { throw Sample.BadName() }
        #expect(request.start == .after(Position(after)) && request.lastSeen?.position == Position(lastSeen))
    }

    @Test func itStartsOverWhereItHadNotStarted() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let request = SubscribeRequest(tenant: Sample.tenant, start: .time(Timestamp(microseconds: 5)))
                let items = Items(client.subscribe(request))
                async let started = items.next()
                await (try await server.call()).connection.close()
                let call = try await server.call()
                #expect(call.request == .subscribe(request))
                call.send(try Sample.message([], .started(after: Position(7))))
                #expect(try await started == .started(after: Position(7), head: head))
                await call.connection.close()
                async let reconnected = items.next()
                let again = try await server.call()
                #expect(
                    again.request == .subscribe(SubscribeRequest(tenant: Sample.tenant, start: .after(Position(7)))))
                again.send(try Sample.message([], .started(after: Position(7))))
                #expect(try await reconnected == .reconnected)
            }
        }
    }

    @Test func aRefusalEndsIt() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let items = Items(client.subscribe(SubscribeRequest(tenant: Sample.tenant)))
                let beyond = Sample.error(.positionBeyondHead, .outOfRange, isRetryable: false)
                async let end = failure { try await items.next() }
                try await server.call().end(beyond)
                #expect(await end == beyond)
                #expect(try await items.next() == nil)
            }
        }
    }

    @Test func aRepetitionEndsIt() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let items = Items(client.subscribe(SubscribeRequest(tenant: Sample.tenant)))
                async let started = items.next()
                let call = try await server.call()
                call.send(try Sample.message([], .started(after: .start)))
                _ = try await started
                call.send(try Sample.message([1, 2]))
                call.send(try Sample.message([2, 3]))
                #expect(positions(try await items.next()) == [1, 2])
                let error = await #expect(throws: MartletError.self) { try await items.next() }
                #expect(error?.reason == .badFrame)
                let (_, frame) = try await server.frame()
                #expect(frame == ClientFrame(call.frame.callID, .cancel))
            }
        }
    }

    @Test func creditIsNeverExceededAndComesBack() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let window = 4_000
                let subscription = client.subscribe(SubscribeRequest(tenant: Sample.tenant), windowBytes: window)
                async let received = consume(subscription, count: 300)
                let call = try await server.call()
                #expect(call.frame.creditBytes == UInt64(window))
                call.send(try Sample.message([], .started(after: .start)))
                var credit = window
                var sent = 0
                for position in 1...300 as ClosedRange<UInt64> {
                    let message = try Sample.message([position], payloadBytes: Int(position * 7 % 900))
                    let bytes = Int(message.entryBytes)
                    while credit < bytes {
                        let (_, frame) = try await server.frame()
                        guard case .credit(let more) = frame.body else { continue }
                        credit += Int(more)
                        // Never more than the window in all.
                        #expect(credit <= window)
                    }
                    credit -= bytes
                    sent += bytes
                    call.send(message)
                }
                #expect(try await received == Array(1...300))
                #expect(sent > 20 * window)
                // The credit comes back, but for what is held back of a quarter.
                call.send(try Sample.message([], .heartbeat(Position(300), waitingForCreditBytes: UInt64(window))))
            }
        }
    }

    private func consume(_ subscription: Subscription, count: Int) async throws -> [UInt64] {
        var all: [UInt64] = []
        for try await item in subscription {
            guard case .events(let events, _) = item else { continue }
            all += events.positions
            if all.count >= count { break }
        }
        return all
    }

    @Test func aSlowConsumerHoldsTheServerBack() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let items = Items(client.subscribe(SubscribeRequest(tenant: Sample.tenant), windowBytes: 1_000))
                async let started = items.next()
                let call = try await server.call()
                call.send(try Sample.message([], .started(after: .start)))
                _ = try await started
                let message = try Sample.message([1], payloadBytes: 700)
                call.send(message)
                // Nothing was taken: nothing is granted, not even when the server asks.
                let bytes = message.entryBytes
                call.send(try Sample.message([], .heartbeat(.start, waitingForCreditBytes: 900)))
                call.connection.send(ServerFrame(.connection, .ping(1)))
                let (_, pong) = try await server.frame()
                #expect(pong.body == .pong(1))
                #expect(positions(try await items.next()) == [1])
                let (_, credit) = try await server.frame()
                #expect(credit == ClientFrame(call.frame.callID, .credit(bytes)))
            }
        }
    }

    @Test func anEventLargerThanTheWindowGetsThrough() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let items = Items(client.subscribe(SubscribeRequest(tenant: Sample.tenant), windowBytes: 100))
                async let started = items.next()
                let call = try await server.call()
                call.send(try Sample.message([], .started(after: .start)))
                _ = try await started
                let message = try Sample.message([1], payloadBytes: 5_000)
                call.send(try Sample.message([], .heartbeat(.start, waitingForCreditBytes: message.entryBytes)))
                let (_, credit) = try await server.frame()
                #expect(credit == ClientFrame(call.frame.callID, .credit(message.entryBytes - 100)))
                call.send(message)
                guard case .heartbeat? = try await items.next() else {
                    Issue.record("no heartbeat")
                    return
                }
                #expect(positions(try await items.next()) == [1])
            }
        }
    }

    @Test func leavingTheLoopCancels() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let subscription = client.subscribe(SubscribeRequest(tenant: Sample.tenant))
                async let received = consume(subscription, count: 1)
                let call = try await server.call()
                call.send(try Sample.message([], .started(after: .start)))
                call.send(try Sample.message([1]))
                #expect(try await received == [1])
                let (_, frame) = try await server.frame()
                #expect(frame == ClientFrame(call.frame.callID, .cancel))
            }
        }
    }

    @Test func theEndOfTheClientEndsIt() async throws {
        try await withServer { server, setup in
            let client = setup.client
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await client.run() }
                let items = Items(client.subscribe(SubscribeRequest(tenant: Sample.tenant)))
                async let end = failure { try await items.next() }
                _ = try await server.call()
                group.cancelAll()
                #expect(await end?.reason == .clientClosed)
            }
        }
    }

    @Test func aServerThatFailsAfterEachStartIsAskedLessAndLess() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let items = Items(client.subscribe(SubscribeRequest(tenant: Sample.tenant)))
                async let started = items.next()
                let first = try await server.call()
                first.send(try Sample.message([], .started(after: .start)))
                _ = try await started
                first.end(Sample.error(.storageUnavailable))
                async let next = items.next()
                for _ in 0..<3 {
                    let call = try await server.call()
                    call.end(Sample.error(.storageUnavailable))
                }
                try await server.call().send(try Sample.message([], .started(after: .start)))
                #expect(try await next == .reconnected)
            }
            let waits = setup.waits.withLockedValue { $0 }
            #expect(waits == [.seconds(0.025), .seconds(0.05), .seconds(0.1), .seconds(0.2)])
        }
    }
}

/// The items of a subscription, for tasks that take turns.
private actor Items {
    private var iterator: Subscription.Iterator?

    init(_ subscription: Subscription) { iterator = subscription.makeAsyncIterator() }

    func next() async throws -> SubscriptionItem? {
        guard var taken = iterator.take() else { return nil }
        defer { iterator = taken }
        return try await taken.next()
    }
}
