import NIOConcurrencyHelpers

/// A row of `ranges`.
struct RangeRow: Hashable, Sendable {
    var tenantNo: Int64
    var aggregateNo: Int64
    var lastVersion: UInt64
    var count: Int
    var position: UInt64
    var before: UInt64
    var start: Int
    var length: Int
    var bytes: UInt64

    var firstVersion: UInt64 { lastVersion - UInt64(count) + 1 }
    var lastPosition: UInt64 { position + UInt64(count) - 1 }
    /// Key of the block.
    var blockPosition: UInt64 { position - before }
}

/// What the blocks tell of the ranges that are not in the table.
struct RecoveredRanges: Sendable {
    var rows: [RangeRow] = []
    /// Why the ranges of some tenants cannot be known, by the tenant's number.
    var damaged: [Int64: SQLiteFault] = [:]
}

/// Ranges that are committed, with their blocks, and are not in the table yet.
///
/// The rows of one commit belong to as many places of the table as it has aggregates, and each would be a page to write
/// and to sync. They wait here, where the blocks tell them again after a crash, and go into the table many at a time,
/// each aggregate's together.
///
/// Shared by the writer and all readers. What a reader finds here and in the table must be of one state: it takes
/// ``refresh(_:)``'s generation, begins its transaction, takes an aggregate's rows, and begins again where the generation
/// is another by then. Rows come in before their commit can be seen, and leave only with a new generation; rows beyond
/// the head that the reader's transaction sees are not for it.
final class PendingRanges: Sendable {
    fileprivate struct State {
        /// By number of the aggregate, in version order.
        var active: [Int64: [RangeRow]] = [:]
        var activeCount = 0
        /// Of their events' entries: what would be read to tell them again.
        var activeBytes = 0
        /// Those that are being moved into the table.
        var flushing: [Int64: [RangeRow]] = [:]
        var generation: UInt64 = 0
        /// Tenants of which the blocks do not tell all rows: none of theirs are here.
        var damaged: [Int64: SQLiteFault] = [:]
        /// Rows of a commit that failed: they may be committed or not.
        var doubted: [RangeRow] = []
        /// Whether the rows are those that the blocks tell; not so before the first use.
        var isFresh = false
    }

    private let state = NIOLockedValueBox(State())
    /// So many rows are gathered before they move,
    let rowsMax: Int
    /// or so many bytes of entries: they are read again after a start.
    let bytesMax: Int

    init(rowsMax: Int, bytesMax: Int = 16 << 20) {
        self.rowsMax = rowsMax
        self.bytesMax = bytesMax
    }

    /// How many rows are here.
    var count: Int { state.withLockedValue { $0.activeCount + $0.flushing.values.reduce(0) { $0 + $1.count } } }

    /// Loads the rows anew where they are not known; meanwhile all others wait.
    /// - Returns: the generation.
    @discardableResult
    func refresh(_ load: () throws(SQLiteFault) -> RecoveredRanges) throws(SQLiteFault) -> UInt64 {
        let result = state.withLockedValue { state -> Result<UInt64, SQLiteFault> in
            if state.isFresh { return .success(state.generation) }
            do throws(SQLiteFault) {
                let loaded = try load()
                state = State(generation: state.generation + 1, damaged: loaded.damaged, isFresh: true)
                state.add(loaded.rows)
                return .success(state.generation)
            } catch { return .failure(error) }
        }
        return try result.get()
    }

    /// What is known may not be true.
    func invalidate() {
        state.withLockedValue { $0 = State(generation: $0.generation + 1) }
    }

    /// Fails for a tenant whose rows are not known, because its blocks are damaged.
    func check(tenantNo: Int64) throws(SQLiteFault) {
        if let damage = state.withLockedValue({ $0.damaged[tenantNo] }) { throw damage }
    }

    /// An aggregate's rows, in version order.
    func rows(of aggregateNo: Int64) -> (rows: [RangeRow], generation: UInt64) {
        state.withLockedValue { state in
            let active = state.active[aggregateNo] ?? []
            guard let flushing = state.flushing[aggregateNo] else { return (active, state.generation) }
            return (flushing + active, state.generation)
        }
    }

    /// Adds the rows of a commit, before it can be seen.
    func add(_ rows: [RangeRow]) { state.withLockedValue { $0.add(rows) } }

    /// Rows that came in with a commit which failed. They stay until it is seen whether they are committed: beyond the head,
    /// they are for no reader.
    func doubt(_ rows: [RangeRow]) { state.withLockedValue { $0.doubted += rows } }

    /// Rows that may not be committed.
    var doubted: [RangeRow] { state.withLockedValue { $0.doubted } }

    /// Nothing is doubted any more: of those rows, these were not committed.
    func settle(lost: [RangeRow]) {
        state.withLockedValue { state in
            state.doubted = []
            for row in lost {
                guard let index = state.active[row.aggregateNo]?.lastIndex(of: row) else { continue }
                state.active[row.aggregateNo]?.remove(at: index)
                if state.active[row.aggregateNo]?.isEmpty == true { state.active[row.aggregateNo] = nil }
                state.activeCount -= 1
                state.activeBytes -= row.length
            }
        }
    }

    /// Where enough has gathered, all of it, to be moved into the table: an aggregate's rows together, in the order of the
    /// table. Nil where there is not, or what was taken before is still on its way.
    func beginFlush() -> [[RangeRow]]? {
        state.withLockedValue { state in
            guard state.activeCount >= rowsMax || state.activeBytes >= bytesMax, state.flushing.isEmpty else {
                return nil
            }
            state.flushing = state.active
            state.active = [:]
            state.activeCount = 0
            state.activeBytes = 0
            return state.flushing.sorted { $0.key < $1.key }.map(\.value)
        }
    }

    /// What ``beginFlush()`` gave is in the table.
    func endFlush() {
        state.withLockedValue { state in
            state.flushing = [:]
            state.generation += 1
        }
    }
}

extension PendingRanges.State {
    fileprivate mutating func add(_ rows: [RangeRow]) {
        for row in rows { active[row.aggregateNo, default: []].append(row) }
        activeCount += rows.count
        activeBytes += rows.reduce(0) { $0 + $1.length }
    }
}
