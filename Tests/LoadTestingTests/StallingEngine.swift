import Foundation
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTesting
import NIOConcurrencyHelpers

/// An engine whose commits stand still once: the first that finds so many calls committed before it.
final class StallingEngine: StorageEngine {
    private let base: MemoryEngine
    private let state: NIOLockedValueBox<(callsLeft: Int, hasStalled: Bool)>
    private let seconds: Double

    init(_ base: MemoryEngine, afterCalls calls: Int, seconds: Double) {
        self.base = base
        self.seconds = seconds
        state = NIOLockedValueBox((calls, false))
    }

    var name: String { base.name }
    var schemaVersion: UInt32 { base.schemaVersion }
    var writersMax: Int { base.writersMax }
    var readersMax: Int { base.readersMax }
    func prepare() throws(StorageError) { try base.prepare() }
    func makeReader() -> any StorageReader { base.makeReader() }
    func makeListener() -> (any StorageListener)? { base.makeListener() }
    func makeWriter() -> any StorageWriter { Writer(base: base.makeWriter(), engine: self) }

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
