import MartletTenants

/// What a worker's call holds in memory, on its tenant's account.
struct WorkerMemory {
    private static let step = 4 << 10

    private let pool: FairPool
    private let owner: FairPool.Holder
    private var heldBytes = 0
    /// There was no room for all of it.
    private(set) var isFull = false

    init(_ pool: FairPool, _ owner: FairPool.Holder) {
        self.pool = pool
        self.owner = owner
    }

    /// Takes or gives back, so that about so many bytes are held, where there is room for them.
    mutating func hold(_ bytes: Int) {
        let wanted = (bytes + Self.step - 1) / Self.step * Self.step
        if wanted < heldBytes {
            pool.give(heldBytes - wanted, for: owner)
            heldBytes = wanted
        } else if wanted > heldBytes, pool.take(wanted - heldBytes, for: owner) {
            heldBytes = wanted
        }
        isFull = wanted > heldBytes
    }

    /// Gives all of it back.
    mutating func giveBack() {
        pool.give(heldBytes, for: owner)
        heldBytes = 0
    }
}
