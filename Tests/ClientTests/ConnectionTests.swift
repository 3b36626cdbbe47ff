import MartletModel
import MartletSession
import FoundationEssentials
import Logging
import NIOCore
import NIOPosix
import Testing

@testable import MartletClient

@Suite(.timeLimit(.minutes(1))) struct ConnectionTests {
    @Test func callsShareOneConnection() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                try await withThrowingTaskGroup(of: (UInt64, UInt64).self) { group in
                    for index in 1...64 as ClosedRange<UInt64> {
                        group.addTask {
                            let receipt = try await client.append(
                                AppendRequest(
                                    [
                                        NewAggregateEvents(
                                            aggregate: Sample.aggregate(index), expected: .any,
                                            events: [Sample.event()])
                                    ], tenant: Sample.tenant))
                            return (index, receipt.firstPosition.rawValue)
                        }
                    }
                    var calls: [FakeCall] = []
                    for _ in 0..<64 { calls.append(try await server.call()) }
                    // Ids count up, and answers may come in any order.
                    #expect(calls.map(\.frame.callID.rawValue) == Array(1...64))
                    for call in calls.shuffled() {
                        guard case .append(let request) = call.request else { continue }
                        let index = request.aggregates[0].aggregate.id.uuid.15
                        call.send(.append(Sample.receipt(UInt64(index))))
                    }
                    for try await (index, position) in group { #expect(index == position) }
                }
            }
            #expect(server.connectionCount == 1)
        }
    }

    /// A client that lives for long connects again and again.
    @Test func aConnectionThatHasEndedIsFreed() async throws {
        let left = try await withServer { server, setup in
            let connection = try await ClientConnection.open(
                setup.configuration, environment: ClientEnvironment(transport: .plain),
                eventLoop: MultiThreadedEventLoopGroup.singleton.next(),
                logger: Logger(label: "test"), onUnusable: { _ in }, onClosed: { _ in })
            connection.submit(.close(.cancelled()))
            await connection.closed()
            return Weakly(connection)
        }
        let end = ContinuousClock.now + .seconds(10)
        while left.connection != nil, .now < end { try await Task.sleep(for: .milliseconds(1)) }
        #expect(left.connection == nil)
    }

    private struct Weakly: Sendable {
        weak let connection: ClientConnection?

        init(_ connection: ClientConnection) { self.connection = connection }
    }

    @Test func cancellingATaskCancelsItsCall() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                try await withThrowingTaskGroup(of: MartletError?.self) { group in
                    group.addTask { await failure { try await client.append(Sample.append()) } }
                    let call = try await server.call()
                    group.cancelAll()
                    #expect(try await group.next()??.reason == .cancelled)
                    let (_, frame) = try await server.frame()
                    #expect(frame == ClientFrame(call.frame.callID, .cancel))
                    // What the server still answers disturbs nobody.
                    call.send(.append(Sample.receipt()))
                    async let head = client.head(of: Sample.tenant)
                    try await server.call().send(.head(Sample.head(4)))
                    #expect(try await head == Sample.head(4))
                }
            }
            #expect(server.connectionCount == 1)
        }
    }

    @Test func aCancelledTaskStartsNothing() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                _ = try await client.welcome()
                let reasons = await withTaskGroup(of: [Reason?].self) { group in
                    group.cancelAll()
                    group.addTask {
                        let append = await failure { try await client.append(Sample.append()) }
                        let load = await failure {
                            try await client.read(ReadRequest(tenant: Sample.tenant))
                        }
                        return [append?.reason, load?.reason]
                    }
                    return await group.next() ?? []
                }
                #expect(reasons == [.cancelled, .cancelled])
            }
        }
    }

    @Test func cancellingEndsTheWaitForAConnection() async throws {
        try await withServer(greets: false) { server, setup in
            try await setup.run { client in
                try await withThrowingTaskGroup(of: MartletError?.self) { group in
                    group.addTask { await failure { try await client.append(Sample.append()) } }
                    _ = try await server.frame()
                    group.cancelAll()
                    #expect(try await group.next()??.reason == .cancelled)
                }
            }
        }
    }

    @Test func aDeadlineEndsACall() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                _ = try await client.welcome()
                async let answer = failure {
                    try await client.append(Sample.append(), timeout: .milliseconds(400))
                }
                let call = try await server.call()
                #expect((1...400).contains(call.frame.timeoutMillis))
                let (_, frame) = try await server.frame()
                #expect(frame == ClientFrame(call.frame.callID, .cancel))
                let error = await answer
                #expect(error?.reason == .deadlineExceeded)
            }
        }
    }

    @Test func aDeadlineSpansRetries() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                _ = try await client.welcome()
                async let answer = failure {
                    try await client.append(Sample.append(), timeout: .milliseconds(800))
                }
                var last: UInt32 = 800
                for _ in 0..<3 {
                    let call = try await server.call()
                    #expect(call.frame.timeoutMillis <= last)
                    last = call.frame.timeoutMillis
                    setup.advance(.milliseconds(20))
                    call.end(Sample.error(.storageUnavailable))
                }
                #expect(last <= 760)
                let error = await answer
                #expect(error?.code == .deadlineExceeded || error?.reason == .storageUnavailable)
            }
        }
    }

    @Test func aDeadlineEndsTheWaitForAConnection() async throws {
        try await withServer(greets: false) { server, setup in
            try await setup.run { client in
                let error = await failure {
                    try await client.append(Sample.append(), timeout: .milliseconds(50))
                }
                #expect(error?.reason == .deadlineExceeded)
            }
        }
    }

    @Test func aServerThatDoesNotWelcomeIsGivenUp() async throws {
        try await withServer(greets: false) { _, setup in
            var setup = setup
            setup.configuration.connectTimeout = .milliseconds(100)
            try await setup.run { client in
                let error = await failure { try await client.welcome() }
                #expect(error?.isRetryable == true)
                #expect(error?.code == .unavailable)
            }
        }
    }

    @Test func aDrainingServerFinishesItsCalls() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                async let first = client.append(Sample.append())
                let seen = try await server.call()
                async let second = client.head(of: Sample.tenant)
                let unseen = try await server.call()
                seen.connection.send(
                    ServerFrame(.connection, .goAway(lastCallID: seen.frame.callID, message: "bye")))
                // The call that was not looked at goes to a new connection.
                let again = try await server.call()
                #expect(again.connection !== seen.connection)
                #expect(again.request == unseen.request)
                again.send(.head(Sample.head(2)))
                #expect(try await second == Sample.head(2))
                seen.send(.append(Sample.receipt(9)))
                #expect(try await first == Sample.receipt(9))
                // Nothing is open on the old connection: the client closes it.
                try await server.closed()
                async let third = client.head(of: Sample.tenant)
                let call = try await server.call()
                #expect(call.connection === again.connection)
                call.send(.head(Sample.head(3)))
                #expect(try await third == Sample.head(3))
            }
        }
    }

    @Test func aSilentServerIsPingedThenLeft() async throws {
        try await withServer { server, setup in
            var setup = setup
            setup.configuration.limits.keepaliveMillis = 100
            try await setup.run { client in
                async let answer = client.append(Sample.append())
                let call = try await server.call()
                let (_, ping) = try await server.frame()
                #expect(ping.body == .ping(1))
                call.connection.send(ServerFrame(.connection, .pong(1)))
                let (_, second) = try await server.frame()
                #expect(second.body == .ping(2))
                // No pong: the call is tried again on another connection.
                let again = try await server.call()
                #expect(again.connection !== call.connection)
                again.send(.append(Sample.receipt()))
                #expect(try await answer == Sample.receipt())
            }
        }
    }

    @Test func pingsAreAnswered() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                _ = try await client.welcome()
                guard case .connected(let connection) = try await server.next() else { return }
                connection.send(ServerFrame(.connection, .ping(77)))
                let (_, frame) = try await server.frame()
                #expect(frame == ClientFrame(.connection, .pong(77)))
            }
        }
    }

    @Test func aRequestBeyondTheServersFramesIsNotSent() async throws {
        var limits = Limits()
        limits.frameBytesMax = 2_000
        try await withServer(limits: limits) { server, setup in
            try await setup.run { client in
                let error = await failure {
                    try await client.append(Sample.append(payloadBytes: 5_000))
                }
                #expect(error?.reason == .limitExceeded)
                #expect(error?.limit?.name == "frame_bytes_max")
                // Nothing of it went out.
                async let head = client.head(of: Sample.tenant)
                let call = try await server.call()
                #expect(call.frame.callID == CallID(1))
                call.send(.head(Sample.head(1)))
                #expect(try await head == Sample.head(1))
            }
        }
    }

    @Test func moreCallsThanAConnectionTakesWaitTheirTurn() async throws {
        var limits = Limits()
        limits.callsPerConnectionMax = 2
        try await withServer(limits: limits) { server, setup in
            try await setup.run { client in
                async let a = client.head(of: Sample.tenant)
                async let b = client.head(of: Sample.tenant)
                async let c = client.head(of: Sample.tenant)
                for _ in 0..<3 { try await server.call().send(.head(Sample.head(1))) }
                let heads = try await [a, b, c]
                #expect(heads == Array(repeating: Sample.head(1), count: 3))
            }
        }
    }

    @Test func largeRequestsWaitForTheSocket() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                try await withThrowingTaskGroup(of: AppendReceipt.self) { group in
                    for _ in 0..<24 {
                        group.addTask { try await client.append(Sample.append(payloadBytes: 1 << 20)) }
                    }
                    for _ in 0..<24 { try await server.call().send(.append(Sample.receipt())) }
                    for try await receipt in group { #expect(receipt == Sample.receipt()) }
                }
            }
            #expect(server.connectionCount == 1)
        }
    }

    @Test func callsMayComeFromTheEventLoop() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                async let heads = withTaskExecutorPreference(client.taskExecutor) {
                    async let a = client.head(of: Sample.tenant)
                    async let b = client.head(of: Sample.tenant)
                    return try await [a, b]
                }
                for _ in 0..<2 { try await server.call().send(.head(Sample.head(1))) }
                #expect(try await heads == [Sample.head(1), Sample.head(1)])
                await withTaskGroup(of: MartletError?.self) { group in
                    group.addTask(executorPreference: client.taskExecutor) {
                        await failure { try await client.head(of: Sample.tenant) }
                    }
                    _ = try? await server.call()
                    group.cancelAll()
                    for await error in group { #expect(error?.reason == .cancelled) }
                }
                #expect(try await server.frame().frame.body == .cancel)
                // Cancelled before it starts: the server never hears of it.
                await withTaskGroup(of: MartletError?.self) { group in
                    group.cancelAll()
                    group.addTask(executorPreference: client.taskExecutor) {
                        await failure { try await client.head(of: Sample.tenant) }
                    }
                    for await error in group { #expect(error?.reason == .cancelled) }
                }
                async let last = client.head(of: Sample.tenant)
                let call = try await server.call()
                #expect(call.frame.callID == CallID(4), "the last of four calls")
                call.send(.head(Sample.head(2)))
                #expect(try await last == Sample.head(2))
            }
        }
    }

    @Test func theEndOfTheClientEndsItsCalls() async throws {
        try await withServer { server, setup in
            let client = setup.client
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await client.run() }
                async let open = failure { try await client.head(of: Sample.tenant) }
                _ = try await server.call()
                group.cancelAll()
                #expect(await open?.reason == .clientClosed)
                try await group.waitForAll()
            }
            let late = await failure { try await client.head(of: Sample.tenant) }
            #expect(late?.reason == .clientClosed)
            await #expect(throws: MartletError.self) { try await client.run() }
        }
    }

    @Test func anAnswerOfAnotherKindEndsTheConnection() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                async let answer = failure { try await client.head(of: Sample.tenant) }
                try await server.call().send(.append(Sample.receipt()))
                #expect(await answer?.reason == .badFrame)
                try await server.closed()
            }
        }
    }
}
