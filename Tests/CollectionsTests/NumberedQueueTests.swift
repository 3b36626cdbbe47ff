import MartletCollections
import MartletTesting
import Testing

/// A queue that is left from the middle, against a dictionary.
@Suite struct NumberedQueueTests {
    @Test func itHoldsWhatADictionaryHolds() {
        var random = SeededGenerator.fromEnvironment()
        print("numbered queue: seed \(random.seed)")
        for _ in 0..<200 {
            var queue = NumberedQueue<UInt64>()
            var expected: [UInt64: UInt64] = [:]
            var last: UInt64 = 0
            for _ in 0..<Int.random(in: 1...400, using: &random) {
                let number = UInt64.random(in: 0...last + 2, using: &random)
                switch Int.random(in: 0..<10, using: &random) {
                case 0..<5:
                    last += UInt64.random(in: 1...3, using: &random)
                    queue.append(last * 7, number: last)
                    expected[last] = last * 7
                case 5..<7: #expect(queue.remove(number) == expected.removeValue(forKey: number))
                case 7:
                    let first = expected.keys.min()
                    #expect(queue.firstNumber == first)
                    #expect(queue.popFirst() == first.flatMap { expected.removeValue(forKey: $0) })
                case 8: #expect(queue[number] == expected[number])
                default:
                    let rest = UInt64.random(in: 0..<9, using: &random)
                    queue.removeAll { $0 % 9 == rest || $1 == number }
                    expected = expected.filter { $0.key % 9 != rest && $0.value != number }
                }
                #expect(queue.count == expected.count && queue.isEmpty == expected.isEmpty)
                #expect(queue.first == expected.keys.min().flatMap { expected[$0] })
            }
            #expect(queue.removeAll() == expected.sorted { $0.key < $1.key }.map(\.value))
        }
    }

    /// One that stays while thousands come and go keeps no places for them.
    @Test func whatLeftIsNotKept() {
        var queue = NumberedQueue<Int>()
        queue.append(0, number: 1)
        for number in 2...100_000 as ClosedRange<UInt64> {
            queue.append(1, number: number)
            if number > 10 { _ = queue.remove(number - 8) }
        }
        #expect(queue.placeCount <= 2 * queue.count + 16)
    }
}
