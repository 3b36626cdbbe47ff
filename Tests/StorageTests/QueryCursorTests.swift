import MartletRecordCodec
import MartletModel
import MartletTesting
import MartletStorageMemory
import FoundationEssentials
import NIOCore
import Testing

@testable import MartletStorage
@testable import MartletQueries

@Suite struct QueryCursorTests {
    private static let tenant = Sample.tenant(1)

    /// An engine with 60 events of three aggregates and two types, a commit each, at the times 10, 20, 20, 40, 50 …
    private static func engine(using random: inout SeededGenerator) throws -> (MemoryEngine, [RecordedEvent]) {
        let engine = MemoryEngine()
        let writer = engine.makeWriter()
        for number in 1...60 as ClosedRange<UInt64> {
            let type = try #require(EventType(["Made", "Closed"].randomElement(using: &random) ?? "Made"))
            let payload = ByteBuffer(repeating: 0x2E, count: Int.random(in: 0...200, using: &random))
            let event = try EncodedEvent(NewEvent(type: type, contentType: "text/plain", payload: payload))
            let part = AggregateAppend(
                aggregate: Sample.aggregate(UInt64.random(in: 1...3, using: &random)), expected: .any, events: [event])
            let time = Timestamp(microseconds: Int64(number == 3 ? 2 : number) * 10)
            _ = try writer.commit([AppendRequest(tenant: tenant, aggregates: [part])], now: time)
        }
        let page = try engine.makeReader().page(
            of: tenant, positions: PageRange(after: .start, to: Position(60)), filter: .all,
            bounds: PageBounds(bytesMax: .max))
        return (engine, try RecordedEntries.decode(page.entries))
    }

    /// Reads all pages of a cursor.
    private static func drain(
        _ cursor: QueryCursor, _ reader: any StorageReader, bytesMax: Int, scanMax: Int
    ) throws -> [RecordedEvent] {
        var cursor = cursor
        var events: [RecordedEvent] = []
        var pages = 0
        while !cursor.isDone {
            let page = try cursor.read(reader, bytesMax: bytesMax, scanMax: scanMax)
            #expect(page.entries.readableBytes <= bytesMax || page.count == 1)
            events += try RecordedEntries.decode(page.entries)
            cursor.advance(past: page)
            pages += 1
            try #require(pages <= 200, "a cursor that does not move")
        }
        return events
    }

    @Test func pagesTogetherAreTheAnswer() throws {
        var random = SeededGenerator.fromEnvironment()
        let seed = random.seed
        let (engine, all) = try Self.engine(using: &random)
        let reader = engine.makeReader()
        let made = EventType("Made")
        let filters = [
            EventFilter.all, EventFilter(aggregateIDs: [Sample.aggregate(2).id]), EventFilter(eventTypes: [made]),
            EventFilter(eventTypes: Set(["Never"].compactMap { EventType($0) })),
        ]
        for _ in 0..<600 {
            let direction: Direction = Bool.random(using: &random) ? .forward : .backward
            let eventsMax = Bool.random(using: &random) ? nil : UInt64.random(in: 1...20, using: &random)
            let bytesMax = Int.random(in: 1...2_000, using: &random)
            let scanMax = Int.random(in: 1...70, using: &random)
            let filter = filters.randomElement(using: &random) ?? .all
            let after = Position(UInt64.random(in: 0...65, using: &random))
            let to = Position(UInt64.random(in: 0...65, using: &random))
            let read = ReadRequest(
                tenant: Self.tenant, after: after, target: .position(to), direction: direction, filter: filter,
                eventsMax: eventsMax)
            let view = try QueryResolution.view(
                of: read, head: try reader.head(of: Self.tenant), now: Timestamp(microseconds: 600), reader: reader
            ).get()
            #expect(view.to == min(to, Position(60)) && view.head.position == Position(60))
            var expected = all.filter {
                $0.position > after && $0.position <= to && filter.matches($0.aggregate, $0.event.type)
            }
            if direction == .backward { expected.reverse() }
            let actual = try Self.drain(
                QueryCursor(read, view: view), reader, bytesMax: bytesMax, scanMax: scanMax)
            #expect(actual == Array(expected.prefix(Int(clamping: eventsMax ?? .max))), "seed \(seed): \(read)")

            let aggregate = Sample.aggregate(UInt64.random(in: 1...4, using: &random))
            let version = Version(UInt64.random(in: 0...25, using: &random))
            let load = LoadRequest(
                tenant: Self.tenant, aggregate: aggregate, after: version, target: .position(view.to),
                direction: direction, eventsMax: eventsMax)
            let loadView = try QueryResolution.view(
                of: load, head: try reader.head(of: Self.tenant), now: Timestamp(microseconds: 600), reader: reader
            ).get()
            #expect(loadView.position == view.to)
            var ofAggregate = all.filter {
                $0.aggregate == aggregate && $0.version > version && $0.position <= view.to
            }
            if direction == .backward { ofAggregate.reverse() }
            let loaded = try Self.drain(
                QueryCursor(load, view: loadView), reader, bytesMax: bytesMax, scanMax: scanMax)
            #expect(loaded == Array(ofAggregate.prefix(Int(clamping: eventsMax ?? .max))), "seed \(seed): \(load)")
        }
    }

    /// The storage has come back with fewer events than the view was told to have: no answer ends as if it were whole.
    @Test(arguments: [Direction.forward, .backward], [false, true])
    func aViewThatIsNoLongerThereIsNotCutShort(_ direction: Direction, isLoad: Bool) throws {
        var random = SeededGenerator(seed: 8)
        for kept in [0, 20, 40, 59] {
            let (engine, all) = try Self.engine(using: &random)
            let reader = engine.makeReader()
            let head = try reader.head(of: Self.tenant)
            let last = try #require(all.last)
            var cursor: QueryCursor
            if isLoad {
                let load = LoadRequest(tenant: Self.tenant, aggregate: last.aggregate, direction: direction)
                cursor = QueryCursor(load, view: LoadView(version: last.version, position: head.position), head: head)
            } else {
                let read = ReadRequest(tenant: Self.tenant, direction: direction)
                cursor = QueryCursor(read, view: ReadView(to: head.position, head: head))
            }
            engine.restore([Self.tenant: kept])
            let error = #expect(throws: StorageError.self) {
                while !cursor.isDone { cursor.advance(past: try cursor.read(reader, bytesMax: 500, scanMax: 100)) }
            }
            #expect(error?.kind == .historyChanged, "\(kept) are left")
        }
    }

    /// A view that was told before anything was read in it, as with a snapshot, is proved by the head that it was fixed at.
    @Test func whatFollowsAToldViewIsOfTheSamePast() throws {
        var random = SeededGenerator(seed: 9)
        let (engine, all) = try Self.engine(using: &random)
        let reader = engine.makeReader()
        let head = try reader.head(of: Self.tenant)
        let aggregate = try #require(all.first).aggregate
        let load = LoadRequest(tenant: Self.tenant, aggregate: aggregate)
        var cursor = QueryCursor(load, view: LoadView(version: Version(1), position: head.position), head: head)
        cursor.viewTold()
        #expect(try cursor.read(reader, bytesMax: 500, scanMax: 100).count == 1)
        // As many events as before, and the same first one of the aggregate.
        engine.restore([Self.tenant: 30])
        for _ in 0..<30 { _ = try engine.makeWriter().commit([.sample(tenant: Self.tenant)], now: .now()) }
        let error = #expect(throws: StorageError.self) { try cursor.read(reader, bytesMax: 500, scanMax: 100) }
        #expect(error?.kind == .historyChanged)
    }

    /// Of a range beyond what is there, a page says how far it is.
    @Test func aPageOfAShorterStorageSaysSo() throws {
        var random = SeededGenerator(seed: 10)
        let reader = try Self.engine(using: &random).0.makeReader()
        for after in [UInt64(40), 59, 60, 70] {
            let page = try reader.page(
                of: Self.tenant, positions: PageRange(after: Position(after), to: Position(100)), filter: .all,
                bounds: PageBounds(bytesMax: 1 << 20))
            #expect(page.scannedTo == Position(max(after, 60)) && page.count == Int(max(after, 60) - after))
        }
    }

    @Test func aLoadResolvesEachTarget() throws {
        var random = SeededGenerator(seed: 5)
        let (engine, all) = try Self.engine(using: &random)
        let reader = engine.makeReader()
        let aggregate = Sample.aggregate(2)
        let own = all.filter { $0.aggregate == aggregate }
        let now = Timestamp(microseconds: 1_000)
        func view(_ target: LoadTarget, of aggregate: AggregateName = aggregate) throws -> Result<
            LoadView, MartletError
        > {
            try QueryResolution.view(
                of: LoadRequest(tenant: Self.tenant, aggregate: aggregate, target: target),
                head: try reader.head(of: Self.tenant), now: now, reader: reader)
        }
        let last = Version(UInt64(own.count))
        let head = Position(60)
        #expect(try view(.now) == .success(LoadView(version: last, position: head)))
        #expect(try view(.version(Version(2))) == .success(LoadView(version: Version(2), position: own[1].position)))
        #expect(try view(.version(.none)) == .success(LoadView(version: .none, position: .start)))
        #expect(try view(.version(last.next)) == .success(LoadView(version: last, position: head)), "all there is")
        for position in [0, 1, 7, 30, 60].map({ Position($0) }) {
            let count = own.count { $0.position <= position }
            let expected = LoadView(version: Version(UInt64(count)), position: position)
            #expect(try view(.position(position)) == .success(expected))
        }
        for time in [-1, 0, 9, 10, 19, 20, 25, 600, 601, 1_000].map({ Timestamp(microseconds: $0) }) {
            let before = all.filter { $0.recordedAt <= time }
            let expected = LoadView(
                version: Version(UInt64(before.count { $0.aggregate == aggregate })),
                position: Position(UInt64(before.count)))
            #expect(try view(.time(time)) == .success(expected), "\(time)")
            #expect(try view(.position(expected.position)) == .success(expected), "asking again answers the same")
        }
        #expect(try view(.now, of: Sample.aggregate(9)) == .success(LoadView(version: .none, position: head)))
        #expect(throws: MartletError.self) { try view(.position(Position(61))).get() }
        #expect(throws: MartletError.self) { try view(.time(Timestamp(microseconds: 1_001))).get() }
    }

    @Test func aReadResolvesEachTarget() throws {
        var random = SeededGenerator(seed: 6)
        let (engine, _) = try Self.engine(using: &random)
        let reader = engine.makeReader()
        func to(_ target: ReadTarget) throws -> Position {
            try QueryResolution.view(
                of: ReadRequest(tenant: Self.tenant, target: target), head: try reader.head(of: Self.tenant),
                now: Timestamp(microseconds: 1_000),
                reader: reader
            ).get().to
        }
        #expect(try to(.head) == Position(60))
        #expect(try to(.position(Position(5))) == Position(5))
        #expect(try to(.position(.max)) == Position(60), "beyond the head is the head")
        let table: [(Int64, UInt64)] = [(0, 0), (9, 0), (10, 1), (20, 3), (39, 3), (40, 4), (600, 60), (1_000, 60)]
        for (time, position) in table { #expect(try to(.time(Timestamp(microseconds: time))) == Position(position)) }
        let error = #expect(throws: MartletError.self) { try to(.time(Timestamp(microseconds: .max))) }
        #expect(error?.reason == .timeInFuture && error?.code == .outOfRange)
    }

    @Test func aSubscriptionResolvesEachStart() throws {
        var random = SeededGenerator(seed: 7)
        let (engine, _) = try Self.engine(using: &random)
        let reader = engine.makeReader()
        func after(_ start: SubscriptionStart) throws -> Position {
            try QueryResolution.start(
                of: SubscribeRequest(tenant: Self.tenant, start: start), head: try reader.head(of: Self.tenant),
                now: Timestamp(microseconds: 1_000),
                reader: reader
            ).get()
        }
        #expect(try after(.head) == Position(60))
        for position in [0, 1, 60].map({ Position($0) }) { #expect(try after(.after(position)) == position) }
        let beyond = #expect(throws: MartletError.self) { try after(.after(Position(61))) }
        #expect(beyond?.reason == .positionBeyondHead)
        // From the first event recorded at or after the moment.
        let table: [(Int64, UInt64)] = [(.min, 0), (10, 0), (11, 1), (20, 1), (21, 3), (600, 59), (601, 60)]
        for (time, position) in table { #expect(try after(.time(Timestamp(microseconds: time))) == Position(position)) }
        let future = #expect(throws: MartletError.self) { try after(.time(Timestamp(microseconds: 1_001))) }
        #expect(future?.reason == .timeInFuture)
    }

    @Test func aCursorWithNothingToReadIsDoneAtOnce() {
        let load = LoadRequest(tenant: Self.tenant, aggregate: Sample.aggregate(), after: Version(3))
        #expect(QueryCursor(load, view: LoadView(version: Version(3), position: Position(9))).isDone)
        #expect(QueryCursor(load, view: LoadView(version: .none, position: Position(9))).isDone)
        let read = ReadRequest(tenant: Self.tenant, after: .max)
        #expect(QueryCursor(read, view: ReadView(to: Position(9), head: .empty)).isDone)
    }

    @Test func aPageLooksAtNoMoreThanItMay() {
        let filter = EventFilter(aggregateIDs: [Sample.aggregate().id])
        let range = PageRange(after: Position(10), to: Position(30))
        func scanned(_ scanMax: Int, _ direction: Direction, _ filter: EventFilter) -> PageRange<Position> {
            range.scanned(filter: filter, bounds: PageBounds(direction: direction, bytesMax: 1, scanMax: scanMax))
        }
        #expect(scanned(5, .forward, filter) == PageRange(after: Position(10), to: Position(15)))
        #expect(scanned(5, .backward, filter) == PageRange(after: Position(25), to: Position(30)))
        #expect(scanned(20, .forward, filter) == range && scanned(19, .forward, filter) != range)
        #expect(scanned(5, .forward, .all) == range && scanned(5, .backward, .all) == range)
        let empty = PageRange(after: Position(9), to: Position(3))
        #expect(empty.scanned(filter: filter, bounds: PageBounds(bytesMax: 1, scanMax: 1)) == empty)
    }
}
