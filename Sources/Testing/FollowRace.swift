import FoundationEssentials
public import MartletClient
public import MartletModel
import MartletRecordCodec
import NIOCore

/// Writers at full speed on many aggregates, while subscribers start at random moments from random positions, some
/// with a filter: each must receive exactly the matching positions after its start, once and in order.
public struct FollowRace: Sendable {
    /// Writers, each with one call at a time.
    public var writers = 16
    /// Subscribers.
    public var subscribers = 20
    /// Appends of each writer.
    public var appendsPerWriter = TestRounds.count(30, long: 200)

    private let tenant = TenantID(UUID())
    private let seed: UInt64

    /// A race of that seed.
    public init(seed: UInt64) { self.seed = seed }

    /// Runs it: calls go to the clients in turn, which may be those of several servers on one storage.
    /// - Throws: ``ConformanceFailure`` naming the seed, the subscriber and the first position that is wrong.
    public func run(_ clients: [MartletClient]) async throws {
        do {
            let total = try await withThrowingTaskGroup(of: Int.self) { group in
                for writer in 0..<writers {
                    group.addTask { try await write(writer, clients[writer % clients.count]) }
                }
                let finalHead = Box<Position?>(nil)
                try await withThrowingTaskGroup(of: Void.self) { followers in
                    for index in 0..<subscribers {
                        followers.addTask {
                            try await follow(index, clients[index % clients.count], all: clients[0], finalHead)
                        }
                    }
                    var total = 0
                    for try await count in group { total += count }
                    let head = Position(UInt64(total))
                    await finalHead.update { $0 = head }
                    // Subscribers whose filter no longer matches anything wait for one that does.
                    for type in Self.types {
                        for kind in Self.kinds { try await append(1, kind, type, clients[0]) }
                    }
                    try await followers.waitForAll()
                }
                return await Int(finalHead.value?.rawValue ?? 0)
            }
            try requireEqual(
                try await clients[0].head(of: tenant).position,
                Position(UInt64(total + Self.types.count * Self.kinds.count)),
                "the head")
        } catch {
            throw ConformanceFailure("follow race, seed \(seed): \(error)")
        }
    }

    private static let types = ["a", "b", "c"].compactMap { AggregateType($0) }
    private static let kinds = ["X", "Y"].compactMap { EventType($0) }

    private func generator(_ salt: Int) -> SeededGenerator { SeededGenerator(seed: seed &+ UInt64(salt) &* 7_919) }

    @discardableResult
    private func append(
        _ count: Int, _ kind: EventType, _ type: AggregateType, _ client: MartletClient
    ) async throws -> Int {
        let events = (0..<count).map { _ in NewEvent(type: kind, payload: ByteBuffer(string: #"{"n":1}"#)) }
        _ = try await client.append(
            events, to: AggregateName(type: type, id: UUID()), expecting: .none, tenant: tenant)
        return count
    }

    private func write(_ writer: Int, _ client: MartletClient) async throws -> Int {
        var random = generator(writer)
        var total = 0
        for _ in 0..<appendsPerWriter {
            total += try await append(
                Int.random(in: 1...5, using: &random), Self.kinds[Int.random(in: 0..<2, using: &random)],
                Self.types[Int.random(in: 0..<3, using: &random)], client)
        }
        return total
    }

    private func follow(
        _ index: Int, _ client: MartletClient, all: MartletClient, _ finalHead: Box<Position?>
    ) async throws {
        var random = generator(1_000 + index)
        try await Task.sleep(for: .milliseconds(Int.random(in: 0...300, using: &random)))
        let head = try await client.head(of: tenant).position
        let start = Position(UInt64.random(in: 0...head.rawValue, using: &random))
        var filter = EventFilter.all
        if index % 3 == 1 { filter.aggregateTypes = [Self.types[index % 3]] }
        if index % 3 == 2 { filter.eventTypes = [Self.kinds[index % 2]] }
        var received: [RecordedEvent] = []
        var reached = start
        for try await item in client.subscribe(SubscribeRequest(tenant: tenant, start: .after(start), filter: filter)) {
            switch item {
            case .events(let events, _):
                received += events
                reached = events.last?.position ?? reached
            case .caughtUp(let position, _), .checkpoint(let position, _): reached = position
            default: break
            }
            if let end = await finalHead.value, reached >= end { break }
        }
        let expected = try await all.events(
            of: ReadRequest(tenant: tenant, after: start, target: .position(reached), filter: filter))
        try requireEqual(
            received.map(\.position), expected.map(\.position),
            "what subscriber \(index) received after \(start) with \(filter)")
        try require(received == expected, "subscriber \(index) received other bytes")
    }
}

extension MartletClient {
    /// All events that a read gives.
    public func events(of request: ReadRequest) async throws(MartletError) -> [RecordedEvent] {
        var events: [RecordedEvent] = []
        for try await event in try await read(request) { events.append(event) }
        return events
    }
}
