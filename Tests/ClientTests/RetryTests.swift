import MartletModel
import MartletSession
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import MartletClient

@Suite(.timeLimit(.minutes(1))) struct RetryTests {
    /// When the connection is lost, as an append sees it.
    enum Phase: CaseIterable, Sendable {
        case beforeWelcome, beforeTheRequest, afterTheRequest, withinTheAnswer
    }

    @Test(arguments: Phase.allCases) func anAppendSurvivesALostConnection(_ phase: Phase) async throws {
        try await withServer(greets: phase != .beforeWelcome) { server, setup in
            let request = try Sample.append()
            let receipt = try await setup.run { client in
                async let answer = client.append(request)
                var closed: FakeConnection?
                switch phase {
                case .beforeWelcome:
                    let (connection, frame) = try await server.frame()
                    #expect(frame.body == .hello(Hello(clientName: "test")))
                    await connection.close()
                    let (second, _) = try await server.frame()
                    second.send(ServerFrame(.connection, .welcome(Sample.welcome(Limits()))))
                case .beforeTheRequest:
                    guard case .connected(let connection) = try await server.next() else { break }
                    closed = connection
                    await connection.close()
                case .afterTheRequest:
                    let call = try await server.call()
                    #expect(call.request == .append(request))
                    await call.connection.close()
                case .withinTheAnswer:
                    let call = try await server.call()
                    #expect(call.request == .append(request))
                    let frame = ServerFrame(call.frame.callID, .append(Sample.receipt(7)))
                    try await call.connection.sendPart(of: frame, bytes: 8)
                    await call.connection.close()
                }
                var again = try await server.call()
                // The request may have come before the close.
                while again.connection === closed { again = try await server.call() }
                // The same ids and the same bytes.
                #expect(again.request == .append(request))
                again.send(.append(Sample.receipt(7, replayed: true)))
                return try await answer
            }
            #expect(receipt == Sample.receipt(7, replayed: true))
            #expect(server.connectionCount == 2)
        }
    }

    @Test(arguments: [
        Sample.error(.appendQueueFull, .resourceExhausted), Sample.error(.outcomeUnknown, .unknown),
        Sample.error(.storageUnavailable),
    ])
    func aRefusalThatMayPassIsTriedAgain(_ error: MartletError) async throws {
        try await withServer { server, setup in
            let request = try Sample.append()
            try await setup.run { client in
                async let answer = client.append(request)
                for _ in 0..<3 {
                    let call = try await server.call()
                    #expect(call.request == .append(request))
                    call.end(error)
                }
                try await server.call().send(.append(Sample.receipt()))
                #expect(try await answer == Sample.receipt())
            }
            // Half of 50, 100 and 200 ms, on one connection.
            #expect(setup.waits.withLockedValue { $0 } == [.seconds(0.025), .seconds(0.05), .seconds(0.1)])
            #expect(server.connectionCount == 1)
        }
    }

    @Test func aRefusalThatWillNotPassIsThrown() async throws {
        try await withServer { server, setup in
            var error = Sample.error(.versionConflict, .aborted, isRetryable: false)
            error.conflicts = [
                VersionConflict(
                    aggregate: try Sample.aggregate(), expected: .none, actual: Version(2),
                    events: try Sample.entries([1, 2]))
            ]
            let conflict = error
            let thrown = try await setup.run { client in
                async let answer = failure {
                    try await client.append(try Sample.append(), timeout: nil)
                }
                try await server.call().end(conflict)
                return await answer
            }
            #expect(thrown == conflict)
            let events = try #require(try thrown?.decodedConflictEvents())
            #expect(events[try Sample.aggregate()]?.positions == [1, 2])
        }
    }

    @Test func anAppendWhoseFateIsUnknownSaysSo() async throws {
        try await withServer { server, setup in
            var setup = setup
            setup.configuration.retryBudget = .zero
            let thrown = try await setup.run { client in
                async let answer = failure { try await client.append(Sample.append()) }
                await (try await server.call()).connection.close()
                return await answer
            }
            #expect(thrown?.reason == .outcomeUnknown)
            #expect(thrown?.isRetryable == true)
        }
    }

    @Test func aReadingCallIsTriedAgain() async throws {
        try await withServer { server, setup in
            try await setup.run { client in
                async let head = client.head(of: Sample.tenant)
                await (try await server.call()).connection.close()
                let call = try await server.call()
                #expect(call.request == .getHead(Sample.tenant))
                call.send(.head(Sample.head(4)))
                #expect(try await head == Sample.head(4))

                var status = ServerStatus()
                status.storageEngine = "fake"
                async let answer = client.status()
                try await server.call().send(.serverStatus(status))
                #expect(try await answer == status)
            }
        }
    }

    @Test func aServerThatIsAwayIsNotReachable() async throws {
        let host = "127.0.0.2"
        let server = try await FakeServer.start(host: host)
        await server.stop()
        var setup = TestSetup(port: server.port)
        setup.configuration.host = host
        setup.configuration.retryBudget = .milliseconds(50)
        try await setup.run { client in
            let welcome = await failure { try await client.welcome() }
            #expect(welcome?.reason == .connectionLost)
            #expect(welcome?.message.contains("\(host):\(server.port)") == true)
            let append = await failure { try await client.append(Sample.append()) }
            #expect(append?.reason == .connectionLost)
        }
    }

    @Test func aServerThatComesBackIsFound() async throws {
        let host = "127.0.0.3"
        let first = try await FakeServer.start(host: host)
        var setup = TestSetup(port: first.port)
        setup.configuration.host = host
        try await setup.run { client in
            #expect(try await client.welcome().serverVersion == "fake")
            await first.stop()
            async let answer = client.append(Sample.append())
            // It tries in vain, with longer and longer waits up to the bound.
            let waits = setup.waits
            while waits.withLockedValue({ $0.count < 9 }) { try await Task.sleep(for: .milliseconds(1)) }
            let second = try await FakeServer.start(host: host, port: first.port)
            try await second.call().send(.append(Sample.receipt(3)))
            #expect(try await answer == Sample.receipt(3))
            await second.stop()
            let noted = waits.withLockedValue { $0 }
            #expect(noted == noted.sorted())
            #expect(noted.last == .seconds(2.5))
        }
    }

    @Test func aConnectionRefusedForGoodIsNotTriedAgain() async throws {
        try await withServer(greets: false) { server, setup in
            let refusal = Sample.error(.noTenantInCertificate, .permissionDenied, isRetryable: false)
            let thrown = try await setup.run { client in
                async let answer = failure { try await client.append(Sample.append()) }
                let (connection, _) = try await server.frame()
                connection.send(ServerFrame(.connection, .status(refusal)))
                await connection.close()
                return await answer
            }
            #expect(thrown == refusal)
        }
    }
}
