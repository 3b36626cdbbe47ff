import Synchronization

/// The account of what the feeds of a hub hold in memory.
final class HeldBytes: Sendable {
    private let bytes = Atomic<Int>(0)
    private let bytesMax: Int

    init(bytesMax: Int) { self.bytesMax = bytesMax }

    /// What is held now; it lags behind while a run is being taken in.
    var value: Int { bytes.load(ordering: .relaxed) }

    var isOver: Bool { value > bytesMax }

    /// Takes on what must be held, for the moment at least, or gives back.
    func add(_ change: Int) { if change != 0 { bytes.wrappingAdd(change, ordering: .relaxed) } }

    /// Takes on what need not be held, where there is room for it.
    func reserve(_ count: Int) -> Bool {
        guard bytes.wrappingAdd(count, ordering: .relaxed).newValue > bytesMax else { return true }
        add(-count)
        return false
    }
}
