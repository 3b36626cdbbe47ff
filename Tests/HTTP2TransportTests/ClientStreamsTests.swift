import Testing

@testable import MartletHTTP2Transport

/// What the client has said of its streams.
@Suite struct ClientStreamsTests {
    private func head(_ stream: UInt32, ends: Bool = false) -> HTTP2FrameCutter.Head {
        HTTP2FrameCutter.Head(length: 0, type: 1, flags: ends ? 1 : 0, stream: stream, firstWord: 0)
    }

    @Test func trailersEndAStreamAndNothingComesAfterThem() {
        var streams = ClientStreams(openMax: 10)
        let before = [streams.headers(head(1)), streams.data(head(1)), streams.headers(head(1, ends: true))]
        #expect(before == [true, true, true] && streams.openCount == 0)
        let after = [streams.headers(head(1)), streams.headers(head(1, ends: true)), streams.data(head(1))]
        #expect(after == [false, false, false])
    }

    @Test func whatEndedOtherwiseIsOver() {
        var streams = ClientStreams(openMax: 10)
        let byHeaders = [streams.headers(head(1, ends: true)), streams.headers(head(1))]
        #expect(byHeaders == [true, false])
        let byData = [
            streams.headers(head(3)), streams.data(head(3, ends: true)), streams.headers(head(3, ends: true)),
        ]
        #expect(byData == [true, true, false])
        let begins = streams.headers(head(5))
        streams.ended(5)
        let byReset = [begins, streams.headers(head(5)), streams.data(head(5))]
        #expect(byReset == [true, false, false] && streams.openCount == 0)
    }

    @Test func beyondTheLimitNothingIsKept() {
        var streams = ClientStreams(openMax: 10)
        for number in 0..<100 as Range<UInt32> { _ = streams.headers(head(2 * number + 1)) }
        #expect(streams.openCount == 10)
    }

    @Test func whatWasNeverBegunIsAnotherFault() {
        var streams = ClientStreams(openMax: 10)
        let begun = [streams.headers(head(1, ends: true)), streams.headers(head(9, ends: true))]
        let leftOut = [streams.headers(head(3)), streams.headers(head(7))]
        let used = [streams.headers(head(1)), streams.headers(head(9))]
        #expect(begun == [true, true] && leftOut == [true, true] && used == [false, false])
        let notTheClients = streams.headers(head(2))
        let idle = streams.data(head(11))
        #expect(notTheClients && !idle && streams.openCount == 0)
    }
}
