import Foundation
import MartletModel
public import MartletStorage
public import MartletStorageMemory
import NIOConcurrencyHelpers

/// An engine whose commits stand still once: the first that finds so many calls committed before it.
public final class StallingEngine: StorageEngine {
    private let base: MemoryEngine
    private let state: NIOLockedValueBox<(callsLeft: Int, hasStalled: Bool)>
    private let seconds: Double

    /// That engine; the commit with the call of that number takes so much longer.
    public init(_ base: MemoryEngine, afterCalls calls: Int, seconds: Double) {
        self.base = base
        self.seconds = seconds
        state = NIOLockedValueBox((calls, false))
    }

    /// That of the engine behind.
    public var name: String { base.name }
    /// That of the engine behind.
    public var schemaVersion: UInt32 { base.schemaVersion }
    /// That of the engine behind.
    public var writersMax: Int { base.writersMax }
    /// That of the engine behind.
    public var readersMax: Int { base.readersMax }
    /// As many as the base takes.
    public var readersPerTenantMax: Int { base.readersPerTenantMax }
    /// That of the engine behind.
    public func prepare() throws(StorageError) { try base.prepare() }
    /// That of the engine behind.
    public func makeReader() -> any StorageReader { base.makeReader() }
    /// That of the engine behind.
    public func makeListener() -> (any StorageListener)? { base.makeListener() }
    /// A writer that stands still once.
    public func makeWriter() -> any StorageWriter { Writer(base: base.makeWriter(), engine: self) }

    private func stallWhereItIsTime(_ calls: Int) {
        let stalls = state.withLockedValue { state in
            state.callsLeft -= calls
            guard state.callsLeft <= 0, !state.hasStalled else { return false }
            state.hasStalled = true
            return true
        }
        if stalls { Thread.sleep(forTimeInterval: seconds) }
    }

    private final class Writer: StorageWriter {
        let base: any StorageWriter
        let engine: StallingEngine
        init(base: any StorageWriter, engine: StallingEngine) {
            self.base = base
            self.engine = engine
        }

        func commit(_ batch: [AppendRequest], now: Timestamp) throws(StorageError) -> CommitResult {
            engine.stallWhereItIsTime(batch.count)
            return try base.commit(batch, now: now)
        }

        func apply(_ change: TenantChange, now: Timestamp) throws(StorageError) -> TenantChangeOutcome {
            try base.apply(change, now: now)
        }
    }
}
