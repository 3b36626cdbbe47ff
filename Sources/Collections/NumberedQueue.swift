public import DequeModule

/// A queue whose elements have increasing numbers, and can leave it from the middle.
///
/// Adding, and taking or finding the first, cost O(1); leaving from elsewhere costs O(log n), a share of tidying up included.
/// What left is freed at once.
@frozen public struct NumberedQueue<Element> {
    @frozen @usableFromInline struct Slot {
        @usableFromInline let number: UInt64
        /// Nil once it has left.
        @usableFromInline var element: Element?

        @inlinable init(number: UInt64, element: Element?) {
            self.number = number
            self.element = element
        }
    }

    /// The first one has an element.
    @usableFromInline var slots: Deque<Slot> = []
    /// The most slots since it was trimmed.
    @usableFromInline var slotsMax = 0
    @usableFromInline var elementCount = 0

    /// An empty queue.
    @inlinable public init() {}

    /// How many elements there are.
    @inlinable public var count: Int { elementCount }

    /// How many elements there are, and places of those that left.
    @inlinable public var placeCount: Int { slots.count }

    /// Whether there is none.
    @inlinable public var isEmpty: Bool { count == 0 }

    /// The first one; nil where there is none.
    @inlinable public var first: Element? { slots.first?.element }

    /// The number of the first one; nil where there is none.
    @inlinable public var firstNumber: UInt64? { slots.first?.number }

    /// The element of that number; nil where it is not there, or no more.
    @inlinable public subscript(number: UInt64) -> Element? { index(of: number).flatMap { slots[$0].element } }

    /// Adds an element at the end.
    /// - Precondition: the number is larger than all before it.
    @inlinable public mutating func append(_ element: Element, number: UInt64) {
        slots.append(Slot(number: number, element: element))
        slotsMax = max(slotsMax, slots.count)
        elementCount += 1
    }

    /// Puts an element back that was taken: most often before all others, which costs O(1).
    @inlinable public mutating func putBack(_ element: Element, number: UInt64) {
        slots.insert(Slot(number: number, element: element), at: slots.firstIndex { $0.number > number } ?? slots.count)
        slotsMax = max(slotsMax, slots.count)
        elementCount += 1
    }

    /// Takes out the first one; nil where there is none.
    @inlinable public mutating func popFirst() -> Element? {
        guard let element = slots.popFirst()?.element else { return nil }
        elementCount -= 1
        dropLeading()
        return element
    }

    /// Takes out the element of that number; nil where it is not there any more.
    @inlinable public mutating func remove(_ number: UInt64) -> Element? {
        guard let index = index(of: number), let element = slots[index].element.take() else { return nil }
        elementCount -= 1
        dropLeading()
        tidy()
        return element
    }

    /// Takes out all elements that are such.
    @inlinable public mutating func removeAll(where isSuch: (_ number: UInt64, _ element: Element) -> Bool) {
        slots.removeAll { slot in slot.element.map { isSuch(slot.number, $0) } ?? true }
        elementCount = slots.count
    }

    @inlinable func index(of number: UInt64) -> Int? {
        guard let first = slots.first, number >= first.number else { return nil }
        // Where none has left, each has its number's place.
        var low = 0
        var high = slots.count
        let guess = Int(clamping: number - first.number)
        if guess < high {
            if slots[guess].number == number { return guess }
            high = guess
        }
        while low < high {
            let middle = (low + high) / 2
            if slots[middle].number < number { low = middle + 1 } else { high = middle }
        }
        return low < slots.count && slots[low].number == number ? low : nil
    }

    /// Changes elements in place, in order.
    @inlinable public mutating func updateAll(_ body: (_ number: UInt64, _ element: inout Element) -> Void) {
        for index in slots.indices where slots[index].element != nil {
            if var element = slots[index].element.take() {
                body(slots[index].number, &element)
                slots[index].element = element
            }
        }
    }

    /// Takes out all elements, in order.
    @inlinable public mutating func removeAll() -> [Element] {
        defer {
            slots = []
            elementCount = 0
        }
        // No key path: those of a generic type are made anew each time.
        return slots.compactMap { $0.element }
    }

    /// Gives back the memory of an empty queue that was long once.
    @inlinable public mutating func trim() {
        guard slots.isEmpty, slotsMax > 16 else { return }
        slots = []
        slotsMax = 0
    }

    /// As many have left since it was tidied last: each of them pays for one step.
    @inlinable mutating func tidy() {
        if slots.count > 2 * count + 16 { slots.removeAll { $0.element == nil } }
    }

    @inlinable mutating func dropLeading() {
        while let first = slots.first, first.element == nil { slots.removeFirst() }
    }
}

extension NumberedQueue: Sendable where Element: Sendable {}

extension NumberedQueue.Slot: Sendable where Element: Sendable {}
