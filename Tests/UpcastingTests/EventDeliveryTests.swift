import MartletRecordCodec
import MartletModel
import MartletTesting
import FoundationEssentials
import NIOCore
import Testing

@testable import MartletUpcasting
@testable import MartletDelivery

/// Pages of encoded events on their way out, against a plain reading of the contract on decoded ones.
@Suite struct EventDeliveryTests {
    private static let set = try? UpcasterSet(
        definition: ByteBuffer(
            string: #"""
                {"upcasters":[
                    {"event":"A","from":1,"operations":[{"rename":{"path":"/n","to":"m"}}]},
                    {"event":"A","from":2,"operations":[{"type":"B"},{"set":{"path":"/long","value":"xxxxxxxxxxxxxxxxxxxx"}}]},
                    {"event":"C","from":1,"operations":[{"rename":{"path":"/n","to":"m","required":true}}]}]}
                """#))
    private static let order = AggregateName(type: "order", id: UUID())

    private struct Log {
        var events: [RecordedEvent]

        /// The events of a range that match a filter, as an engine answers them.
        func page(after: UInt64, to: UInt64, filter: EventFilter, bytesMax: Int, direction: Direction) -> EventPage {
            var page = EventPage()
            let inRange = events.filter { $0.position.rawValue > after && $0.position.rawValue <= to }
            for event in direction == .forward ? inRange : inRange.reversed() {
                guard filter.matches(event.aggregate, event.event.type) else { continue }
                guard let body = try? EncodedEvent(event.event).body else { continue }
                var entry = ByteBuffer()
                RecordedEntries.write(
                    position: event.position, version: event.version, recordedAt: event.recordedAt,
                    aggregate: event.aggregate, body: body, to: &entry)
                guard page.count == 0 || page.entries.readableBytes + entry.readableBytes <= bytesMax else {
                    page.isLast = false
                    page.scannedTo = page.lastPosition ?? .start
                    return page
                }
                page.entries.writeImmutableBuffer(entry)
                page.count += 1
                page.lastPosition = event.position
                page.lastVersion = event.version
            }
            page.scannedTo = Position(direction == .forward ? to : after + 1)
            return page
        }
    }

    private static func log(_ random: inout some RandomNumberGenerator) throws -> Log {
        let kinds: [(String, UInt32, [String])] = [
            ("A", 1, [#"{"n":1}"#, "{}"]), ("A", 2, [#"{"m":2}"#]), ("B", 3, ["[]"]), ("C", 1, [#"{"n":1}"#, "{}"]),
            ("C", 2, ["7"]), ("D", 1, ["true"]),
        ]
        return Log(
            events: try (1...UInt64.random(in: 1...30, using: &random)).map { number in
                let (type, version, payloads) = kinds[Int.random(in: 0..<kinds.count, using: &random)]
                let payload = payloads[Int.random(in: 0..<payloads.count, using: &random)]
                return RecordedEvent(
                    position: Position(number), version: Version(number), recordedAt: Timestamp(microseconds: 5),
                    aggregate: order,
                    event: NewEvent(
                        type: try #require(EventType(type)), schemaVersion: version,
                        payload: ByteBuffer(string: payload)))
            })
    }

    /// What the contract says of one event: nil where the filter leaves it out, no event where it fails.
    private static func expected(
        _ event: RecordedEvent, _ filter: EventFilter, _ options: UpcastingOptions
    ) throws -> (event: RecordedEvent, hasFailed: Bool)? {
        let set = try #require(set)
        var delivered = event
        var hasFailed = false
        if !options.isRaw {
            let type = set.deliveredType(of: event.event.type, schemaVersion: event.event.schemaVersion)
            guard filter.matches(event.aggregate, type) else { return nil }
            var payload = ByteBuffer()
            switch set.upcast(
                event: event.event.type, schemaVersion: event.event.schemaVersion, contentType: event.event.contentType,
                payload: event.event.payload, outputBytesMax: 1 << 20, to: &payload)
            {
            case .unchanged: break
            case .upcast(let upcast):
                delivered.event.type = try #require(upcast.eventType)
                delivered.event.schemaVersion = upcast.schemaVersion
                delivered.event.payload = payload
            case .failed(let failure):
                delivered.upcastFailure = failure.description
                hasFailed = true
            }
        }
        return filter.matches(event.aggregate, delivered.event.type) || hasFailed ? (delivered, hasFailed) : nil
    }

    @Test(arguments: UInt64(1)...400)
    func deliversWhatTheContractSays(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let log = try Self.log(&random)
        let set = try #require(Self.set)
        let names = ["A", "B", "C", "D"].filter { _ in Bool.random(using: &random) }
        let filter = EventFilter(eventTypes: Bool.random(using: &random) ? [] : Set(names.compactMap { EventType($0) }))
        let options = UpcastingOptions(
            isRaw: Int.random(in: 0..<5, using: &random) == 0, onFailure: Bool.random(using: &random) ? .raw : .fail)
        let direction: Direction = Bool.random(using: &random) ? .forward : .backward
        let delivery = EventDelivery(set: set, options: options, filter: filter, payloadBytesMax: 1 << 20)

        var expected: [RecordedEvent] = []
        var failing: Position?
        for event in direction == .forward ? log.events : log.events.reversed() {
            guard let outcome = try Self.expected(event, filter, options) else { continue }
            if outcome.hasFailed, options.onFailure == .fail {
                failing = event.position
                break
            }
            expected.append(outcome.event)
        }

        var (after, to) = (UInt64(0), UInt64(log.events.count))
        var delivered: [RecordedEvent] = []
        var failed: Position?
        while after < to {
            let bytesMax = Int.random(in: 1...600, using: &random)
            let stored = log.page(
                after: after, to: to, filter: delivery.storedFilter, bytesMax: bytesMax, direction: direction)
            do throws(MartletError) {
                let page = try delivery.deliver(stored, bytesMax: bytesMax).page
                let events = (try? RecordedEntries.decode(page.entries)) ?? []
                #expect(events.count == page.count && page.lastPosition == events.last?.position ?? page.lastPosition)
                #expect(page.count <= 1 || page.entries.readableBytes <= bytesMax, "seed \(seed)")
                delivered += events
                if direction == .forward {
                    #expect(page.scannedTo.rawValue > after, "it gets on")
                    after = page.scannedTo.rawValue
                } else {
                    #expect(page.scannedTo.rawValue <= to, "it gets on")
                    to = page.scannedTo.rawValue - 1
                }
            } catch {
                failed = error.failedUpcast?.position
                break
            }
        }
        #expect(failed == failing, "seed \(seed)")
        #expect(delivered.map(\.position) == expected.map(\.position), "seed \(seed)")
        for (found, wanted) in zip(delivered, expected) {
            #expect(found.event == wanted.event, "seed \(seed)")
            #expect((found.upcastFailure == nil) == (wanted.upcastFailure == nil), "seed \(seed)")
        }
    }

    @Test func aPageThatNothingConcernsIsTheSamePage() throws {
        let order = Self.order
        let event = NewEvent(type: EventType("D"), payload: ByteBuffer(string: "1"))
        let log = Log(
            events: (1...5).map {
                RecordedEvent(
                    position: Position($0), version: Version($0), recordedAt: Timestamp(microseconds: 5),
                    aggregate: order, event: event)
            })
        let page = log.page(after: 0, to: 5, filter: .all, bytesMax: 10_000, direction: .forward)
        let delivery = EventDelivery(set: try #require(Self.set), options: .latest, payloadBytesMax: 1_000)
        #expect(try delivery.deliver(page, bytesMax: 1).page == page, "untouched, whatever the bound")
    }

    /// Defect 2 of D1: a small definition makes much of two bytes, and a page of such events took seconds in one go.
    @Test func aPageEndsWhenItsWorkIsUsedUp() throws {
        let zeros = Array(repeating: "0", count: 500).joined(separator: ",")
        let conversions = (0..<5).map { _ in
            #"{"convert":{"path":"/a/*","to":"string"}},{"convert":{"path":"/a/*","to":"integer"}}"#
        }
        let heavy = #"{"set":{"path":"/a","value":[\#(zeros)]}},"# + conversions.joined(separator: ",")
        let set = try UpcasterSet(
            definition: ByteBuffer(
                string: #"{"upcasters":[{"event":"H","from":1,"operations":["# + heavy
                    + #",{"remove":{"path":"/a"}}]}]}"#))
        let order = Self.order
        let event = NewEvent(type: EventType("H"), payload: ByteBuffer(string: "{}"))
        let log = Log(
            events: (1...40).map {
                RecordedEvent(
                    position: Position($0), version: Version($0), recordedAt: Timestamp(microseconds: 5),
                    aggregate: order, event: event)
            })
        func page(after: UInt64) -> EventPage {
            log.page(after: after, to: 40, filter: .all, bytesMax: 1 << 20, direction: .forward)
        }
        let delivery = EventDelivery(set: set, options: .latest, payloadBytesMax: 1 << 20)
        let one = try delivery.deliver(page(after: 39), bytesMax: 1 << 20)
        #expect(one.page.count == 1 && one.work > 20_000 && !one.isCut, "\(one.work) for two bytes")
        #expect(try delivery.deliver(page(after: 0), bytesMax: 1 << 20, workMax: 0).page.count == 1, "one always comes")
        var after: UInt64 = 0
        var sizes: [Int] = []
        while after < 40 {
            let result = try delivery.deliver(page(after: after), bytesMax: 1 << 20, workMax: 3 * one.work)
            #expect(result.work <= 4 * one.work && result.isCut == (result.page.scannedTo < Position(40)))
            #expect(result.page.scannedTo == result.page.lastPosition && result.page.isLast == !result.isCut)
            sizes.append(result.page.count)
            after = result.page.scannedTo.rawValue
        }
        #expect(sizes == Array(repeating: 3, count: 13) + [1], "\(sizes)")
    }

    @Test func whatWouldBeChangedIsToldWithoutUpcasting() throws {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<300 {
            let log = try Self.log(&random)
            let names = ["A", "B", "C", "D"].filter { _ in Bool.random(using: &random) }
            let filter = EventFilter(
                eventTypes: Bool.random(using: &random) ? [] : Set(names.compactMap { EventType($0) }))
            let options = UpcastingOptions(isRaw: Int.random(in: 0..<5, using: &random) == 0, onFailure: .raw)
            let set = try #require(Self.set)
            let delivery = EventDelivery(set: set, options: options, filter: filter, payloadBytesMax: 1 << 20)
            let page = log.page(
                after: 0, to: UInt64(log.events.count), filter: delivery.storedFilter, bytesMax: 1 << 20,
                direction: .forward)
            let isChanged = try delivery.deliver(page, bytesMax: 1 << 20).page != page
            let isConcerned =
                !options.isRaw
                && log.events.contains { event in
                    delivery.storedFilter.matches(event.aggregate, event.event.type)
                        && (set.concerns(event: event.event.type, schemaVersion: event.event.schemaVersion)
                            || !filter.matches(event.aggregate, event.event.type))
                }
            #expect(delivery.changes(page) == isConcerned && (isConcerned || !isChanged), "seed \(random.seed)")
        }
    }
}
