import CMartletProtos
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletSession
import MartletTesting
import NIOCore
import Testing

@testable import MartletFrameCodec

/// Requests and answers about schedules, and the schedules of appends.
@Suite struct ScheduleFrameTests {
    private func decode(_ frame: ClientFrame, limits: Limits = Limits()) throws -> ClientFrame {
        try ClientFrameCodec.decode(
            RandomFrames.message { ClientFrameCodec.encode(frame, to: &$0) }, limits: limits)
    }

    @Test func framesComeBackAsTheyWere() throws {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<1_000 {
            let request = try RandomFrames.scheduleRequest(using: &random)
            #expect(try decode(request) == request, "seed \(random.seed)")
            let answer = try RandomFrames.scheduleAnswer(using: &random)
            let message = RandomFrames.message { ServerFrameCodec.encode(answer, to: &$0) }
            #expect(try ServerFrameCodec.decode(message, limits: Limits()) == answer, "seed \(random.seed)")
        }
    }

    /// Whatever is read of a damaged frame is written and read again unchanged.
    @Test func damagedFramesNeverTrap() throws {
        var random = SeededGenerator.fromEnvironment()
        var read = 0
        for _ in 0..<3_000 {
            let request = try RandomFrames.scheduleRequest(using: &random)
            let answer = try RandomFrames.scheduleAnswer(using: &random)
            let bytes = RandomFrames.damage(
                Array(RandomFrames.message { ClientFrameCodec.encode(request, to: &$0) }.readableBytesView),
                using: &random)
            if let frame = try? ClientFrameCodec.decode(ByteBuffer(bytes: bytes), limits: Limits()) {
                switch frame.body {
                case .malformed, .malformedReplies, .malformedHello, .request(.append): break
                default: #expect(try decode(frame) == frame, "seed \(random.seed)")
                }
                read += 1
            }
            let damaged = RandomFrames.damage(
                Array(RandomFrames.message { ServerFrameCodec.encode(answer, to: &$0) }.readableBytesView),
                using: &random)
            if let frame = try? ServerFrameCodec.decode(ByteBuffer(bytes: damaged), limits: Limits()) {
                let again = RandomFrames.message { ServerFrameCodec.encode(frame, to: &$0) }
                #expect(try ServerFrameCodec.decode(again, limits: Limits()) == frame, "seed \(random.seed)")
                read += 1
            }
        }
        #expect(read > 500, "seed \(random.seed): \(read) frames say little")
    }

    /// A schedule is written by hand: protobuf-c writes the same bytes.
    @Test func schedulesAreWrittenAsProtobufWritesThem() throws {
        var random = SeededGenerator.fromEnvironment()
        for _ in 0..<300 {
            let message = RandomFrames.message { buffer in
                guard let frame = try? RandomFrames.scheduleRequest(using: &random) else { return }
                ClientFrameCodec.encode(frame, to: &buffer)
            }
            let again = unsafe message.withUnsafeReadableBytes { bytes -> [UInt8]? in
                guard
                    let frame = unsafe martlet__v1__client_frame__unpack(
                        nil, bytes.count, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
                else { return nil }
                defer { unsafe martlet__v1__client_frame__free_unpacked(frame, nil) }
                var packed = ByteBuffer()
                unsafe packed.writeMessage(&frame.pointee.base)
                return Array(packed.readableBytesView)
            }
            #expect(again == Array(message.readableBytesView), "seed \(random.seed)")
        }
    }

    /// The checksum of an event's bytes is a server's to compute, and all bodies are slices of one buffer.
    @Test func eventsAreSummedWhereTheyAreAdmitted() throws {
        let schedule = try GoldenFrames.schedule()
        let other = try EncodedEvent.sample("{}", contentType: "text/plain")
        var second = schedule
        second.key = GoldenFrames.reminder
        second.event = other
        let request = ChangeSchedulesRequest(tenant: GoldenFrames.tenant, [.set(schedule), .set(second)])
        let frame = try decode(ClientFrame(CallID(1), .request(.changeSchedules(request))))
        guard case .request(.changeSchedules(let read)) = frame.body else {
            Issue.record("\(frame)")
            return
        }
        for case .set(let schedule) in read.changes {
            #expect(schedule.event.bodyChecksum == CRC32C.checksum(of: schedule.event.body))
        }
    }

    // MARK: What is refused

    /// What the server says of a request with that body under that number.
    private func refusal(
        _ number: UInt32, _ body: [UInt8], limits: Limits = Limits()
    ) throws -> MartletError? {
        var message = ByteBuffer(bytes: [0x08, 0x05])
        message.writeField(number, length: body.count)
        message.writeBytes(body)
        guard case .malformed(let error) = try ClientFrameCodec.decode(message, limits: limits).body else {
            return nil
        }
        return error
    }

    private func field(_ number: UInt32, _ content: [UInt8]) -> [UInt8] {
        var field = ByteBuffer()
        field.writeField(number, length: content.count)
        field.writeBytes(content)
        return Array(field.readableBytesView)
    }

    private func number(_ number: UInt8, _ value: UInt64) -> [UInt8] {
        var field = ByteBuffer(bytes: [number << 3])
        field.writeVarint(value)
        return Array(field.readableBytesView)
    }

    private var tenant: [UInt8] { field(1, GoldenFrames.tenant.uuid.bytes) }
    private var aggregate: [UInt8] {
        field(3, field(1, Array("order".utf8)) + field(2, GoldenFrames.order.id.bytes))
    }
    private func event(_ id: UUID, payload: String = "{}") -> [UInt8] {
        field(4, field(1, id.bytes) + field(2, Array("Overdue".utf8)) + field(15, Array(payload.utf8)))
    }
    private func key(_ text: String) -> [UInt8] { field(1, Array(text.utf8)) }

    private func set(_ parts: [UInt8]...) -> [UInt8] { field(2, field(1, parts.flatMap(\.self))) }
    private func cancel(_ key: String) -> [UInt8] { field(2, field(2, Array(key.utf8))) }

    @Test func whatIsWrongWithAChangeIsNamed() throws {
        let id = UUID(high: 7, low: 7)
        let latest = Timestamp.latest.microseconds
        let good = set(key("a"), aggregate, event(id))
        #expect(try refusal(37, tenant + good) == nil)
        #expect(try refusal(37, tenant + set(key("a"), number(2, UInt64(latest)), aggregate, event(id))) == nil)
        for (body, message) in [
            ([], "changes is empty"), (field(2, []), "changes[0] is empty: set set or cancel"),
            (set(aggregate, event(id)), "changes[0].set.key has 0 bytes"),
            (set(key("a b"), aggregate, event(id)), "changes[0].set.key has 3 bytes or a character"),
            (set(key(String(repeating: "k", count: 129)), aggregate, event(id)), "changes[0].set.key has 129 bytes"),
            (good + cancel(""), "changes[1].cancel has 0 bytes"), (good + cancel("é"), "changes[1].cancel has 2 bytes"),
            (good + cancel("a"), "changes[1].cancel is a, which is listed twice"),
            (
                good + set(key("a"), aggregate, event(UUID(high: 8, low: 8))),
                "changes[1].set.key is a, which is listed twice"
            ),
            (good + set(key("b"), aggregate, event(id)), "events contain the id \(id) twice"),
            (set(key("a"), event(id)), "changes[0].set.aggregate is missing"),
            (set(key("a"), field(3, []), event(id)), "changes[0].set.aggregate.type has 0 bytes"),
            (set(key("a"), aggregate), "changes[0].set.event is missing"),
            (set(key("a"), aggregate, field(4, [])), "changes[0].set.event.id has 0 bytes"),
            (
                set(key("a"), number(2, UInt64(latest) + 1), aggregate, event(id)),
                "changes[0].set.due_micros is 253402300800000000: send microseconds since 1970, from 0 to "
                    + "253402300799999999 (9999-12-31T23:59:59.999999Z)"
            ),
            (
                set(key("a"), number(2, UInt64(bitPattern: -1)), aggregate, event(id)),
                "changes[0].set.due_micros is -1: "
            ),
            (
                set(key("a"), aggregate, event(id), number(5, NewSchedule.latenessMillisLimit + 1)),
                "changes[0].set.lateness_millis_max is 9000000000001: at most 9000000000000"
            ),
        ] {
            let error = try #require(try refusal(37, tenant + body), "\(message)")
            #expect(error.reason == .invalidField && error.message.hasPrefix(message), "\(error), not \(message)")
        }
        #expect(try refusal(37, good)?.message.hasPrefix("tenant has 0 bytes") == true)
        let json = try #require(try refusal(37, tenant + set(key("a"), aggregate, event(id, payload: "{"))))
        #expect(json.reason == .invalidJSON && json.message.contains("changes[0].set.event"), "\(json)")
        // A time that metadata cannot have is refused at once: nothing of it is stored.
        let metadata = field(5, number(3, UInt64(latest) + 1))
        let late = field(4, field(1, id.bytes) + field(2, [0x4F]) + metadata + field(15, [0x31]))
        let error = try #require(try refusal(37, tenant + set(key("a"), aggregate, late)))
        #expect(error.message.hasPrefix("changes[0].set.event.metadata.occurred_at_micros is "), "\(error)")
    }

    @Test func boundsAreNamedWithTheirValues() throws {
        func changes(_ count: Int) -> [UInt8] { (0..<count).flatMap { cancel("k\($0)") } }
        #expect(try refusal(37, tenant + changes(100)) == nil)
        #expect(
            try refusal(37, tenant + changes(101))?.limit
                == .init(name: "schedule_changes_max", limit: 100, actual: 101))
        var limits = Limits()
        limits.payloadBytesMax = 3
        let body = tenant + set(key("a"), aggregate, event(UUID(), payload: "1234"))
        #expect(
            try refusal(37, body, limits: limits)?.limit == .init(name: "payload_bytes_max", limit: 3, actual: 4))
        #expect(try refusal(38, tenant + number(4, 500)) == nil)
        let count = try #require(try refusal(38, tenant + number(4, 501)))
        #expect(count.message.hasPrefix("count_max is 501: at most 500"), "\(count)")
        #expect(try refusal(38, tenant + field(2, [0x20]))?.message.hasPrefix("after has 1 bytes") == true)
    }

    /// What a client leaves out is the default.
    @Test func whatIsLeftOutIsTheDefault() throws {
        var message = ByteBuffer(bytes: [0x08, 0x05])
        message.writeField(38, length: tenant.count)
        message.writeBytes(tenant)
        let frame = try ClientFrameCodec.decode(message, limits: Limits())
        let expected = ListSchedulesRequest(tenant: GoldenFrames.tenant, count: 500)
        #expect(frame == ClientFrame(CallID(5), .request(.listSchedules(expected))))
    }

    /// Both ways of reading an append refuse the same of its schedules.
    @Test func anAppendIsRefusedForItsSchedules() throws {
        func refusal(_ schedules: [ScheduleChange]) throws -> MartletError? {
            let request = AppendRequest(
                tenant: GoldenFrames.tenant,
                aggregates: [
                    AggregateAppend(
                        aggregate: GoldenFrames.order, expected: .any, events: [try GoldenFrames.encoded()])
                ], schedules: schedules)
            let frame = ClientFrame(CallID(1), .request(.append(request)))
            let message = RandomFrames.message { ClientFrameCodec.encode(frame, to: &$0) }
            let isShort = AppendFastPath.decode(message, limits: Limits()) != nil
            switch try ClientFrameCodec.unpack(message, limits: Limits()).body {
            case .malformed(let error):
                #expect(!isShort, "\(error)")
                return error
            default:
                #expect(isShort)
                return nil
            }
        }
        let good = try GoldenFrames.schedule()
        func schedule(_ change: (inout NewSchedule) throws -> Void) rethrows -> ScheduleChange {
            var schedule = good
            try change(&schedule)
            return .set(schedule)
        }
        #expect(try refusal([.set(good), .cancel(GoldenFrames.reminder)]) == nil)
        let many = try (0..<101).map { ScheduleChange.cancel(try #require(ScheduleKey("k\($0)"))) }
        #expect(try refusal(Array(many.dropLast())) == nil)
        #expect(try refusal(many)?.limit == .init(name: "schedule_changes_max", limit: 100, actual: 101))
        for (changes, complaint) in [
            ([.set(good), .cancel(good.key)], "schedules[1].cancel is dunning, which is listed twice"),
            ([try schedule { $0.event = try GoldenFrames.encoded() }], "events contain the id"),
            ([schedule { $0.due = Timestamp(microseconds: -1) }], "schedules[0].set.due_micros is -1"),
            (
                [schedule { $0.due.microseconds = Timestamp.latest.microseconds + 1 }],
                "schedules[0].set.due_micros is 2534"
            ),
            (
                [schedule { $0.latenessMillisMax = .max }],
                "schedules[0].set.lateness_millis_max is 18446744073709551615"
            ),
        ] as [([ScheduleChange], String)] {
            let error = try #require(try refusal(changes), "\(complaint)")
            #expect(error.reason == .invalidField && error.message.hasPrefix(complaint), "\(error)")
        }
    }

    @Test func anOutcomeThatIsNotKnownIsNoAnswer() throws {
        for outcome: UInt8 in [0, 6] {
            let frame = ByteBuffer(bytes: [0x08, 0x05, 0xAA, 0x02, 0x03, 0x0A, 0x01, outcome])
            #expect(throws: MartletError.self) { try ServerFrameCodec.decode(frame, limits: Limits()) }
        }
        // Numbers may come one by one.
        let apart = ByteBuffer(bytes: [0x08, 0x05, 0xAA, 0x02, 0x04, 0x08, 0x01, 0x08, 0x05])
        #expect(
            try ServerFrameCodec.decode(apart, limits: Limits())
                == ServerFrame(CallID(5), .schedulesChanged([.set, .fired])))
    }
}
