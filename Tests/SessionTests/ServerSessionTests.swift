import MartletModel
import MartletSession
import Testing

@Suite struct ServerSessionTests {
    enum State: CaseIterable, Sendable {
        case awaitingHello, ready, draining, closed
    }

    private static let limits: Limits = {
        var limits = Limits()
        limits.callsPerConnectionMax = 2
        limits.keepaliveMillis = 500
        limits.handshakeMillis = 1_000
        return limits
    }()

    /// Ready and draining sessions have had call 1, which has ended, and call 2, which is open.
    private func session(_ state: State) -> ServerSession {
        var session = ServerSession(limits: Self.limits, now: Sample.millis(0))
        guard state != .awaitingHello else { return session }
        _ = session.receive(ClientFrame(.connection, .hello(Hello(clientName: "test"))), now: Sample.millis(0))
        for id in [CallID(1), CallID(2)] {
            _ = session.receive(ClientFrame(id, .request(Sample.getHead)), now: Sample.millis(0))
        }
        _ = session.finish(CallID(1))
        switch state {
        case .awaitingHello, .ready: break
        case .draining: _ = session.drain()
        case .closed: _ = session.close()
        }
        return session
    }

    /// A reaction without the text of its error, which is for people.
    private enum Outcome: Equatable {
        case reaction(ServerSession.Reaction)
        case refuse(Reason)
        case fail(Reason)
    }

    private func outcome(_ state: State, _ frame: ClientFrame) -> Outcome {
        var session = session(state)
        let reaction = session.receive(frame, now: Sample.millis(1))
        switch reaction {
        case .fail(let error):
            let next = session.receive(ClientFrame(.connection, .ping(1)), now: Sample.millis(2))
            #expect(next == .ignore)
            return .fail(error.reason)
        case .refuse(let id, let error):
            #expect(id == frame.callID)
            expect(session.isOpen(id), is: false)
            return .refuse(error.reason)
        case .start(let id, _, _, _):
            expect(session.isOpen(id), is: true)
            return .reaction(reaction)
        default: return .reaction(reaction)
        }
    }

    @Test func everyFrameInEveryState() {
        let hello = ClientFrame(.connection, .hello(Hello(clientName: "test")))
        let request = ClientFrame(CallID(3), .request(Sample.read), timeoutMillis: 7, creditBytes: 8)
        let start = Outcome.reaction(.start(CallID(3), Sample.read, timeoutMillis: 7, creditBytes: 8))
        let ignore = Outcome.reaction(.ignore)
        let early = Outcome.fail(.helloExpected)
        let badID = Outcome.fail(.invalidCallID)
        let rows: [(String, ClientFrame, waiting: Outcome, ready: Outcome, draining: Outcome)] = [
            (
                "hello", hello, .reaction(.welcome(protocolVersion: 1, clientName: "test")),
                .fail(.helloExpected), .fail(.helloExpected)
            ),
            (
                "hello on a call", ClientFrame(CallID(3), .hello(Hello(clientName: "test"))), early,
                .fail(.helloExpected), .fail(.helloExpected)
            ),
            (
                "hello of another version",
                ClientFrame(.connection, .hello(Hello(protocolVersions: [2, 3], clientName: ""))),
                .fail(.protocolVersionUnsupported), .fail(.helloExpected), .fail(.helloExpected)
            ),
            (
                "hello beyond its bounds", ClientFrame(.connection, .malformedHello(Sample.error)),
                .fail(.storageUnavailable), .fail(.helloExpected), .fail(.helloExpected)
            ),
            (
                "hello beyond its bounds on a call", ClientFrame(CallID(3), .malformedHello(Sample.error)), early,
                .fail(.helloExpected), .fail(.helloExpected)
            ),
            ("ping", ClientFrame(.connection, .ping(4)), early, .reaction(.pong(4)), .reaction(.pong(4))),
            ("pong", ClientFrame(.connection, .pong(4)), early, ignore, ignore),
            ("request", request, early, start, .refuse(.draining)),
            (
                "request without a tenant", ClientFrame(CallID(3), .request(.getStatus)), early,
                .reaction(.start(CallID(3), .getStatus, timeoutMillis: 0, creditBytes: 0)), .refuse(.draining)
            ),
            ("request on call 0", ClientFrame(.connection, .request(Sample.read)), early, badID, badID),
            ("request on an open call", ClientFrame(CallID(2), .request(Sample.read)), early, badID, badID),
            ("request on an ended call", ClientFrame(CallID(1), .request(Sample.read)), early, badID, badID),
            (
                "malformed request", ClientFrame(CallID(3), .malformed(Sample.error)), early,
                .refuse(.storageUnavailable), .refuse(.storageUnavailable)
            ),
            ("malformed request on call 0", ClientFrame(.connection, .malformed(Sample.error)), early, badID, badID),
            (
                "credit", ClientFrame(CallID(2), .credit(5)), early, .reaction(.credit(CallID(2), bytes: 5)),
                .reaction(.credit(CallID(2), bytes: 5))
            ),
            ("credit for an ended call", ClientFrame(CallID(1), .credit(5)), early, ignore, ignore),
            ("credit for no call", ClientFrame(CallID(3), .credit(5)), early, badID, badID),
            ("credit for call 0", ClientFrame(.connection, .credit(5)), early, badID, badID),
            (
                "cancel", ClientFrame(CallID(2), .cancel), early, .reaction(.cancel(CallID(2))),
                .reaction(.cancel(CallID(2)))
            ),
            ("cancel of an ended call", ClientFrame(CallID(1), .cancel), early, ignore, ignore),
            ("cancel of no call", ClientFrame(CallID(3), .cancel), early, badID, badID),
            ("cancel of call 0", ClientFrame(.connection, .cancel), early, badID, badID),
            ("replies on a call that takes none", ClientFrame(CallID(2), .replies([.alive])), early, ignore, ignore),
            (
                "malformed replies on a call that takes none", ClientFrame(CallID(2), .malformedReplies(Sample.error)),
                early, ignore, ignore
            ),
            ("replies for an ended call", ClientFrame(CallID(1), .replies([.alive])), early, ignore, ignore),
            ("replies for no call", ClientFrame(CallID(3), .replies([.alive])), early, badID, badID),
            ("replies for call 0", ClientFrame(.connection, .replies([.alive])), early, badID, badID),
            (
                "malformed replies for no call", ClientFrame(CallID(3), .malformedReplies(Sample.error)), early, badID,
                badID
            ),
        ]
        for row in rows {
            #expect(outcome(.awaitingHello, row.1) == row.waiting, "\(row.0)")
            #expect(outcome(.ready, row.1) == row.ready, "\(row.0), ready")
            #expect(outcome(.draining, row.1) == row.draining, "\(row.0), draining")
            #expect(outcome(.closed, row.1) == ignore, "\(row.0), closed")
        }
    }

    @Test func callsAreBounded() {
        var session = session(.ready)
        _ = session.receive(ClientFrame(CallID(3), .request(Sample.read)), now: Sample.millis(1))
        let openCount2 = session.openCallCount
        #expect(openCount2 == 2)
        let fourth = session.receive(ClientFrame(CallID(4), .request(Sample.read)), now: Sample.millis(1))
        guard case .refuse(CallID(4), let error) = fourth else {
            Issue.record("\(fourth)")
            return
        }
        #expect(error.reason == .tooManyCalls && error.isRetryable)
        // A refused id is used up all the same, and the end of a call makes room.
        _ = session.finish(CallID(2))
        guard
            case .start(CallID(5), _, _, _) = session.receive(
                ClientFrame(CallID(5), .request(Sample.read)), now: Sample.millis(1))
        else {
            Issue.record("no room was made")
            return
        }
    }

    @Test func aCallIsCancelledUntilItHasEnded() {
        var session = session(.ready)
        let frame = ClientFrame(CallID(2), .cancel)
        let first = session.receive(frame, now: Sample.millis(1))
        #expect(first == .cancel(CallID(2)))
        let end = session.finish(CallID(2))
        #expect(end == .none)
        let second = session.receive(frame, now: Sample.millis(1))
        #expect(second == .ignore)
    }

    @Test func drainInEveryState() {
        var fresh = session(.awaitingHello)
        let early = fresh.drain()
        #expect(early == .goAwayAndClose(lastCallID: .connection))

        var open = session(.ready)
        let drained = open.drain()
        #expect(drained == .goAway(lastCallID: CallID(2)))
        let again = open.drain()
        #expect(again == .none)
        let last = open.finish(CallID(2))
        #expect(last == .close)
        let after = open.receive(ClientFrame(.connection, .ping(1)), now: Sample.millis(1))
        #expect(after == .ignore)

        var idle = session(.ready)
        _ = idle.finish(CallID(2))
        let closed = idle.drain()
        #expect(closed == .goAwayAndClose(lastCallID: CallID(2)))

        var gone = session(.closed)
        let none = gone.drain()
        #expect(none == .none)
    }

    @Test func closeTellsWhatWasOpen() {
        for state in State.allCases {
            var session = session(state)
            let open = session.close()
            #expect(open == (state == .ready || state == .draining ? [CallID(2)] : []), "\(state)")
            let again = session.close()
            #expect(again.isEmpty)
            // What a handler still answers is no fault.
            let end = session.finish(CallID(2))
            #expect(end == .none)
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

    @Test func helloMustComeInTime() {
        var session = session(.awaitingHello)
        let before = session.tick(now: Sample.millis(999))
        #expect(before == .none)
        guard case .fail(let error) = session.tick(now: Sample.millis(1_000)) else {
            Issue.record("the session waits for ever")
            return
        }
        #expect(error.reason == .helloExpected)
        let after = session.tick(now: Sample.millis(9_000))
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
        _ = session.receive(ClientFrame(.connection, .pong(1)), now: Sample.millis(999))
        let alive = session.tick(now: Sample.millis(1_000))
        #expect(alive == .none)
        let second = session.tick(now: Sample.millis(1_499))
        #expect(second == .ping(2))
        guard case .fail(let error) = session.tick(now: Sample.millis(1_999)) else {
            Issue.record("a dead connection was kept")
            return
        }
        #expect(error.reason == .keepaliveTimeout)
        let after = session.receive(ClientFrame(.connection, .pong(2)), now: Sample.millis(2_000))
        #expect(after == .ignore)
    }

    @Test(arguments: [State.ready, .draining]) func aWorkerRepliesUntilItsCallHasEnded(_ state: State) throws {
        var session = session(.ready)
        _ = session.receive(ClientFrame(CallID(3), .request(try Sample.consume)), now: Sample.millis(1))
        if state == .draining { _ = session.drain() }
        let frame = ClientFrame(CallID(3), .replies([.acknowledge(1, upTo: true), .alive]))
        let first = session.receive(frame, now: Sample.millis(1))
        #expect(first == .reply(CallID(3), [.acknowledge(1, upTo: true), .alive]))
        let malformed = ClientFrame(CallID(3), .malformedReplies(Sample.error))
        let end = session.receive(malformed, now: Sample.millis(1))
        #expect(end == .end(CallID(3), Sample.error))
        _ = session.finish(CallID(3))
        for frame in [frame, malformed] {
            let late = session.receive(frame, now: Sample.millis(2))
            #expect(late == .ignore)
        }
    }
}
