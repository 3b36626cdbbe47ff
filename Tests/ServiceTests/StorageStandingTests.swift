import NIOCore
import Testing

@testable import MartletService

/// What is thought of a storage, step by step.
@Suite struct StorageStandingTests {
    private typealias Action = StorageStanding.Action

    private static let second = Action.pause(.seconds(1))

    @Test func aFailureIsProbedBeforeItIsBelieved() {
        var standing = StorageStanding()
        #expect(standing.isQuiet && standing.failed(isFull: false) == .probe)
        #expect(standing.isWell && !standing.isQuiet)
        #expect(standing.failed(isFull: false) == nil, "one probe at a time")
        #expect(standing.probed(.well) == Self.second)
        #expect(standing.isWell)
        #expect(standing.pauseEnded() == nil)
        #expect(standing.isQuiet)
    }

    @Test func aFailedProbeIsBelievedAndFollowedByOthersUntilOneSucceeds() {
        var standing = StorageStanding()
        #expect(standing.failed(isFull: false) == .probe)
        for _ in 0..<5 {
            #expect(standing.probed(.failed) == Self.second)
            #expect(!standing.isWell)
            #expect(standing.failed(isFull: false) == nil, "failures are no reason to probe more often")
            #expect(standing.pauseEnded() == .probe)
        }
        #expect(standing.probed(.well) == Self.second)
        #expect(standing.isWell)
        #expect(standing.pauseEnded() == nil)
        #expect(standing.isQuiet)
    }

    @Test func aFullStorageIsBelievedAtOnce() {
        var standing = StorageStanding()
        #expect(standing.failed(isFull: true) == Self.second)
        #expect(!standing.isWell)
        #expect(standing.pauseEnded() == .probe)
    }

    @Test func aProbeDoesNotOutweighThatStorageWasFullMeanwhile() {
        var standing = StorageStanding()
        #expect(standing.failed(isFull: false) == .probe)
        #expect(standing.failed(isFull: true) == nil)
        #expect(!standing.isWell)
        #expect(standing.probed(.well) == Self.second)
        #expect(!standing.isWell)
        #expect(standing.pauseEnded() == .probe)
        #expect(standing.probed(.well) == Self.second)
        #expect(standing.isWell)
    }

    @Test func aCallThatIsCarriedOutTakesThePlaceOfAProbe() {
        var standing = StorageStanding()
        _ = standing.failed(isFull: true)
        standing.worked()
        #expect(!standing.isWell, "a change lasts as long as a pause")
        #expect(standing.pauseEnded() == Self.second)
        #expect(standing.isWell)
        #expect(standing.pauseEnded() == nil)
        #expect(standing.isQuiet)
    }

    @Test func theLastOneCounts() {
        var standing = StorageStanding()
        _ = standing.failed(isFull: true)
        standing.worked()
        #expect(standing.failed(isFull: false) == nil)
        #expect(standing.pauseEnded() == .probe && !standing.isWell)
    }

    @Test func aProbeThatFoundNoPlaceSaysNothing() {
        var standing = StorageStanding()
        _ = standing.failed(isFull: false)
        #expect(standing.probed(.refused) == Self.second)
        #expect(standing.isWell)
        #expect(standing.pauseEnded() == .probe)
        _ = standing.probed(.failed)
        _ = standing.pauseEnded()
        #expect(standing.probed(.refused) == Self.second)
        #expect(!standing.isWell)
    }

    @Test func pausesGrowWhileChangesFollowEachOther() {
        var standing = StorageStanding()
        var pauses: [TimeAmount] = []
        for _ in 0..<7 {
            // It fails while the pause after the last recovery lasts.
            let action = standing.failed(isFull: true)
            #expect(!standing.isWell)
            if case .pause(let time) = action { pauses.append(time) }
            if action == nil {
                #expect(standing.pauseEnded() == .probe)
                if case .pause(let time)? = standing.probed(.failed) { pauses.append(time) }
            }
            #expect(standing.pauseEnded() == .probe)
            _ = standing.probed(.well)
            #expect(standing.isWell)
        }
        #expect(pauses == [1, 2, 4, 8, 16, 16, 16].map { TimeAmount.seconds($0) })
        #expect(standing.pauseEnded() == nil && standing.isQuiet)
        #expect(standing.failed(isFull: true) == Self.second, "all was well for a pause")
    }

    /// Whatever happens: at most one probe is under way, a pause always runs where nothing is, and what is told changes
    /// back only when a pause has ended or a probe.
    @Test func noOrderOfEventsLeavesItStuck() {
        var random = SystemRandomNumberGenerator()
        for _ in 0..<2_000 {
            var standing = StorageStanding()
            var probes = 0
            var pauses = 0
            func follow(_ action: Action?) {
                switch action {
                case .probe: probes += 1
                case .pause: pauses += 1
                case nil: break
                }
            }
            for _ in 0..<30 {
                let wasWell = standing.isWell
                switch Int.random(in: 0..<5, using: &random) {
                case 0: follow(standing.failed(isFull: Bool.random(using: &random)))
                case 1:
                    standing.worked()
                    #expect(standing.isWell == wasWell)
                case 2 where pauses > 0:
                    pauses -= 1
                    follow(standing.pauseEnded())
                case 3 where probes > 0:
                    probes -= 1
                    follow(standing.probed([.well, .failed, .refused].randomElement(using: &random) ?? .well))
                default: continue
                }
                #expect(probes + pauses == (standing.isQuiet ? 0 : 1))
                #expect(standing.isWell || !standing.isQuiet)
            }
        }
    }
}
