import MartletModel
import MartletTenants

/// What the open calls of a connection hold besides their messages: the fields of their requests, and their state. A few calls
/// are free; beyond them memory is taken from the pool, in blocks.
struct OpenCallsAccount {
    /// A call without fields, with all that HTTP/2 keeps of its stream, in bytes.
    private static let callBytes = 1_024
    /// A field besides its name and its value, in bytes.
    private static let fieldBytes = 40
    /// On no account, in bytes.
    private static let freeBytes = 128 << 10
    private static let blockBytes = 64 << 10

    private let pool: FairPool
    private let holder: FairPool.Holder
    /// Others have the rest of the pool for what calls need once they run, in bytes.
    private let poolBytesMax: Int
    private var heldBytes = 0
    private var blocks = 0

    init(pool: FairPool, holder: FairPool.Holder, limits: Limits) {
        self.pool = pool
        poolBytesMax = limits.callBytesMax / 2
        self.holder = holder
    }

    /// The bytes that a call counts for.
    /// - Parameters:
    ///   - fields: how many fields its request has.
    ///   - contentBytes: the bytes of their names and values.
    static func bytes(fields: Int, contentBytes: Int) -> Int { callBytes + fields * fieldBytes + contentBytes }

    /// A call begins.
    /// - Returns: false where there is no memory for it.
    mutating func take(_ bytes: Int) -> Bool {
        let missing = blocks(for: heldBytes + bytes) - blocks
        if missing > 0 {
            let bytes = missing * Self.blockBytes
            guard pool.bytes + bytes <= poolBytesMax, pool.take(bytes, for: holder) else { return false }
        }
        blocks += max(0, missing)
        heldBytes += bytes
        return true
    }

    /// A call is over.
    mutating func give(_ bytes: Int) {
        heldBytes -= bytes
        // One block more than is needed stays, so that calls that come and go do not ask the pool.
        let spare = blocks - blocks(for: heldBytes) - 1
        guard spare > 0 else { return }
        blocks -= spare
        pool.give(spare * Self.blockBytes, for: holder)
    }

    /// The connection is gone, and all its calls.
    mutating func close() {
        pool.give(blocks * Self.blockBytes, for: holder)
        blocks = 0
        heldBytes = 0
    }

    private func blocks(for bytes: Int) -> Int {
        (max(0, bytes - Self.freeBytes) + Self.blockBytes - 1) / Self.blockBytes
    }
}
