import Foundation
import Synchronization

/// A fixed number of whole numbers, each read and written by any thread without a lock. They begin as 0, and memory is
/// taken only for those that are touched.
///
/// `@unchecked Sendable`: the memory is made and freed with the object, and between that touched by atomic operations
/// only.
@safe final class AtomicNumbers: @unchecked Sendable {
    let count: Int
    private let numbers: UnsafeMutablePointer<Atomic<UInt64>>

    init(count: Int) {
        precondition(count > 0, "there is no empty row of numbers")
        self.count = count
        guard let memory = unsafe calloc(count, MemoryLayout<Atomic<UInt64>>.stride) else {
            preconditionFailure("no memory for \(count) numbers")
        }
        unsafe numbers = memory.bindMemory(to: Atomic<UInt64>.self, capacity: count)
    }

    deinit { unsafe free(numbers) }

    subscript(index: Int) -> UInt64 {
        get {
            precondition(index >= 0 && index < count, "number \(index) of \(count)")
            return unsafe numbers[index].load(ordering: .relaxed)
        }
        set {
            precondition(index >= 0 && index < count, "number \(index) of \(count)")
            unsafe numbers[index].store(newValue, ordering: .relaxed)
        }
    }

    /// Adds to one of them.
    func add(_ value: UInt64, at index: Int) {
        precondition(index >= 0 && index < count, "number \(index) of \(count)")
        _ = unsafe numbers[index].wrappingAdd(value, ordering: .relaxed)
    }

    /// The least of them.
    var least: UInt64 {
        var least = UInt64.max
        for index in 0..<count { least = min(least, self[index]) }
        return least
    }
}
