import MartletModel
import MartletTesting
import MartletStorageMemory
import Foundation
import NIOConcurrencyHelpers

@testable import MartletStorage

/// Holds up threads until it is opened.
final class Gate: @unchecked Sendable {
    // Guarded by `condition`.
    private var isOpen = false
    private let condition = NSCondition()

    func open() {
        condition.withLock {
            isOpen = true
            condition.broadcast()
        }
    }

    /// For threads only.
    func pass() { condition.withLock { while !isOpen { condition.wait() } } }
}

/// A writer of events in memory whose commits a test sees, holds up and makes fail.
final class GatedWriter: StorageWriter, Sendable {
    struct State {
        var batches: [[WriteCommand]] = []
        var errors: [StorageError] = []
        var refusal: @Sendable ([WriteCommand]) -> StorageError? = { _ in nil }
        var slow: @Sendable ([WriteCommand]) -> [Int] = { _ in [] }
    }

    private let base: MemoryEngine
    let gate: Gate
    let state = NIOLockedValueBox(State())

    init(_ base: MemoryEngine = MemoryEngine(), gate: Gate = Gate()) {
        self.base = base
        self.gate = gate
    }

    /// The batches that came, as the numbers of their calls: of the first event of each.
    var batches: [[UInt64]] {
        state.withLockedValue { $0.batches }.map { batch in
            batch.compactMap { command in
                guard case .append(let request) = command else { return nil }
                return request.aggregates[0].events[0].id.bytes.suffix(8).reduce(0) { $0 << 8 | UInt64($1) }
            }
        }
    }

    /// The next commits fail with these errors.
    func fail(_ errors: [StorageError]) { state.withLockedValue { $0.errors = errors } }

    /// Commits fail with the errors that this makes of their batches.
    func refuse(_ refusal: @escaping @Sendable ([WriteCommand]) -> StorageError?) {
        state.withLockedValue { $0.refusal = refusal }
    }

    /// Commands of those tenants are handed over, where there are others beside them.
    func handOver(_ isSlow: @escaping @Sendable (TenantID) -> Bool) {
        handOverCommands { batch in
            let tenants = Set(batch.map(\.tenant).filter(isSlow))
            return batch.indices.filter { tenants.contains(batch[$0].tenant) }
        }
    }

    /// Commands at those indices are handed over, where there are others beside them.
    func handOverCommands(_ slow: @escaping @Sendable ([WriteCommand]) -> [Int]) {
        state.withLockedValue { $0.slow = slow }
    }

    func commit(
        _ batch: [WriteCommand], now: Timestamp, handOver: ([Int]) -> Void
    ) throws(StorageError) -> CommitResult {
        let slow = state.withLockedValue { $0.slow }(batch)
        guard !slow.isEmpty, slow.count < batch.count else { return try commit(batch, now: now, lockWait: .zero) }
        handOver(slow)
        return try commit(Set(batch.indices).subtracting(slow).sorted().map { batch[$0] }, now: now, lockWait: .zero)
    }

    func commit(
        _ batch: [WriteCommand], now: Timestamp, lockWait: Duration
    ) throws(StorageError) -> CommitResult {
        let error = state.withLockedValue { state -> StorageError? in
            state.batches.append(batch)
            return state.errors.isEmpty ? state.refusal(batch) : state.errors.removeFirst()
        }
        gate.pass()
        if let error { throw error }
        return try base.makeWriter().commit(batch, now: now, lockWait: lockWait)
    }
}

/// What came, in the order in which it came.
final class Recorder<Value: Sendable>: Sendable {
    private let box = NIOLockedValueBox<[Value]>([])

    var values: [Value] { box.withLockedValue { $0 } }

    func add(_ value: Value) { box.withLockedValue { $0.append(value) } }

    /// Waits until that many came; false when they do not.
    func reaches(_ count: Int) async -> Bool { await eventually { self.values.count >= count } }
}

/// Waits for what another thread will do; false when it does not within ten seconds.
func eventually(_ condition: @Sendable () -> Bool) async -> Bool {
    for _ in 0..<10_000 {
        if condition() { return true }
        try? await Task.sleep(for: .milliseconds(1))
    }
    return condition()
}
