import MartletModel
import MartletRecordCodec
import MartletSession
import NIOCore
import Testing

@testable import MartletFrameCodec

/// Fields that the server does not know: refused in a write, skipped elsewhere.
@Suite struct UnknownFieldTests {
    private static let limits = Limits()

    /// A field of each wire type, groups inside a group included.
    private static func unknown(_ number: UInt64, _ kind: Int) -> [UInt8] {
        func key(_ wireType: UInt64) -> [UInt8] {
            var bytes = ByteBuffer()
            bytes.writeVarint(number << 3 | wireType)
            return Array(bytes.readableBytesView)
        }
        return switch kind {
        case 0: key(0) + [0x96, 0x01]
        case 1: key(1) + Array(repeating: 7, count: 8)
        case 2: key(2) + [3, 0xFF, 0xFE, 0xFD]
        case 3: key(3) + [0x08, 0x01, 0x13, 0x0A, 0x01, 0x00, 0x14] + key(4)
        default: key(5) + Array(repeating: 7, count: 4)
        }
    }

    private static func message(_ frame: ClientFrame) -> [UInt8] {
        var bytes = ByteBuffer()
        ClientFrameCodec.encode(frame, to: &bytes)
        return Array(bytes.readableBytesView.dropFirst(FrameDecoder.prefixBytes))
    }

    private static func decode(_ bytes: [UInt8]) throws -> ClientFrame {
        try ClientFrameCodec.decode(ByteBuffer(bytes: bytes), limits: limits)
    }

    /// Puts bytes into a message, at the end of what the path of field numbers leads to.
    private static func insert(_ new: [UInt8], into message: [UInt8], at path: ArraySlice<UInt64>) throws -> [UInt8] {
        guard let step = path.first else { return message + new }
        var rest = ByteBuffer(bytes: message)
        var made = ByteBuffer()
        var isDone = false
        while rest.readableBytes > 0 {
            let key = try #require(Varint.read(from: &rest))
            made.writeVarint(key)
            switch key & 7 {
            case 0: made.writeVarint(try #require(Varint.read(from: &rest)))
            default:
                let length = Int(try #require(Varint.read(from: &rest)))
                let bytes = rest.readBytes(length: length)
                var content = try #require(bytes)
                if key >> 3 == step, !isDone {
                    content = try insert(new, into: content, at: path.dropFirst())
                    isDone = true
                }
                made.writeVarint(UInt64(content.count))
                made.writeBytes(content)
            }
        }
        #expect(isDone, "there is a field \(step)")
        return Array(made.readableBytesView)
    }

    /// The frames that write, the messages inside them, and what the error calls these.
    private static let writes: [(frame: String, path: [UInt64], place: String)] = [
        ("append request", [], "the frame"), ("append request", [16], "append"),
        ("append request", [16, 2], "append.aggregates[0]"),
        ("append request", [16, 2, 1], "append.aggregates[0].aggregate"),
        ("append request", [16, 2, 2], "append.aggregates[0].expected"),
        ("append request", [16, 2, 3], "append.aggregates[0].events[0]"),
        ("append request", [16, 2, 3, 5], "append.aggregates[0].events[0].metadata"),
        ("append request", [16, 2, 3, 5, 9], "append.aggregates[0].events[0].metadata.tags[0]"),
        ("append request with a snapshot", [16, 2, 4], "append.aggregates[0].snapshot"),
        ("save_snapshot request", [22], "save_snapshot"), ("save_snapshot request", [22, 4], "save_snapshot.snapshot"),
        ("save_snapshot request", [], "the frame"), ("delete_snapshots request", [25], "delete_snapshots"),
        ("delete_snapshots request", [25, 2], "delete_snapshots.aggregate"),
        ("put_settings request", [26], "put_settings"), ("put_consumer request", [], "the frame"),
        ("put_consumer request", [28], "put_consumer"),
        ("put_consumer request", [28, 3], "put_consumer.definition"),
        ("put_consumer request", [28, 3, 1], "put_consumer.definition.filter"),
        ("put_consumer request", [28, 3, 8], "put_consumer.definition.delivery"),
        ("put_consumer request", [28, 4], "put_consumer.start"),
        ("delete_consumer request", [31], "delete_consumer"), ("reset_consumer request", [32], "reset_consumer"),
        ("reset_consumer request", [32, 3], "reset_consumer.start"), ("unblock_keys request", [34], "unblock_keys"),
        ("unblock_keys request", [34, 3], "unblock_keys.keys[0]"),
        ("unblock_keys request", [34, 3, 1], "unblock_keys.keys[0].place"), ("replies", [], "the frame"),
        ("replies", [9], "replies"), ("replies", [9, 1], "replies.replies[0]"),
        ("replies", [9, 1, 1], "replies.replies[0].acknowledge"),
        ("append request with schedules", [16, 5], "append.schedules[0]"),
        ("append request with schedules", [16, 5, 1], "append.schedules[0].set"),
        ("append request with schedules", [16, 5, 1, 4], "append.schedules[0].set.event"),
        ("change_schedules request", [], "the frame"), ("change_schedules request", [37], "change_schedules"),
        ("change_schedules request", [37, 2], "change_schedules.changes[0]"),
        ("change_schedules request", [37, 2, 1], "change_schedules.changes[0].set"),
        ("change_schedules request", [37, 2, 1, 3], "change_schedules.changes[0].set.aggregate"),
        ("change_schedules request", [37, 2, 1, 4], "change_schedules.changes[0].set.event"),
    ]

    @Test func aWriteIsRefusedByTheNumberAtAnyDepth() throws {
        let frames = Dictionary(uniqueKeysWithValues: try GoldenFrames.client())
        for (name, path, place) in Self.writes {
            let frame = try #require(frames[name])
            for kind in 0...4 {
                let bytes = try Self.insert(Self.unknown(31_999, kind), into: Self.message(frame), at: path[...])
                let decoded = try Self.decode(bytes)
                let what = "\(name), \(place), kind \(kind): \(decoded)"
                var error: MartletError?
                switch decoded.body {
                case .malformed(let complaint), .malformedReplies(let complaint): error = complaint
                case .request(.append(var append)):
                    // A retry of what is stored is compared by what is known of it.
                    if case .refused(let complaint) = append.admission { error = complaint }
                    append.admission = .admitted
                    #expect(
                        ClientFrame(frame.callID, .request(.append(append)), timeoutMillis: frame.timeoutMillis)
                            == frame, "\(what)")
                default: break
                }
                #expect(error?.reason == .invalidField && error?.code == .invalidArgument, "\(what)")
                #expect(error?.message.hasPrefix("\(place) holds field 31999,") == true, "\(what)")
            }
        }
    }

    /// The codec must know what writes before it decodes: by the body's number. That is the same as what a call says of
    /// itself, and no body of a frame is left out.
    @Test func whatWritesIsKnownByItsNumber() throws {
        var numbers: Set<UInt32> = []
        for (name, frame) in try GoldenFrames.client() {
            let isWrite =
                switch frame.body {
                case .request(let request): request.isWrite
                case .replies: true
                default: false
                }
            let message = Self.message(frame)
            #expect(WireForm.ofClientFrame(ByteBuffer(bytes: message)).isWrite == isWrite, "\(name)")
            numbers.insert(try Self.bodyNumber(of: message))
        }
        #expect(numbers == WireForm.clientBodies)
    }

    @Test func elsewhereTheyAreSkipped() throws {
        let reads: [(String, [[UInt64]])] = [
            ("hello", [[], [4]]), ("credit", [[], [5]]), ("cancel", [[], [6]]), ("client ping", [[7]]),
            ("load request", [[], [17], [17, 2]]), ("read request", [[18], [18, 6]]), ("subscribe request", [[19]]),
            ("get_head request", [[20]]), ("get_status request", [[21]]), ("get_settings request", [[27]]),
            ("get_server_info request", [[], [39]]),
            ("load request with a snapshot", [[17, 9], [17, 10], [17, 10, 3]]), ("list_snapshots request", [[24, 2]]),
            ("get_consumer request", [[], [29]]), ("list_consumers request", [[30]]),
            ("list_blocked_keys request", [[33], [33, 3]]), ("await_consumer request", [[35]]),
            ("consume request", [[], [36]]), ("list_schedules request", [[], [38]]),
        ]
        let frames = Dictionary(uniqueKeysWithValues: try GoldenFrames.client())
        for (name, paths) in reads {
            let frame = try #require(frames[name])
            for path in paths {
                for kind in 0...4 {
                    let bytes = try Self.insert(Self.unknown(31_999, kind), into: Self.message(frame), at: path[...])
                    #expect(try Self.decode(bytes) == frame, "\(name) \(path), kind \(kind)")
                }
            }
        }
    }

    /// The number of the last field of a frame that holds a message.
    private static func bodyNumber(of message: [UInt8]) throws -> UInt32 {
        var rest = ByteBuffer(bytes: message)
        var body: UInt64 = 0
        while rest.readableBytes > 0 {
            let key = try #require(Varint.read(from: &rest))
            if key & 7 == 0 {
                _ = Varint.read(from: &rest)
            } else {
                body = key >> 3
                rest.moveReaderIndex(forwardBy: Int(try #require(Varint.read(from: &rest))))
            }
        }
        return try #require(UInt32(exactly: body))
    }

    @Test func theClientSkipsThemInAnswers() throws {
        for (name, frame) in try GoldenFrames.server() {
            var bytes = ByteBuffer()
            ServerFrameCodec.encode(frame, to: &bytes)
            let message = Array(bytes.readableBytesView.dropFirst(FrameDecoder.prefixBytes))
            let body = UInt64(try Self.bodyNumber(of: message))
            for kind in 0...4 {
                for path in [[], [body]] {
                    let more = try Self.insert(Self.unknown(31_999, kind), into: message, at: path[...])
                    let decoded = try ServerFrameCodec.decode(ByteBuffer(bytes: more), limits: Self.limits)
                    #expect(decoded == frame, "\(name) \(path), kind \(kind)")
                }
            }
        }
    }

    /// A known number of another wire type is an unknown field to protobuf.
    @Test func aKnownFieldOfAnotherTypeIsUnknown() throws {
        let frames = Dictionary(uniqueKeysWithValues: try GoldenFrames.client())
        let load = try #require(frames["load request"])
        #expect(try Self.decode(Self.insert([0x0D, 1, 2, 3, 4], into: Self.message(load), at: [17])) == load)
        let append = try #require(frames["append request"])
        let decoded = try Self.decode(Self.insert([0x0D, 1, 2, 3, 4], into: Self.message(append), at: [16]))
        guard case .request(.append(let request)) = decoded.body, case .refused(let error) = request.admission else {
            Issue.record("expected a refused append, got \(decoded)")
            return
        }
        #expect(error.message.contains("append holds field 1,"), "\(error)")
    }

    /// protobuf merges what comes twice, also a member of a oneof.
    @Test func aBodyInTwoPartsIsMerged() throws {
        let frames = Dictionary(uniqueKeysWithValues: try GoldenFrames.client())
        for name in [
            "load request", "read request", "subscribe request", "load_snapshot request", "get_consumer request",
            "list_blocked_keys request", "await_consumer request", "consume request",
        ] {
            let frame = try #require(frames[name])
            let whole = Self.message(frame)
            // Cuts the body after each of its fields in turn.
            var rest = ByteBuffer(bytes: whole)
            var head: [UInt8] = []
            var number: UInt64 = 0
            var body: [UInt8] = []
            while rest.readableBytes > 0 {
                let start = rest
                let key = try #require(Varint.read(from: &rest))
                if key & 7 == 2 {
                    number = key >> 3
                    let length = try #require(Varint.read(from: &rest))
                    let bytes = rest.readBytes(length: Int(length))
                    body = try #require(bytes)
                } else {
                    _ = Varint.read(from: &rest)
                    head += try #require(
                        start.getBytes(at: start.readerIndex, length: start.readableBytes - rest.readableBytes))
                }
            }
            var at = ByteBuffer(bytes: body)
            var cuts = 0
            while at.readableBytes > 0 {
                let key = try #require(Varint.read(from: &at))
                let value = try #require(Varint.read(from: &at))
                if key & 7 == 2 { at.moveReaderIndex(forwardBy: Int(value)) }
                let cut = body.count - at.readableBytes
                var made = ByteBuffer(bytes: head)
                for part in [body[..<cut], body[cut...]] {
                    made.writeVarint(number << 3 | 2)
                    made.writeVarint(UInt64(part.count))
                    made.writeBytes(part)
                }
                #expect(try Self.decode(Array(made.readableBytesView)) == frame, "\(name), cut at \(cut)")
                cuts += 1
            }
            #expect(cuts > 1)
        }
    }

    @Test func aWriteWhoseBodyComesTwiceIsRefused() throws {
        let frames = Dictionary(uniqueKeysWithValues: try GoldenFrames.client())
        let append = Self.message(try #require(frames["append request"]))
        let decoded = try Self.decode(append + append.dropFirst(5))
        guard case .request(.append(let request)) = decoded.body, case .refused(let error) = request.admission else {
            Issue.record("expected a refused append, got \(decoded)")
            return
        }
        #expect(error.message.contains("the frame holds field 16 twice"), "\(error)")
        let put = Self.message(try #require(frames["put_consumer request"]))
        guard case .malformed(let refusal) = try Self.decode(put + put.dropFirst(2)).body else {
            Issue.record("expected a refused put_consumer")
            return
        }
        #expect(refusal.message.contains("the frame holds field 28 twice"), "\(refusal)")
        let replies = Self.message(try #require(frames["replies"]))
        guard case .malformedReplies(let complaint) = try Self.decode(replies + replies.dropFirst(2)).body else {
            Issue.record("expected refused replies")
            return
        }
        #expect(complaint.message.contains("the frame holds field 9 twice"), "\(complaint)")
    }

    @Test func brokenGroupsAreBadFrames() {
        for bytes: [UInt8] in [
            [0x1B], [0xBB, 0x06, 0xB4, 0x06], [0xBB, 0x06, 0x08], [0xBC, 0x06],
            Array(repeating: [0xBB, 0x06], count: 101).flatMap { $0 }
                + Array(repeating: [0xBC, 0x06], count: 101).flatMap { $0 },
        ] {
            let error = #expect(throws: MartletError.self) { try Self.decode([0x08, 0x01, 0xA2, 0x01, 0x00] + bytes) }
            #expect(error?.reason == .badFrame)
        }
    }

    @Test(arguments: [Int64.min, -62_135_596_800_000_001, 253_402_300_800_000_000, .max])
    func aTimeOutsideOfTheRangeIsRefusedUnlessStored(_ micros: Int64) throws {
        var event = GoldenFrames.event
        event.metadata.occurredAt = Timestamp(microseconds: micros)
        let append = AppendRequest(
            tenant: GoldenFrames.tenant,
            aggregates: [
                AggregateAppend(aggregate: GoldenFrames.order, expected: .none, events: [try EncodedEvent(event)])
            ])
        let decoded = try Self.decode(Self.message(ClientFrame(CallID(1), .request(.append(append)))))
        guard case .request(.append(var request)) = decoded.body, case .refused(let error) = request.admission else {
            Issue.record("expected a refused append, got \(decoded)")
            return
        }
        #expect(error.message.hasPrefix("aggregates[0].events[0].metadata.occurred_at_micros is "), "\(error)")
        #expect(error.message.contains("0001-01-01T00:00:00.000000Z to 9999-12-31T23:59:59.999999Z"), "\(error)")
        request.admission = .admitted
        #expect(request == append, "what is compared with what is stored")
        for edge in [Timestamp.earliest, .latest] {
            event.metadata.occurredAt = edge
            let append = AppendRequest(
                tenant: GoldenFrames.tenant,
                aggregates: [
                    AggregateAppend(aggregate: GoldenFrames.order, expected: .none, events: [try EncodedEvent(event)])
                ])
            let frame = ClientFrame(CallID(1), .request(.append(append)))
            #expect(try Self.decode(Self.message(frame)) == frame)
        }
    }

    @Test func aLongClientNameIsNamed() throws {
        let frame = ClientFrame(.connection, .hello(Hello(clientName: String(repeating: "x", count: 257))))
        guard case .malformedHello(let error) = try Self.decode(Self.message(frame)).body else {
            Issue.record("expected a malformed hello")
            return
        }
        #expect(error.message.contains("hello.client_name has 257 bytes") && error.message.contains("256"), "\(error)")
        var session = ServerSession(limits: Self.limits, now: .uptimeNanoseconds(0))
        let reaction = session.receive(try Self.decode(Self.message(frame)), now: .uptimeNanoseconds(1))
        #expect(reaction == .fail(error))
    }
}

extension Varint {
    /// Takes a varint off the front; nil where there is none.
    fileprivate static func read(from buffer: inout ByteBuffer) -> UInt64? {
        var fields = LenientFields(0..<buffer.readableBytes)
        guard let value = fields.varint(in: buffer.readableBytesUInt8Span) else { return nil }
        buffer.moveReaderIndex(forwardBy: fields.offset)
        return value
    }
}
