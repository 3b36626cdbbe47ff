import DequeModule

/// Numbers of slots for which something is to be done, in the order in which that came up, each once.
struct SlotQueue {
    private var order: Deque<Int> = []
    private var numbers: Set<Int> = []

    /// Those that wait, in order.
    var all: [Int] { Array(order) }

    mutating func add(_ number: Int) {
        if numbers.insert(number).inserted { order.append(number) }
    }

    mutating func popFirst() -> Int? {
        guard let first = order.popFirst() else { return nil }
        numbers.remove(first)
        return first
    }
}
