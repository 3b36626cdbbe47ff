import FoundationEssentials
import MartletModel
import MartletRecordCodec
public import MartletStorage
import NIOConcurrencyHelpers

/// Commits over two tenants while readers look: they must see each commit as a whole, or nothing of it.
public struct WholeCommitRace: Sendable {
    /// How many commits are raced.
    public var commits = 150
    /// How many readers look on.
    public var readers = 2

    private let seed: UInt64

    /// A race of that seed.
    public init(seed: UInt64) { self.seed = seed }

    /// Runs it.
    /// - Throws: ``ConformanceFailure`` naming the seed, and what was seen of a part of a commit.
    /// - Returns: how many different states the readers saw; 1 would say that they did not race.
    public func run(_ engine: any StorageEngine) async throws -> Int {
        let tenants = [TenantID(UUID()), TenantID(UUID())]
        let name = AggregateName.new()
        var random = SeededGenerator(seed: seed)
        let sizes = (0..<commits).map { _ in Int.random(in: 1...12, using: &random) }
        var ends: Set<UInt64> = [0]
        for size in sizes { ends.insert((ends.max() ?? 0) + UInt64(size)) }
        let last = Position(ends.max() ?? 0)
        let (seed, boundaries, isWritten) = (seed, ends, NIOLockedValueBox(false))
        let seen = try await Threads.race(readers + 1) { index -> Set<UInt64> in
            guard index > 0 else {
                defer { isWritten.withLockedValue { $0 = true } }
                let writer = engine.makeWriter()
                for size in sizes {
                    let batch = try tenants.map { try AppendRequest.sample(size, to: name, tenant: $0) }
                    _ = try writer.commit(batch, now: .now())
                }
                return []
            }
            let reader = engine.makeReader()
            var seen: Set<UInt64> = []
            var isLastLook = false
            while !isLastLook {
                isLastLook = isWritten.withLockedValue { $0 }
                let heads = try reader.heads(of: tenants)
                try requireEqual(
                    heads[0].position, heads[1].position,
                    "seed \(seed): of two tenants' heads that move together the first")
                let position = heads[0].position
                try require(boundaries.contains(position.rawValue), "seed \(seed): position \(position) is mid-commit")
                let bounds = PageBounds(bytesMax: .max)
                let page = try reader.page(
                    of: tenants[0], positions: PageRange(after: .start, to: position), filter: .all, bounds: bounds)
                try requireEqual(page.count, Int(position.rawValue), "seed \(seed): events up to the head")
                let stream = try reader.page(
                    of: name, in: tenants[1], versions: PageRange(after: .none, to: .max), bounds: bounds)
                try require(
                    boundaries.contains(UInt64(stream.count)), "seed \(seed): \(stream.count) events is mid-commit")
                try require(stream.count >= page.count, "seed \(seed): a later read sees less")
                seen.insert(position.rawValue)
            }
            return seen
        }
        for states in seen.dropFirst() {
            try require(states.contains(last.rawValue), "seed \(seed): a reader that begins later misses a commit")
        }
        return seen.reduce(into: Set()) { $0.formUnion($1) }.count
    }
}
