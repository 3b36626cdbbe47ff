import MartletAccess
import MartletModel
import MartletTenants
import NIOCore

extension Principal {
    /// On whose account a connection's own bytes are: of those of its certificate's tenants, or of the connection alone
    /// where there are no identities.
    func holder(of connection: ServerConnection) -> FairPool.Holder {
        switch tenants {
        case .all: .connection(ObjectIdentifier(connection))
        case .only(let tenants):
            tenants.min { $0.description < $1.description }.map { .tenant($0) }
                ?? .connection(ObjectIdentifier(connection))
        }
    }
}

/// What a connection holds of the frame that is under way to the server.
struct InboundAccount {
    private enum State {
        case free
        case held(Int)
        case waits(FairPool.WaitID, Int, since: NIODeadline)
    }

    private let pool: FairPool
    private let holder: FairPool.Holder
    private let limits: Limits
    private var state = State.free

    init(pool: FairPool, holder: FairPool.Holder, limits: Limits) {
        self.pool = pool
        self.holder = holder
        self.limits = limits
    }

    /// There is no room for the frame yet: nothing more is to be read.
    var isWaiting: Bool { if case .waits = state { true } else { false } }

    /// Whether what is held is for a frame of so many bytes.
    func isUpToDate(_ frameBytes: Int) -> Bool {
        switch state {
        case .free: frameBytes <= limits.inboundFreeBytes
        case .held(let held): held == min(frameBytes, pool.bytesMax / 2)
        case .waits: true
        }
    }

    /// Takes room for a frame of so many bytes that is under way; 0 for none. Frames up to
    /// ``Limits/inboundFreeBytes`` take none.
    mutating func hold(_ frameBytes: Int, now: NIODeadline, granted: @escaping @Sendable () -> Void) {
        let bytes = frameBytes > limits.inboundFreeBytes ? frameBytes : 0
        switch state {
        case .free: if bytes == 0 { return }
        case .held(let held):
            if held == bytes { return }
            pool.give(held, for: holder)
            state = .free
            if bytes == 0 { return }
        // The frame is the same as long as nothing is read.
        case .waits: return
        }
        switch pool.take(min(bytes, pool.bytesMax / 2), for: holder, granted: granted) {
        case .taken: state = .held(min(bytes, pool.bytesMax / 2))
        case .waits(let id): state = .waits(id, min(bytes, pool.bytesMax / 2), since: now)
        }
    }

    /// The room that was waited for is taken.
    mutating func granted(isOpen: Bool) {
        guard case .waits(_, let bytes, _) = state else { return }
        if isOpen {
            state = .held(bytes)
        } else {
            pool.give(bytes, for: holder)
            state = .free
        }
    }

    /// Why the connection cannot go on: it waited too long.
    func fault(now: NIODeadline) -> MartletError? {
        guard case .waits(_, let bytes, let since) = state,
            now - since >= .milliseconds(Int64(limits.writeStallMillis))
        else { return nil }
        return MartletError(
            .resourceExhausted, reason: .limitExceeded,
            message:
                "inbound_bytes_max is \(limits.inboundBytesMax), and for \(limits.writeStallMillis) ms it had no "
                + "room for a frame of \(bytes) bytes next to those being received: send smaller frames, or retry "
                + "later",
            isRetryable: true,
            limit: .init(
                name: "inbound_bytes_max", limit: UInt64(limits.inboundBytesMax), actual: UInt64(bytes)))
    }

    /// The connection is gone.
    mutating func close() {
        switch state {
        case .free: return
        case .held(let bytes): pool.give(bytes, for: holder)
        case .waits(let id, let bytes, _):
            // Where the grant is on its way it finds nobody.
            if !pool.stopWaiting(id) { pool.give(bytes, for: holder) }
        }
        state = .free
    }
}

/// What a connection's socket owes its peer: bytes that were written and that the system has not taken.
struct OutboundAccount {
    private let pool: FairPool
    private let holder: FairPool.Holder
    private let freeBytes: Int
    /// On the account now.
    private(set) var chargedBytes = 0
    /// The bytes on the account are beyond the share: nothing more is to be written until they left.
    private(set) var isOverdrawn = false

    init(pool: FairPool, holder: FairPool.Holder, limits: Limits) {
        self.pool = pool
        self.holder = holder
        freeBytes = limits.outboundFreeBytes
    }

    /// Brings the account up to date.
    /// - Returns: whether ``isOverdrawn`` changed.
    mutating func update(owedBytes: Int) -> Bool {
        let wasOverdrawn = isOverdrawn
        let bytes = max(0, owedBytes - freeBytes)
        if bytes > chargedBytes {
            if !pool.takeAlways(bytes - chargedBytes, for: holder) { isOverdrawn = true }
        } else if bytes < chargedBytes {
            pool.give(chargedBytes - bytes, for: holder)
            if bytes == 0 { isOverdrawn = false }
        }
        chargedBytes = bytes
        return isOverdrawn != wasOverdrawn
    }

    /// The connection is gone, and what its socket owed.
    mutating func close() { _ = update(owedBytes: 0) }
}
