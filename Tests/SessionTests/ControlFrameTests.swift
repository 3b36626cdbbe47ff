import MartletModel
import MartletSession
import NIOCore
import Testing

/// Peers that keep the server busy without calling anything.
@Suite struct ControlFrameTests {
    private static let limits: Limits = {
        var limits = Limits()
        limits.controlFramesMax = 100
        limits.controlFramesPerSecondMax = 10
        return limits
    }()

    /// How many of these frames a ready session takes, a frame each `millis`; nil: all of a hundred thousand.
    private func taken(everyMillis millis: Int, _ frame: (UInt64) -> ClientFrame) -> Int? {
        var session = ServerSession(limits: Self.limits, now: Sample.millis(0))
        _ = session.receive(ClientFrame(.connection, .hello(Hello(clientName: "test"))), now: Sample.millis(0))
        for index in 0..<100_000 {
            let now = Sample.millis(index * millis)
            guard case .fail(let error) = session.receive(frame(UInt64(index + 1)), now: now) else { continue }
            #expect(error.code == .resourceExhausted && error.reason == .tooManyControlFrames)
            return index
        }
        return nil
    }

    @Test func pingsWithoutEndEndTheConnection() {
        #expect(taken(everyMillis: 0) { ClientFrame(.connection, .ping($0)) } == 100)
        #expect(taken(everyMillis: 50) { ClientFrame(.connection, .ping($0)) } == 199)
        #expect(taken(everyMillis: 100) { ClientFrame(.connection, .ping($0)) } == nil)
    }

    @Test func pongsAndMalformedCallsDoToo() {
        #expect(taken(everyMillis: 0) { ClientFrame(.connection, .pong($0)) } == 100)
        #expect(taken(everyMillis: 0) { ClientFrame(CallID($0), .malformed(Sample.error)) } == 100)
    }

    /// A stream whose client grants credit for each event that it has taken.
    @Test func creditForWhatWasSentIsFree() {
        var session = ServerSession(limits: Self.limits, now: Sample.millis(0))
        _ = session.receive(ClientFrame(.connection, .hello(Hello(clientName: "test"))), now: Sample.millis(0))
        _ = session.receive(ClientFrame(CallID(1), .request(Sample.read)), now: Sample.millis(0))
        for part in 0..<10_000 {
            session.sent(Sample.readPart(640, isFirst: part == 0))
            for _ in 0..<10 {
                let reaction = session.receive(ClientFrame(CallID(1), .credit(64)), now: Sample.millis(0))
                guard reaction == .credit(CallID(1), bytes: 64) else {
                    Issue.record("part \(part): \(reaction)")
                    return
                }
            }
        }
        var more = 0
        while case .credit = session.receive(ClientFrame(CallID(1), .credit(1)), now: Sample.millis(0)) { more += 1 }
        // The last part filled the budget, and ten were spent since.
        #expect(more == 90)
    }

    @Test func callsAreNotCounted() {
        var session = ServerSession(limits: Self.limits, now: Sample.millis(0))
        _ = session.receive(ClientFrame(.connection, .hello(Hello(clientName: "test"))), now: Sample.millis(0))
        for id in 1...10_000 {
            let reaction = session.receive(
                ClientFrame(CallID(UInt64(id)), .request(Sample.getHead)), now: Sample.millis(0))
            guard case .start = reaction else {
                Issue.record("call \(id): \(reaction)")
                return
            }
            _ = session.finish(CallID(UInt64(id)))
        }
    }

    /// A ready session with a worker's call.
    private func worker() throws -> ServerSession {
        var session = ServerSession(limits: Self.limits, now: Sample.millis(0))
        _ = session.receive(ClientFrame(.connection, .hello(Hello(clientName: "test"))), now: Sample.millis(0))
        _ = session.receive(ClientFrame(CallID(1), .request(try Sample.consume)), now: Sample.millis(0))
        return session
    }

    @Test func repliesOfWorkersAreFree() throws {
        var session = try worker()
        for number in 1...10_000 {
            let replies = [WorkerReply.acknowledge(UInt64(number), upTo: false), .alive]
            let reaction = session.receive(ClientFrame(CallID(1), .replies(replies)), now: Sample.millis(0))
            guard reaction == .reply(CallID(1), replies) else {
                Issue.record("reply \(number): \(reaction)")
                return
            }
        }
    }

    /// That a worker is alive, said without end, and replies that nobody takes end the connection.
    @Test func otherRepliesAreCounted() throws {
        for (replies, isEnded): ([WorkerReply], Bool) in [
            ([.alive], false), ([.alive, .alive], false), ([.acknowledge(1, upTo: true)], true),
        ] {
            var session = try worker()
            if isEnded { _ = session.finish(CallID(1)) }
            var taken = 0
            while taken < 1_000 {
                let reaction = session.receive(ClientFrame(CallID(1), .replies(replies)), now: Sample.millis(0))
                if case .fail(let error) = reaction {
                    #expect(error.reason == .tooManyControlFrames)
                    break
                }
                #expect(reaction == (isEnded ? .ignore : .reply(CallID(1), replies)))
                taken += 1
            }
            #expect(taken == 100, "\(replies)")
        }
    }
}
