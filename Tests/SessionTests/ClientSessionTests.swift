import MartletModel
import MartletSession
import Testing

@Suite struct ClientSessionTests {
    enum State: CaseIterable, Sendable {
        case awaitingWelcome, ready, draining, closed
    }

    /// Ready and draining sessions have call 1, a getHead, call 2, a read with 100 bytes of credit, and call 3, an
    /// append that was cancelled.
    private func session(_ state: State) -> ClientSession {
        var session = ClientSession(welcomeMillis: 1_000, keepaliveMillis: 500, now: Sample.millis(0))
        guard state != .awaitingWelcome else { return session }
        _ = session.receive(ServerFrame(.connection, .welcome(Sample.welcome())), now: Sample.millis(0))
        _ = session.start(Sample.getHead)
        _ = session.start(Sample.read, creditBytes: 100)
        _ = session.start(Sample.append)
        _ = session.cancel(CallID(3))
        switch state {
        case .awaitingWelcome, .ready: break
        case .draining:
            let frame = ServerFrame(.connection, .goAway(lastCallID: CallID(3), message: "bye"))
            _ = session.receive(frame, now: Sample.millis(0))
        case .closed: _ = session.close()
        }
        return session
    }

    /// A reaction without its text, which is for people.
    private enum Outcome: Equatable {
        case reaction(ClientSession.Reaction)
        case fail(Reason)
    }

    private func outcome(_ state: State, _ id: UInt64, _ body: ServerFrame.Body) -> Outcome {
        var session = session(state)
        let reaction = session.receive(ServerFrame(CallID(id), body), now: Sample.millis(1))
        guard case .fail(let error) = reaction else { return .reaction(reaction) }
        // Nothing of a failed connection is looked at any more.
        let next = session.receive(ServerFrame(.connection, .ping(1)), now: Sample.millis(2))
        #expect(next == .ignore)
        return .fail(error.reason)
    }

    @Test func everyFrameInEveryState() {
        let welcome = Sample.welcome()
        let goAway = ServerFrame.Body.goAway(lastCallID: CallID(2), message: "")
        let part = Sample.readPart(isFirst: true)
        let head = CallMessage.head(Sample.head)
        let bad = Outcome.fail(.badFrame)
        let ignore = Outcome.reaction(.ignore)
        let rows: [(String, UInt64, ServerFrame.Body, waiting: Outcome, open: Outcome)] = [
            ("welcome", 0, .welcome(welcome), .reaction(.ready(welcome)), bad),
            (
                "another version", 0, .welcome(Sample.welcome(version: 2)), .fail(.protocolVersionUnsupported), bad
            ),
            (
                "status of the connection", 0, .status(Sample.error), .fail(.storageUnavailable),
                .fail(.storageUnavailable)
            ),
            ("OK of the connection", 0, .status(nil), .fail(.connectionLost), .fail(.connectionLost)),
            (
                "status of a call", 1, .status(Sample.error), .fail(.storageUnavailable),
                .reaction(.end(CallID(1), Sample.error))
            ),
            ("OK without an answer", 1, .status(nil), .fail(.connectionLost), bad),
            ("OK of a stream before its view", 2, .status(nil), .fail(.connectionLost), bad),
            ("status of a cancelled call", 3, .status(Sample.error), .fail(.storageUnavailable), ignore),
            ("OK of a cancelled call", 3, .status(nil), .fail(.connectionLost), ignore),
            ("status of no call", 9, .status(Sample.error), .fail(.storageUnavailable), bad),
            ("goAway", 0, goAway, .fail(.draining), .reaction(.drain(unseen: []))),
            ("ping", 0, .ping(5), .reaction(.pong(5)), .reaction(.pong(5))),
            ("pong", 0, .pong(5), ignore, ignore),
            ("answer", 1, .message(head), bad, .reaction(.answer(CallID(1), head))),
            ("answer of a cancelled call", 3, .message(.append(Sample.receipt)), bad, ignore),
            ("answer to another kind", 1, .message(.append(Sample.receipt)), bad, bad),
            ("answer to no call", 4, .message(head), bad, bad),
            ("answer on the connection", 0, .message(head), bad, bad),
            ("part", 2, .message(part), bad, .reaction(.part(CallID(2), part))),
            ("part of another kind", 2, .message(Sample.started()), bad, bad),
            ("part without a view", 2, .message(Sample.readPart(isFirst: false)), bad, bad),
            ("part beyond the credit", 2, .message(Sample.readPart(101, isFirst: true)), bad, bad),
            ("load for a read", 2, .message(.load(Sample.entries(0), nil)), bad, bad),
            ("server status", 1, .message(.serverStatus(ServerStatus())), bad, bad),
            ("server info", 1, .message(.serverInfo(Sample.welcome().server)), bad, bad),
        ]
        for row in rows {
            #expect(outcome(.awaitingWelcome, row.1, row.2) == row.waiting, "\(row.0)")
            #expect(outcome(.ready, row.1, row.2) == row.open, "\(row.0), ready")
            // What the server says of a call that it gave back is ignored: only its requests crossed the GoAway.
            let isGivenBack = row.0 == "status of no call" || row.0 == "answer to no call"
            #expect(outcome(.draining, row.1, row.2) == (isGivenBack ? ignore : row.open), "\(row.0), draining")
            #expect(outcome(.closed, row.1, row.2) == ignore, "\(row.0), closed")
        }
    }

    @Test func callsAreCountedUpAndBounded() {
        var session = session(.ready)
        let openCount3 = session.openCallCount
        #expect(openCount3 == 3)
        guard case .refuse(let error) = session.start(Sample.getHead) else {
            Issue.record("a fourth call was started")
            return
        }
        #expect(error.reason == .tooManyCalls && error.isRetryable)
        // The end of a cancelled call makes room.
        _ = session.receive(ServerFrame(CallID(3), .status(nil)), now: Sample.millis(1))
        let next = session.nextCallID
        let started = session.start(Sample.getHead)
        #expect(next == CallID(4))
        #expect(started == .send(CallID(4)))
    }

    @Test func aCallThatHasEndedIsGone() {
        var session = session(.ready)
        let head = ServerFrame(CallID(1), .head(Sample.head))
        let first = session.receive(head, now: Sample.millis(1))
        #expect(first == .answer(CallID(1), .head(Sample.head)))
        let openCount2 = session.openCallCount
        #expect(openCount2 == 2)
        let cancelled = session.cancel(CallID(1))
        let credited = session.credit(CallID(1), bytes: 5)
        #expect(!cancelled && !credited)
        guard case .fail(let error) = session.receive(head, now: Sample.millis(2)) else {
            Issue.record("a second answer was taken")
            return
        }
        #expect(error.reason == .badFrame)
    }

    @Test func creditIsSpentAndGranted() {
        var session = session(.ready)
        let id = CallID(2)
        let first = session.receive(ServerFrame(id, Sample.readPart(60, isFirst: true)), now: Sample.millis(1))
        #expect(first == .part(id, Sample.readPart(60, isFirst: true)))
        let rest = session.receive(ServerFrame(id, Sample.readPart(40, isFirst: false)), now: Sample.millis(1))
        #expect(rest == .part(id, Sample.readPart(40, isFirst: false)))
        let granted = session.credit(id, bytes: 10)
        #expect(granted)
        let more = session.receive(ServerFrame(id, Sample.readPart(10, isFirst: false)), now: Sample.millis(1))
        #expect(more == .part(id, Sample.readPart(10, isFirst: false)))
        guard case .fail = session.receive(ServerFrame(id, Sample.readPart(1, isFirst: false)), now: Sample.millis(1))
        else {
            Issue.record("a byte beyond the credit was taken")
            return
        }
    }

    @Test func creditDoesNotOverflow() {
        var session = session(.ready)
        let granted = session.credit(CallID(2), bytes: .max)
        #expect(granted)
    }

    @Test func aStreamEndsWithOK() {
        var session = session(.ready)
        let id = CallID(2)
        _ = session.receive(ServerFrame(id, Sample.readPart(isFirst: true)), now: Sample.millis(1))
        let end = session.receive(ServerFrame(id, .status(nil)), now: Sample.millis(1))
        #expect(end == .end(id, nil))
    }

    @Test func aSecondViewIsAFault() {
        var session = session(.ready)
        let first = ServerFrame(CallID(2), Sample.readPart(isFirst: true))
        _ = session.receive(first, now: Sample.millis(1))
        guard case .fail = session.receive(first, now: Sample.millis(1)) else {
            Issue.record("a second view was taken")
            return
        }
    }

    @Test func cancelledCallsAreSentOnceAndIgnored() {
        var session = session(.ready)
        let id = CallID(2)
        let first = session.cancel(id)
        let second = session.cancel(id)
        #expect(first && !second)
        let credited = session.credit(id, bytes: 1)
        #expect(!credited)
        let part = session.receive(ServerFrame(id, Sample.readPart(10, isFirst: true)), now: Sample.millis(1))
        #expect(part == .ignore)
        let openCount3 = session.openCallCount
        #expect(openCount3 == 3)
        let end = session.receive(ServerFrame(id, .status(Sample.error)), now: Sample.millis(1))
        #expect(end == .ignore)
        let openCount2 = session.openCallCount
        #expect(openCount2 == 2)
    }

    @Test func goAwayGivesBackWhatWasNotLookedAt() {
        var session = session(.ready)
        let goAway = ServerFrame(.connection, .goAway(lastCallID: CallID(1), message: ""))
        let reaction = session.receive(goAway, now: Sample.millis(1))
        // Call 3 was not looked at either, but nobody waits for it.
        #expect(reaction == .drain(unseen: [CallID(2)]))
        let openCount1 = session.openCallCount
        #expect(openCount1 == 1)
        let refused = session.start(Sample.getHead)
        #expect(refused == .refuse(ClientSession.draining))
        // The request crossed the GoAway: the server refuses it, and the connection goes on.
        let crossed = session.receive(ServerFrame(CallID(2), .status(ClientSession.draining)), now: Sample.millis(1))
        #expect(crossed == .ignore)
        expect(session.isDrained, is: false)
        let answer = session.receive(ServerFrame(CallID(1), .head(Sample.head)), now: Sample.millis(2))
        #expect(answer == .answer(CallID(1), .head(Sample.head)))
        expect(session.isDrained, is: true)
    }

    /// Were it forgotten with the fault, whoever waits for it would wait for ever.
    @Test func aCallThatFailsTheConnectionIsTold() {
        for id in [CallID(1), CallID(2)] {
            var session = session(.ready)
            guard case .fail = session.receive(ServerFrame(id, .status(nil)), now: Sample.millis(1)) else {
                Issue.record("call \(id) ended well without an answer")
                return
            }
            let open = session.close()
            #expect(open == [CallID(1), CallID(2)])
        }
    }

    @Test func closeTellsWhoWaits() {
        for state in [State.ready, .draining] {
            var session = session(state)
            let open = session.close()
            #expect(open == [CallID(1), CallID(2)])
            let again = session.close()
            #expect(again.isEmpty)
            guard case .refuse(let error) = session.start(Sample.getHead) else {
                Issue.record("a call was started on a closed connection")
                return
            }
            #expect(error.reason == .connectionLost && error.isRetryable)
        }
    }

    @Test func faultsOfTheDecoder() {
        for state in State.allCases {
            var session = session(state)
            let reaction = session.receiveFault(Sample.error)
            #expect(reaction == (state == .closed ? .ignore : .fail(Sample.error)), "\(state)")
            let again = session.receiveFault(Sample.error)
            #expect(again == .ignore)
        }
    }

    @Test func welcomeMustComeInTime() {
        var session = session(.awaitingWelcome)
        let before = session.tick(now: Sample.millis(999))
        #expect(before == .none)
        guard case .fail(let error) = session.tick(now: Sample.millis(1_000)) else {
            Issue.record("the session waits for ever")
            return
        }
        #expect(error.isRetryable)
        let after = session.tick(now: Sample.millis(5_000))
        #expect(after == .none)
    }

    @Test(arguments: [State.ready, .draining]) func silenceIsPingedThenFailed(_ state: State) {
        var session = session(state)
        let quiet = session.tick(now: Sample.millis(499))
        #expect(quiet == .none)
        let ping = session.tick(now: Sample.millis(500))
        #expect(ping == .ping(1))
        let waiting = session.tick(now: Sample.millis(999))
        #expect(waiting == .none)
        // Any frame is a sign of life.
        _ = session.receive(ServerFrame(.connection, .pong(1)), now: Sample.millis(999))
        let alive = session.tick(now: Sample.millis(1_000))
        #expect(alive == .none)
        let second = session.tick(now: Sample.millis(1_499))
        #expect(second == .ping(2))
        guard case .fail(let error) = session.tick(now: Sample.millis(1_999)) else {
            Issue.record("a dead connection was kept")
            return
        }
        #expect(error.reason == .keepaliveTimeout && error.isRetryable)
        let after = session.receive(ServerFrame(.connection, .pong(2)), now: Sample.millis(2_000))
        #expect(after == .ignore)
    }

    /// A ready session with a worker's call, call 3, that has 100 bytes of credit.
    private func worker() throws -> ClientSession {
        var session = ClientSession(welcomeMillis: 1_000, keepaliveMillis: 500, now: Sample.millis(0))
        _ = session.receive(ServerFrame(.connection, .welcome(Sample.welcome())), now: Sample.millis(0))
        _ = session.start(Sample.getHead)
        _ = session.start(Sample.read, creditBytes: 100)
        _ = session.start(try Sample.consume, creditBytes: 100)
        return session
    }

    @Test func aWorkerIsAssignedSlotsFirst() throws {
        for early: ConsumeMessage in [
            .revoked([1]), .paused(true), .waits(creditBytes: 5), .events(Sample.entries(0), []),
        ] {
            var session = try worker()
            guard
                case .fail(let error) = session.receive(ServerFrame(CallID(3), .consume(early)), now: Sample.millis(1))
            else {
                Issue.record("\(early) was taken first")
                continue
            }
            #expect(error.reason == .badFrame)
        }
        var session = try worker()
        // More slots may come later.
        for message: CallMessage in [
            .consume(.assigned([])), Sample.delivered(60), .consume(.assigned([])), .consume(.waits(creditBytes: 200)),
            Sample.delivered(40),
        ] {
            let part = session.receive(ServerFrame(CallID(3), message), now: Sample.millis(1))
            #expect(part == .part(CallID(3), message))
        }
        guard case .fail = session.receive(ServerFrame(CallID(3), Sample.delivered(1)), now: Sample.millis(1)) else {
            Issue.record("a byte beyond the credit was taken")
            return
        }
    }

    @Test func aWorkerRepliesUntilItsCallHasEnded() throws {
        var session = try worker()
        expect(session.takesReplies(CallID(3)), is: true)
        _ = session.receive(ServerFrame(CallID(3), .status(Sample.error)), now: Sample.millis(1))
        expect(session.takesReplies(CallID(3)), is: false)
        var other = try worker()
        _ = other.cancel(CallID(3))
        expect(other.takesReplies(CallID(3)), is: false)
    }
}
