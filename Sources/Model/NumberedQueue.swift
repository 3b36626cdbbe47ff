import DequeModule

/// A queue whose elements have increasing numbers, and can leave it from the middle.
///
/// Adding, taking the first and looking at it cost O(1); leaving costs O(log n), a share of tidying up included. What
/// left is freed at once.
package struct NumberedQueue<Element> {
    fileprivate struct Slot {
        let number: UInt64
        /// Nil once it has left.
        var element: Element?
    }

    /// The first one has an element.
    private var slots: Deque<Slot> = []
    /// The most slots since it was trimmed.
    private var slotsMax = 0
    /// How many elements there are.
    package private(set) var count = 0

    package init() {}

    /// How many elements there are, and places of those that left.
    package var placeCount: Int { slots.count }

    package var isEmpty: Bool { count == 0 }

    package var first: Element? { slots.first?.element }

    /// - Precondition: the number is larger than all before it.
    package mutating func append(_ element: Element, number: UInt64) {
        slots.append(Slot(number: number, element: element))
        slotsMax = max(slotsMax, slots.count)
        count += 1
    }

    /// Puts an element back that was taken: most often before all others, which costs O(1).
    package mutating func putBack(_ element: Element, number: UInt64) {
        slots.insert(Slot(number: number, element: element), at: slots.firstIndex { $0.number > number } ?? slots.count)
        slotsMax = max(slotsMax, slots.count)
        count += 1
    }

    package mutating func popFirst() -> Element? {
        guard let element = slots.popFirst()?.element else { return nil }
        count -= 1
        dropLeading()
        return element
    }

    /// Takes out the element of that number; nil where it is not there any more.
    package mutating func remove(_ number: UInt64) -> Element? {
        var low = 0
        var high = slots.count
        while low < high {
            let middle = (low + high) / 2
            if slots[middle].number < number { low = middle + 1 } else { high = middle }
        }
        guard low < slots.count, slots[low].number == number, let element = slots[low].element else { return nil }
        slots[low].element = nil
        count -= 1
        dropLeading()
        // As many have left since it was tidied last: each of them pays for one step.
        if slots.count > 2 * count + 16 { slots.removeAll { $0.element == nil } }
        return element
    }

    /// Changes elements in place, in order.
    package mutating func updateAll(_ body: (_ number: UInt64, _ element: inout Element) -> Void) {
        for index in slots.indices where slots[index].element != nil {
            if var element = slots[index].element.take() {
                body(slots[index].number, &element)
                slots[index].element = element
            }
        }
    }

    /// Takes out all elements, in order.
    package mutating func removeAll() -> [Element] {
        defer {
            slots = []
            count = 0
        }
        // No key path: those of a generic type are made anew each time.
        return slots.compactMap { $0.element }
    }

    /// Gives back the memory of an empty queue that was long once.
    package mutating func trim() {
        guard slots.isEmpty, slotsMax > 16 else { return }
        slots = []
        slotsMax = 0
    }

    private mutating func dropLeading() { while let first = slots.first, first.element == nil { slots.removeFirst() } }
}

extension NumberedQueue: Sendable where Element: Sendable {}

extension NumberedQueue.Slot: Sendable where Element: Sendable {}
