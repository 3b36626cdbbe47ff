import Testing

@testable import MartletClient

@Suite struct CreditWindowTests {
    @Test func grantsInSteps() {
        var window = CreditWindow(windowBytes: 100, windowBytesMax: 1_000)
        window.receive(30)
        #expect(window.outstandingBytes == 70)
        #expect(window.take(20) == 0)
        #expect(window.outstandingBytes == 70)
        #expect(window.take(10) == 30)
        #expect(window.outstandingBytes == 100)
    }

    @Test func isRaisedToTheLargestEvent() {
        var window = CreditWindow(windowBytes: 100, eventBytesMax: 1_000, windowBytesMax: 1_000)
        #expect(window.windowBytes == 1_500)
        // Whatever is held back, the largest event fits when nothing is buffered.
        window.receive(400)
        #expect(window.take(374) == 0)
        #expect(window.take(26) == 400)
    }

    @Test func anAskingServerGetsWhatIsHeldBack() {
        var window = CreditWindow(windowBytes: 100, windowBytesMax: 1_000)
        window.receive(20)
        #expect(window.take(20) == 0)
        #expect(window.want(90) == 20)
        #expect(window.outstandingBytes == 100)
    }

    @Test func eachTenantsWaitLastsUntilItsEventComes() {
        var window = CreditWindow(windowBytes: 100, windowBytesMax: 1_000)
        let (a, b) = (Sample.tenant(1), Sample.tenant(2))
        window.receive(20, of: a)
        #expect(window.take(20) == 0)
        #expect(window.want(95, for: b) == 20)
        // Another's event, and another's smaller wish, change nothing.
        #expect(window.want(10, for: a) == 0)
        window.receive(10, of: a)
        #expect(window.take(10) == 10)
        window.receive(95, of: b)
        #expect(window.take(95) == 95)
        window.receive(10, of: a)
        #expect(window.take(10) == 0, "nobody waits any more")
        #expect(window.want(100, for: b) == 10)
        window.forget(b)
        window.receive(10, of: a)
        #expect(window.take(10) == 0, "it has left")
    }

    @Test func anAskingServerRaisesTheWindow() {
        var window = CreditWindow(windowBytes: 100, windowBytesMax: 1_000)
        #expect(window.want(400) == 300)
        #expect(window.windowBytes == 400)
        #expect(window.want(400) == 0)
        #expect(window.want(.max) == 600)
        #expect(window.windowBytes == 1_000)
    }

    @Test func aSlowConsumerGivesTheWindowBackAsItTakes() {
        var window = CreditWindow(windowBytes: 100, windowBytesMax: 1_000)
        window.receive(60)
        window.receive(30)
        #expect(window.want(80) == 0)
        #expect(window.take(20) == 20)
        #expect(window.outstandingBytes == 30)
        #expect(window.take(40) == 40)
        #expect(window.take(10) == 10)
        #expect(window.outstandingBytes == 80)
        // Enough for what was asked: from here on in steps again.
        #expect(window.take(20) == 0)
    }

    /// Neither end ever waits for the other, and the parts always make up the window.
    @Test func neverStalls() {
        let seed = UInt64.random(in: 1...UInt64.max)
        var random = SplitMix(state: seed)
        for _ in 0..<300 {
            let limit = Int.random(in: 1...5_000, using: &random)
            let asks = Bool.random(using: &random)
            var window = CreditWindow(
                windowBytes: Int.random(in: 1...5_000, using: &random), eventBytesMax: asks ? 0 : limit,
                windowBytesMax: limit)
            var credit = window.windowBytes
            var queue: [Int] = []
            var left = 200
            while left > 0 {
                let event = Int.random(in: 1...limit, using: &random)
                left -= 1
                while event > credit {
                    if asks { credit += window.want(UInt64(event)) }
                    if event <= credit { break }
                    guard !queue.isEmpty else {
                        Issue.record("both ends wait; seed \(seed)")
                        return
                    }
                    credit += window.take(queue.removeFirst())
                }
                credit -= event
                window.receive(event)
                queue.append(event)
                #expect(window.outstandingBytes == credit, "seed \(seed)")
                #expect(window.bufferedBytes <= window.windowBytes, "seed \(seed)")
                if Bool.random(using: &random) { credit += window.take(queue.removeFirst()) }
            }
        }
    }
}

/// A generator that a seed reproduces.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
