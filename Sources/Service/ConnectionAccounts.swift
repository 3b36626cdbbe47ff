public import MartletAccess
public import MartletModel
public import MartletTenants
public import NIOCore

extension Principal {
    /// On whose account a connection's own bytes are: of those of its certificate's tenants, or of the connection alone
    /// where there are no identities.
    public func holder(of connection: any ServedConnection) -> FairPool.Holder {
        switch tenants {
        case .all: .connection(ObjectIdentifier(connection))
        case .only(let tenants):
            tenants.min { $0.description < $1.description }.map { .tenant($0) }
                ?? .connection(ObjectIdentifier(connection))
        }
    }
}

/// What a connection holds of the frame that is under way to the server.
public struct InboundAccount {
    /// Names a wait of this account: a grant that was on its way when its wait was given up is not one for the next.
    public typealias WaitNumber = UInt64

    private struct Wait {
        let number: WaitNumber
        let id: FairPool.WaitID
        let bytes: Int
        let since: NIODeadline
    }

    private enum State {
        case free
        case held(Int)
        case waits(Wait)
    }

    private let pool: FairPool
    private let holder: FairPool.Holder
    private let limits: Limits
    private var state = State.free
    private var lastWait: WaitNumber = 0

    /// An account that holds nothing.
    public init(pool: FairPool, holder: FairPool.Holder, limits: Limits) {
        self.pool = pool
        self.holder = holder
        self.limits = limits
    }

    /// There is no room for the frame yet: nothing more is to be read.
    public var isWaiting: Bool { if case .waits = state { true } else { false } }

    /// Whether what is held, or waited for, is for a frame of so many bytes.
    public func isUpToDate(_ frameBytes: Int) -> Bool {
        let bytes = bytesNeeded(frameBytes)
        return switch state {
        case .free: bytes == 0
        case .held(let held): held == bytes
        case .waits(let wait): wait.bytes == bytes
        }
    }

    private func bytesNeeded(_ frameBytes: Int) -> Int {
        frameBytes > limits.inboundFreeBytes ? min(frameBytes, pool.bytesMax / 2) : 0
    }

    /// Takes room for a frame of so many bytes that is under way; 0 for none. Frames up to
    /// ``Limits/inboundFreeBytes`` take none.
    ///
    /// A frame that is waited for may become whole nevertheless: bytes that came before reading stopped are still
    /// delivered. The wait ends then.
    ///
    /// - Parameter granted: called, from any thread, when room that was waited for is taken, with what ``granted(_:isOpen:)``
    ///   is to be told.
    public mutating func hold(_ frameBytes: Int, now: NIODeadline, granted: @escaping @Sendable (WaitNumber) -> Void) {
        guard !isUpToDate(frameBytes) else { return }
        release()
        let bytes = bytesNeeded(frameBytes)
        guard bytes > 0 else { return }
        lastWait += 1
        let number = lastWait
        switch pool.take(bytes, for: holder, granted: { granted(number) }) {
        case .taken: state = .held(bytes)
        case .waits(let id): state = .waits(Wait(number: number, id: id, bytes: bytes, since: now))
        }
    }

    /// The room that was waited for is taken.
    public mutating func granted(_ number: WaitNumber, isOpen: Bool) {
        // Who gave the wait up gave the room back.
        guard case .waits(let wait) = state, wait.number == number else { return }
        state = .held(wait.bytes)
        if !isOpen { release() }
    }

    /// Why the connection cannot go on: it waited too long.
    public func fault(now: NIODeadline) -> MartletError? {
        guard case .waits(let wait) = state, now - wait.since >= .milliseconds(Int64(limits.writeStallMillis)) else {
            return nil
        }
        return MartletError(
            .resourceExhausted, reason: .limitExceeded,
            message:
                "inbound_bytes_max is \(limits.inboundBytesMax), and for \(limits.writeStallMillis) ms it had no "
                + "room for a frame of \(wait.bytes) bytes next to those being received: send smaller frames, or retry "
                + "later",
            isRetryable: true,
            limit: .init(
                name: "inbound_bytes_max", limit: UInt64(limits.inboundBytesMax), actual: UInt64(wait.bytes)))
    }

    /// The connection is gone.
    public mutating func close() { release() }

    private mutating func release() {
        switch state {
        case .free: return
        case .held(let bytes): pool.give(bytes, for: holder)
        case .waits(let wait):
            // Where the grant is on its way it finds nobody.
            if !pool.stopWaiting(wait.id) { pool.give(wait.bytes, for: holder) }
        }
        state = .free
    }
}

/// What a connection's socket owes its peer: bytes that were written and that the system has not taken.
public struct OutboundAccount {
    private let pool: FairPool
    private let holder: FairPool.Holder
    private let freeBytes: Int
    /// On the account now.
    public private(set) var chargedBytes = 0
    /// The bytes on the account are beyond the share: nothing more is to be written until they left.
    public private(set) var isOverdrawn = false

    /// An account that holds nothing.
    public init(pool: FairPool, holder: FairPool.Holder, limits: Limits) {
        self.pool = pool
        self.holder = holder
        freeBytes = limits.outboundFreeBytes
    }

    /// Brings the account up to date.
    /// - Returns: whether ``isOverdrawn`` changed.
    public mutating func update(owedBytes: Int) -> Bool {
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
    public mutating func close() { _ = update(owedBytes: 0) }
}
