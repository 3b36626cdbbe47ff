import MartletModel
import MartletSession
import NIOCore
import Testing

@testable import MartletClient

@Suite(.timeLimit(.minutes(1))) struct QueryTests {
    private let request = ReadRequest(tenant: Sample.tenant)

    private func view(_ to: UInt64) -> ReadView { ReadView(to: Position(to), head: Sample.head(to)) }

    @Test func aLoadBringsItsViewAndItsEvents() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let request = LoadRequest(tenant: Sample.tenant, aggregate: try Sample.aggregate())
                async let answer = client.load(request)
                let call = try await server.call()
                #expect(call.request == .load(request))
                // The largest event fits, whatever is held back.
                #expect(call.frame.creditBytes >= (1 << 20) + (16 << 10) + (64 << 10))
                #expect(call.frame.timeoutMillis == 0)
                call.send(.load(ByteBuffer(), LoadView(version: Version(3), position: Position(3))))
                let stream = try await answer
                #expect(stream.view == LoadView(version: Version(3), position: Position(3)))
                call.send(.load(try Sample.entries([1, 2]), nil))
                call.send(.load(try Sample.entries([3]), nil))
                call.end(nil)
                var events: [RecordedEvent] = []
                for try await event in stream { events.append(event) }
                #expect(events.positions == [1, 2, 3])
                // A stream is iterated once.
                var again = stream.makeAsyncIterator()
                await #expect(throws: MartletError.self) { try await again.next() }
            }
        }
    }

    @Test func pagesComeAsTheyWereSent() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                async let answer = client.read(request)
                let call = try await server.call()
                call.send(.read(try Sample.entries([1, 2]), view(5)))
                call.send(.read(try Sample.entries([3, 4, 5]), nil))
                call.end(nil)
                var pages: [[UInt64]] = []
                for try await page in try await answer.pages { pages.append(page.positions) }
                #expect(pages == [[1, 2], [3, 4, 5]])
            }
        }
    }

    @Test func aBrokenReadGoesOnInTheSameView() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                async let answer = client.read(ReadRequest(tenant: Sample.tenant, eventsMax: 10))
                let first = try await server.call()
                first.send(.read(try Sample.entries([1, 2]), view(6)))
                let stream = try await answer
                #expect(stream.view == view(6))
                first.send(.read(try Sample.entries([3]), nil))
                async let rest = stream.reduce(into: []) { $0.append($1) }
                // The third event is on its way when the connection goes: what came is not lost, nor asked again.
                await first.connection.close()
                let second = try await server.call()
                #expect(
                    second.request
                        == .read(
                            ReadRequest(
                                tenant: Sample.tenant, after: Position(3), target: .position(Position(6)), eventsMax: 7
                            )))
                second.send(.read(try Sample.entries([4]), view(6)))
                second.end(Sample.error(.storageUnavailable))
                let third = try await server.call()
                #expect(
                    third.request
                        == .read(
                            ReadRequest(
                                tenant: Sample.tenant, after: Position(4), target: .position(Position(6)), eventsMax: 6
                            )))
                third.send(.read(try Sample.entries([5, 6]), view(6)))
                // All there is was delivered: the end need not be heard.
                await third.connection.close()
                let events: [RecordedEvent] = try await rest
                #expect(events.positions == [1, 2, 3, 4, 5, 6])
            }
        }
    }

    @Test func aRefusalEndsAStream() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                let future = Sample.error(.timeInFuture, .outOfRange, isRetryable: false)
                async let early = failure { try await client.read(request) }
                try await server.call().end(future)
                #expect(await early == future)

                async let answer = client.read(request)
                let call = try await server.call()
                call.send(.read(try Sample.entries([1]), view(9)))
                var iterator = try await answer.makeAsyncIterator()
                #expect(try await iterator.next()?.position == Position(1))
                let damaged = Sample.error(.storageCorrupted, .dataLoss, isRetryable: false)
                call.end(damaged)
                let error = await #expect(throws: MartletError.self) { try await iterator.next() }
                #expect(error == damaged)
                #expect(try await iterator.next() == nil)
            }
        }
    }

    @Test func leavingTheLoopCancels() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                async let answer = client.read(request)
                let call = try await server.call()
                call.send(.read(try Sample.entries([1, 2]), view(9)))
                let stream = try await answer
                for try await _ in stream { break }
                let (_, frame) = try await server.frame()
                #expect(frame == ClientFrame(call.frame.callID, .cancel))
                withExtendedLifetime(stream) {}
            }
        }
    }

    @Test func lettingGoOfAStreamCancels() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                async let view = client.read(request).view
                let call = try await server.call()
                call.send(.read(ByteBuffer(), self.view(9)))
                #expect(try await view == self.view(9))
                let (_, frame) = try await server.frame()
                #expect(frame == ClientFrame(call.frame.callID, .cancel))
            }
        }
    }

    @Test func cancellingTheConsumerCancels() async throws {
        let (firsts, first) = AsyncStream.makeStream(of: Void.self)
        try await withServer { server, setup in
            try await setup.run { client in
                try await withThrowingTaskGroup(of: MartletError?.self) { group in
                    group.addTask {
                        await failure {
                            for try await _ in try await client.read(request) { first.yield() }
                        }
                    }
                    let call = try await server.call()
                    call.send(.read(try Sample.entries([1]), view(9)))
                    for await _ in firsts.prefix(1) {}
                    group.cancelAll()
                    #expect(try await group.next()??.reason == .cancelled)
                    let (_, frame) = try await server.frame()
                    #expect(frame == ClientFrame(call.frame.callID, .cancel))
                }
            }
        }
    }

    @Test func theBeginningOfAStreamIsBoundedInTime() async throws {
        try await withServer { server, setup in
            var setup = setup
            setup.configuration.requestTimeout = .seconds(60)
            setup.configuration.retryBudget = .zero
            setup.configuration.limits.keepaliveMillis = 2_000
            try await setup.run { client in
                _ = try await client.welcome()
                async let late = failure { try await client.read(request) }
                _ = try await server.call()
                setup.advance(.seconds(61))
                #expect(await late?.reason == .deadlineExceeded)

                // What has begun may take its time.
                async let answer = client.read(request)
                let call = try await server.call()
                call.send(.read(ByteBuffer(), view(1)))
                let stream = try await answer
                async let events = stream.reduce(into: []) { $0.append($1) }
                setup.advance(.seconds(61))
                // It has looked at the time when it asks whether the server is alive.
                try await server.ping()
                call.send(.read(try Sample.entries([1]), nil))
                call.end(nil)
                let all: [RecordedEvent] = try await events
                #expect(all.positions == [1])
            }
        }
    }

    @Test func aTimeoutBoundsTheWholeStream() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                _ = try await client.welcome()
                async let answer = client.read(request, timeout: .milliseconds(500))
                let call = try await server.call()
                #expect((1...500).contains(call.frame.timeoutMillis))
                call.send(.read(try Sample.entries([1]), view(9)))
                let stream = try await answer
                let error = await failure { for try await _ in stream {} }
                #expect(error?.reason == .deadlineExceeded)
            }
        }
    }

    @Test func aServerBeyondItsCreditIsLeft() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                async let answer = client.read(request)
                let call = try await server.call()
                call.send(.read(ByteBuffer(), view(9)))
                var iterator = try await answer.makeAsyncIterator()
                // Nobody takes them: no credit is granted meanwhile.
                let entries = try Sample.entries([1], payloadBytes: 1 << 20)
                for _ in 0...call.frame.creditBytes / UInt64(entries.readableBytes) { call.send(.read(entries, nil)) }
                try await server.closed()
                let error = await failure { while try await iterator.next() != nil {} }
                #expect(error?.reason == .badFrame)
            }
        }
    }
}
