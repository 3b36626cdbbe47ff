import MartletModel
import Testing

@testable import MartletLoadTesting

@Suite struct AcknowledgementTimesTests {
    private let start = Moment(nanoseconds: 1_000_000_000)

    @Test func knowsWhenAPositionWasAcknowledged() {
        let times = AcknowledgementTimes(from: start, capacity: 8)
        #expect(times.time(of: 1) == .notYet)
        #expect(times.lastPosition == 0)
        times.acknowledged(from: Position(1), to: Position(3), at: start)
        times.acknowledged(from: Position(4), to: Position(4), at: start + 0.002)
        #expect(times.time(of: 1) == .at(0))
        #expect(times.time(of: 3) == .at(0))
        #expect(times.time(of: 4) == .at(2_000))
        #expect(times.time(of: 5) == .notYet)
        #expect(times.lastPosition == 4)
        // Acknowledgements come in any order.
        times.acknowledged(from: Position(2), to: Position(2), at: start + 0.003)
        #expect(times.lastPosition == 4)
    }

    @Test func forgetsWhatTheRingHoldsNoMore() {
        let times = AcknowledgementTimes(from: start, capacity: 8)
        times.acknowledged(from: Position(1), to: Position(8), at: start)
        #expect(times.time(of: 9) == .notYet, "its place holds position 1, which came before")
        times.acknowledged(from: Position(9), to: Position(9), at: start + 0.001)
        #expect(times.time(of: 1) == .forgotten)
        #expect(times.time(of: 2) == .at(0))
        #expect(times.time(of: 9) == .at(1_000))
        #expect(times.time(of: 17) == .notYet)
    }
}
