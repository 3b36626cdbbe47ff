import FoundationEssentials
import MartletModel
import MartletRecordCodec
public import MartletStorage
import MartletStorageMemory
import NIOCore

/// A random history in an engine and in the oracle, which looks at every event one after the other: reads of the one
/// must answer what the other says.
public struct ReaderComparison {
    /// Gives the same history and the same reads again.
    public let seed: UInt64
    private var random: SeededGenerator
    private let reader: any StorageReader
    private let oracle: any StorageReader
    private let tenants = [TenantID(UUID()), TenantID(UUID())]
    private let names = ["order", "order", "customer", "cart"].map { AggregateName.new($0) }
    private static let kinds = ["Placed", "Paid", "Ünusual", "Shipped"]
    private static let startMicros: Int64 = 1_000_000
    private var endMicros = startMicros

    /// Writes a history of about so many events.
    public init(_ engine: any StorageEngine, commits: Int = 120) throws {
        random = .fromEnvironment()
        seed = random.seed
        let memory = MemoryEngine()
        reader = engine.makeReader()
        oracle = memory.makeReader()
        let writers = [engine.makeWriter(), memory.makeWriter()]
        for _ in 0..<commits {
            let batch = try (0..<Int.random(in: 1...3, using: &random)).map { _ in
                let kind = Self.kinds[Int.random(in: 0..<Self.kinds.count, using: &random)]
                let events = try (0..<Int.random(in: 1...4, using: &random)).map { _ in
                    let size = Int.random(in: 1...400, using: &random)
                    return try EncodedEvent.sample("\"" + String(repeating: "x", count: size) + "\"", kind: kind)
                }
                return AppendRequest.of(
                    events, to: names[Int.random(in: 0..<names.count, using: &random)],
                    tenant: tenants[Int.random(in: 0..<tenants.count, using: &random)])
            }
            // Now and then the clock stands still, or goes back.
            endMicros += Int64.random(in: -3...10, using: &random)
            for writer in writers { _ = try writer.commit(batch, now: Timestamp(microseconds: endMicros)) }
        }
    }

    /// Heads, times, versions and positions as of anything.
    /// - Throws: ``ConformanceFailure`` naming the seed and the first answer that differs.
    public mutating func asOf(rounds: Int = 400) throws {
        for round in 0..<rounds {
            let tenant = round % 50 == 0 ? TenantID(UUID()) : tenants[Int.random(in: 0..<2, using: &random)]
            let name = round % 51 == 0 ? AggregateName.new() : names[Int.random(in: 0..<names.count, using: &random)]
            let head = try oracle.head(of: tenant).position
            try same(round, "the head") { reader throws(StorageError) in try reader.head(of: tenant) }
            let time = Timestamp(microseconds: .random(in: Self.startMicros - 5...endMicros + 5, using: &random))
            try same(round, "the position as of \(time.microseconds)") { reader throws(StorageError) in
                try reader.position(of: tenant, asOf: time)
            }
            let position: Position =
                round % 40 == 0 ? .max : Position(.random(in: 0...head.rawValue + 3, using: &random))
            try same(round, "the version of \(name) as of \(position)") { reader throws(StorageError) in
                try reader.version(of: name, in: tenant, asOf: position)
            }
            let version: Version = round % 40 == 1 ? .max : Version(.random(in: 0...head.rawValue / 3, using: &random))
            try same(round, "the position of version \(version) of \(name)") { reader throws(StorageError) in
                try reader.position(of: version, of: name, in: tenant)
            }
        }
        let all = tenants + [TenantID(UUID())] + tenants.reversed()
        try same(rounds, "the heads") { reader throws(StorageError) in try reader.heads(of: all) }
    }

    /// Pages of random ranges, filters and bounds, read to the end of the range.
    ///
    /// - Parameter areExact: a page also says that it is the last one where its bounds are reached with the last event.
    /// - Throws: ``ConformanceFailure`` naming the seed and the first page that is wrong.
    public mutating func pages(rounds: Int = 120, areExact: Bool) throws {
        for round in 0..<rounds {
            let tenant = tenants[Int.random(in: 0..<2, using: &random)]
            let head = try oracle.head(of: tenant).position.rawValue
            var bounds = PageBounds(
                direction: Bool.random(using: &random) ? .forward : .backward, bytesMax: 256 << 10)
            if Bool.random(using: &random) { bounds.eventsMax = Int.random(in: 1...9, using: &random) }
            if Bool.random(using: &random) { bounds.bytesMax = Int.random(in: 0...3_000, using: &random) }
            if Bool.random(using: &random) { bounds.scanMax = Int.random(in: 1...60, using: &random) }
            let after = UInt64.random(in: 0...head, using: &random)
            let to = UInt64.random(in: after...head, using: &random)
            if round % 3 == 0 {
                try ofAggregate(round, tenant, PageRange(after: Version(after / 3), to: Version(to)), bounds, areExact)
            } else {
                try ofTenant(
                    round, tenant, PageRange(after: Position(after), to: Position(to)), filter(), bounds, areExact)
            }
        }
    }

    private mutating func filter() -> EventFilter {
        var filter = EventFilter.all
        if Bool.random(using: &random) {
            filter.eventTypes = Set(Self.kinds.shuffled(using: &random).prefix(2).compactMap(EventType.init))
        }
        if Int.random(in: 0..<3, using: &random) == 0 {
            filter.aggregateTypes = Set(names.shuffled(using: &random).prefix(2).map(\.type))
        }
        if Int.random(in: 0..<3, using: &random) == 0 {
            filter.aggregateIDs = Set(names.shuffled(using: &random).prefix(2).map(\.id) + [UUID()])
        }
        return filter
    }

    private mutating func ofAggregate(
        _ round: Int, _ tenant: TenantID, _ range: PageRange<Version>, _ bounds: PageBounds, _ areExact: Bool
    ) throws {
        let name = names[Int.random(in: 0..<names.count, using: &random)]
        let all = try oracle.page(
            of: name, in: tenant, versions: range,
            bounds: PageBounds(direction: bounds.direction, bytesMax: .max))
        var range = range
        var read = ByteBuffer()
        for _ in 0...all.count {
            let page = try reader.page(of: name, in: tenant, versions: range, bounds: bounds)
            let expected = try oracle.page(of: name, in: tenant, versions: range, bounds: bounds)
            try check(round, page, expected, bounds, areExact)
            read.writeImmutableBuffer(page.entries)
            guard !page.isLast, let last = page.lastVersion else { break }
            if bounds.direction == .forward { range.after = last } else { range.to = Version(last.rawValue - 1) }
        }
        try require(read == all.entries, "seed \(seed), round \(round): \(bounds) lose or repeat events of \(name)")
    }

    private func ofTenant(
        _ round: Int, _ tenant: TenantID, _ range: PageRange<Position>, _ filter: EventFilter, _ bounds: PageBounds,
        _ areExact: Bool
    ) throws {
        let all = try oracle.page(
            of: tenant, positions: range, filter: filter,
            bounds: PageBounds(direction: bounds.direction, bytesMax: .max))
        var range = range
        var read = ByteBuffer()
        for _ in 0...range.to.rawValue {
            let page = try reader.page(of: tenant, positions: range, filter: filter, bounds: bounds)
            let expected = try oracle.page(of: tenant, positions: range, filter: filter, bounds: bounds)
            try check(round, page, expected, bounds, areExact)
            read.writeImmutableBuffer(page.entries)
            guard !page.isLast else { break }
            let isFurther = bounds.direction == .forward ? page.scannedTo > range.after : page.scannedTo <= range.to
            try require(isFurther, "seed \(seed), round \(round): a page that gets nowhere, at \(page.scannedTo)")
            if bounds.direction == .forward {
                range.after = page.scannedTo
            } else {
                range.to = Position(page.scannedTo.rawValue - 1)
            }
        }
        try require(read == all.entries, "seed \(seed), round \(round): \(bounds) lose or repeat events of \(filter)")
    }

    private func check(
        _ round: Int, _ page: EventPage, _ expected: EventPage, _ bounds: PageBounds, _ areExact: Bool
    ) throws {
        try require(
            page.endEventID == nil || page.scannedTo != expected.scannedTo || page.endEventID == expected.endEventID,
            "seed \(seed), round \(round): the page of \(bounds) names another event as its end")
        if areExact { return try requireEqual(page, expected, "seed \(seed), round \(round): the page of \(bounds)") }
        try requireEqual(page.entries, expected.entries, "seed \(seed), round \(round): the page of \(bounds)")
        try require(
            page.count == expected.count && (expected.isLast || !page.isLast),
            "seed \(seed), round \(round): a page of \(page.count) events where there are \(expected.count)")
    }

    private func same<Value: Equatable>(
        _ round: Int, _ what: String, _ read: (any StorageReader) throws(StorageError) -> Value
    ) throws {
        try requireEqual(try read(reader), try read(oracle), "seed \(seed), round \(round): \(what)")
    }
}
