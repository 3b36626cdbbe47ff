import MartletModel
import MartletSession
import NIOCore
import Testing

@testable import MartletClient

@Suite struct QueryProgressTests {
    private func load(
        after: UInt64 = 0, _ direction: Direction, eventsMax: UInt64? = nil, target: LoadTarget = .now
    ) throws -> LoadRequest {
        LoadRequest(
            tenant: Sample.tenant, aggregate: try Sample.aggregate(), after: Version(after), target: target,
            direction: direction, eventsMax: eventsMax)
    }

    private func read(
        after: UInt64 = 0, _ direction: Direction, eventsMax: UInt64? = nil, target: ReadTarget = .head
    ) -> ReadRequest {
        ReadRequest(
            tenant: Sample.tenant, after: Position(after), target: target, direction: direction,
            eventsMax: eventsMax)
    }

    @Test func loads() throws {
        // Original, version of the view, events delivered and the last of them, what is left to ask for.
        let rows: [(LoadRequest, UInt64, (Int, UInt64)?, LoadRequest?)] = [
            (try load(.forward), 9, nil, try load(.forward, target: .position(Position(50)))),
            (try load(.forward), 9, (4, 4), try load(after: 4, .forward, target: .position(Position(50)))),
            (
                try load(after: 2, .forward, eventsMax: 5, target: .time(Timestamp(microseconds: 1))), 9, (3, 5),
                try load(after: 5, .forward, eventsMax: 2, target: .position(Position(50)))
            ),
            (try load(.forward), 9, (9, 9), nil),
            (try load(.forward, eventsMax: 3), 9, (3, 3), nil),
            (try load(.forward), 0, nil, nil),
            (try load(after: 9, .forward), 9, nil, nil),
            (try load(.backward), 9, nil, try load(.backward, target: .position(Position(50)))),
            (try load(.backward), 9, (3, 7), try load(.backward, target: .version(Version(6)))),
            (
                try load(after: 2, .backward, eventsMax: 6), 9, (4, 6),
                try load(after: 2, .backward, eventsMax: 2, target: .version(Version(5)))
            ),
            (try load(.backward), 9, (9, 1), nil),
            (try load(after: 2, .backward), 9, (7, 3), nil),
        ]
        for (original, version, delivered, expected) in rows {
            var progress = LoadProgress(original)
            #expect(progress.request == .load(original))
            progress.began(LoadView(version: Version(version), position: Position(50)))
            if let (count, last) = delivered {
                progress.delivered(count, position: Position(last), version: Version(last))
            }
            #expect(progress.request == expected.map { .load($0) }, "\(original)")
        }
    }

    @Test func reads() throws {
        let rows: [(ReadRequest, UInt64, (Int, UInt64)?, ReadRequest?)] = [
            (read(.forward), 90, nil, read(.forward, target: .position(Position(90)))),
            (read(.forward), 90, (4, 40), read(after: 40, .forward, target: .position(Position(90)))),
            (
                read(after: 2, .forward, eventsMax: 5), 90, (3, 50),
                read(after: 50, .forward, eventsMax: 2, target: .position(Position(90)))
            ),
            (read(.forward), 90, (9, 90), nil),
            (read(.forward, eventsMax: 3), 90, (3, 3), nil),
            (read(.forward), 0, nil, nil),
            (read(after: 90, .forward), 90, nil, nil),
            (read(.backward), 90, nil, read(.backward, target: .position(Position(90)))),
            (read(.backward), 90, (3, 70), read(.backward, target: .position(Position(69)))),
            (
                read(after: 2, .backward, eventsMax: 6), 90, (4, 60),
                read(after: 2, .backward, eventsMax: 2, target: .position(Position(59)))
            ),
            (read(.backward), 90, (9, 1), nil),
            (read(after: 2, .backward), 90, (7, 3), nil),
        ]
        for (original, to, delivered, expected) in rows {
            var progress = ReadProgress(original)
            #expect(progress.request == .read(original))
            progress.began(ReadView(to: Position(to), head: Sample.head(100)))
            if let (count, last) = delivered {
                progress.delivered(count, position: Position(last), version: Version(last))
            }
            #expect(progress.request == expected.map { .read($0) }, "\(original)")
        }
    }

    @Test func theFirstViewStays() throws {
        var progress = ReadProgress(read(.forward))
        progress.began(ReadView(to: Position(90), head: Sample.head(100)))
        progress.delivered(1, position: Position(3), version: Version(3))
        progress.began(ReadView(to: Position(95), head: Sample.head(100)))
        #expect(progress.request == .read(read(after: 3, .forward, target: .position(Position(90)))))
    }
}

@Suite struct SubscriptionProgressTests {
    private func message(_ positions: [UInt64], _ signal: SubscriptionMessage.Signal? = nil) throws
        -> SubscriptionMessage
    {
        SubscriptionMessage(entries: try Sample.entries(positions), head: Sample.head(100), signal: signal)
    }

    @Test func followsEventsAndSignals() throws {
        let request = SubscribeRequest(tenant: Sample.tenant, start: .head)
        var progress = SubscriptionProgress(request)
        #expect(progress.request == request)
        let head = Sample.head(100)
        let rows: [([UInt64], SubscriptionMessage.Signal?, [SubscriptionItem]?, UInt64)] = [
            ([], .started(after: Position(5)), [.started(after: Position(5), head: head)], 5),
            ([6, 8], nil, nil, 8),
            ([], .checkpoint(Position(20)), [.checkpoint(Position(20), head: head)], 20),
            ([21], .caughtUp(Position(30)), nil, 30),
            ([], .fellBehind(Position(30)), [.fellBehind(Position(30), head: head)], 30),
            (
                [], .heartbeat(Position(31), waitingForCreditBytes: 4),
                [.heartbeat(Position(31), head: head, waitingForCreditBytes: 4)], 31
            ),
            ([], .started(after: Position(31)), [.reconnected], 31),
        ]
        for (positions, signal, expected, position) in rows {
            let items = try progress.receive(try message(positions, signal))
            if let expected { #expect(items.compactMap(\.signal) == expected) }
            if case .events(let events, _)? = items.first { #expect(try events.decoded().positions == positions) }
            #expect(progress.request.start == .after(Position(position)))
        }
    }

    @Test func eventsComeBeforeTheSignal() throws {
        var progress = SubscriptionProgress(SubscribeRequest(tenant: Sample.tenant))
        let items = try progress.receive(try message([1, 2], .caughtUp(Position(2))))
        #expect(items.count == 2)
        guard case .events? = items.first else {
            Issue.record("\(items)")
            return
        }
        #expect(items.last?.signal == .caughtUp(Position(2), head: Sample.head(100)))
    }

    @Test(arguments: [[3, 3], [4, 2], [2]]) func repetitionIsRefused(_ positions: [UInt64]) throws {
        var progress = SubscriptionProgress(SubscribeRequest(tenant: Sample.tenant))
        _ = try progress.receive(try message([1, 2]))
        let error = #expect(throws: MartletError.self) { try progress.receive(message(positions)) }
        #expect(error?.reason == .badFrame)
    }

    @Test func bytesThatAreNoEventsAreRefused() throws {
        var progress = SubscriptionProgress(SubscribeRequest(tenant: Sample.tenant))
        var message = try message([])
        message.entries.writeString("nonsense")
        let broken = message
        #expect(throws: MartletError.self) { try progress.receive(broken) }
    }
}

extension SubscriptionBatch {
    fileprivate var signal: SubscriptionItem? {
        if case .signal(let item) = self { item } else { nil }
    }
}

@Suite struct EventBatchTests {
    @Test func tellsWhatIsInItWithoutDecodingIt() throws {
        let entries = try Sample.entries([4, 5, 9])
        let batch = try EventBatch(entries)
        #expect(batch.count == 3 && !batch.isEmpty && batch.entries == entries)
        #expect(batch.firstPosition == Position(4) && batch.lastPosition == Position(9))
        let decoded = try batch.decoded()
        #expect(batch.map(\.position) == decoded.map(\.position) && batch.map(\.version) == decoded.map(\.version))
        #expect(batch.firstVersion == decoded.first?.version && batch.lastVersion == decoded.last?.version)
        #expect(try batch.map { try $0.decoded() } == decoded)
        let none = try EventBatch(ByteBuffer())
        #expect(none.isEmpty && none.firstPosition == .start && Array(none).isEmpty)
    }

    @Test func aRecordInAnotherFormIsToldAlike() throws {
        // The position after the version, and longer than it need be; the length of the record likewise.
        var entries = ByteBuffer(bytes: [0x0A, 0x86, 0x00, 0x10, 7, 0x08, 0x85, 0x00, 0x32, 0x00])
        entries.setInteger(UInt8(0x87), at: 1)
        let batch = try EventBatch(entries)
        #expect(batch.count == 1 && batch.lastPosition == Position(5) && batch.lastVersion == Version(7))
        #expect(batch.map(\.bytes.readableBytes) == [7])
        #expect(throws: MartletError.self) { try batch.decoded() }
    }

    @Test func bytesThatAreNoEntriesAreRefused() {
        for bytes in [[0x0A], [0x0A, 2, 8], [0x12, 0], [0x0A, 1, 0x08], [0x0A, 2, 0x08, 0x80]] as [[UInt8]] {
            let error = #expect(throws: MartletError.self) { try EventBatch(ByteBuffer(bytes: bytes)) }
            #expect(error?.reason == .badFrame)
        }
    }
}
