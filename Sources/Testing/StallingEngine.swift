import Foundation
import MartletModel
public import MartletStorage
public import MartletStorageMemory
import NIOConcurrencyHelpers

/// An engine whose commits stand still once: the first that finds so many calls committed before it.
public final class StallingEngine: WrappingEngine {
    /// The engine behind.
    public let base: any StorageEngine
    private let state: NIOLockedValueBox<(callsLeft: Int, hasStalled: Bool)>
    private let seconds: Double

    /// That engine; the commit with the call of that number takes so much longer.
    public init(_ base: MemoryEngine, afterCalls calls: Int, seconds: Double) {
        self.base = base
        self.seconds = seconds
        state = NIOLockedValueBox((calls, false))
    }

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

        func commit(
            _ batch: [WriteCommand], now: Timestamp, lockWait: Duration
        ) throws(StorageError) -> CommitResult {
            engine.stallWhereItIsTime(batch.count)
            return try base.commit(batch, now: now, lockWait: lockWait)
        }
    }
}
