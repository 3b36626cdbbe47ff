import Testing

@testable import MartletHTTP2Transport

/// What is known of streams that are not open any more.
@Suite struct PastStreamsTests {
    @Test func theNewestThatWereResetAreRemembered() {
        var past = PastStreams()
        for number in 0..<5_000 as Range<UInt32> {
            past.reset(2 * number + 1)
            past.reset(2 * number + 1)
        }
        let newest = 5_000 - PastStreams.resetsMax
        for number in 0..<5_000 {
            #expect(past.end(of: UInt32(2 * number + 1)) == (number < newest ? .other : .reset))
        }
    }

    @Test func whatWasLeftOutIsAnotherFault() {
        var past = PastStreams()
        past.begins(1, after: 0)
        past.begins(9, after: 1)
        past.begins(11, after: 9)
        #expect([1, 3, 7, 9, 11].map { past.end(of: $0) } == [.other, .skipped, .skipped, .other, .other])
        // Somebody who leaves out thousands is told less.
        for number in 1...1_000 as ClosedRange<UInt32> { past.begins(11 + 4 * number, after: 7 + 4 * number) }
        #expect(past.end(of: 13) == .skipped && past.end(of: 4_009) == .other)
    }
}
