import MartletFrameCodec
import MartletModel
import NIOCore
import NIOEmbedded
import NIOHPACK

@testable import MartletService

/// A connection of HTTP/2: an input is a script of frames, right and wrong, and of when storage, the clock and the socket go
/// on.
///
/// What must hold is in ``HTTP2Client``, for what is sent, and in ``finish(_:)``: nothing is held once the connection is
/// closed, whatever came.
enum HTTP2Streams {
    private static let stepsMax = 120
    private static let paths = [
        "/martlet.v1.AppendService/Append", "/martlet.v1.AppendService/AppendSession",
        "/martlet.v1.QueryService/GetHead", "/martlet.v1.SubscribeService/Subscribe",
        "/grpc.health.v1.Health/Watch", "/no.Service/Method", "/", "",
    ]
    private static let extraFields = [
        ("te", "trailers"), ("grpc-timeout", "5m"), ("grpc-encoding", "gzip"), ("content-length", "7"),
        ("x-test", String(repeating: "x", count: 3_000)), ("Upper", "a"), ("grpc-accept-encoding", "identity, gzip"),
        ("x-test", " blank"),
    ]

    static func run(_ bytes: [UInt8]) throws {
        var input = Input(bytes)
        let world = try HTTP2World()
        defer { world.service.release() }
        try world.deliver(ByteBuffer(string: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), &input)
        if input.byte() & 7 != 7 {
            world.client.sendsSettings(window: nil)
            try world.deliver(frame(4, 0, 0, []), &input)
        }
        var steps = 0
        while !input.isAtEnd, steps < stepsMax, world.channel.isActive {
            steps += 1
            try step(&input, world)
            try world.checkAccounts()
        }
        try finish(world)
    }

    private static func step(_ input: inout Input, _ world: HTTP2World) throws {
        let choice = input.byte()
        let stream = world.stream(Int(choice >> 4))
        switch choice & 15 {
        case 0...3: try request(&input, world)
        case 4...6: try data(&input, world, stream)
        case 7: try world.deliver(frame(3, 0, stream, [0, 0, 0, 8]), &input)
        case 8:
            let size = UInt32(1) << UInt32(input.number(below: 31))
            let target = input.byte() & 1 == 0 ? 0 : stream
            world.client.grants(Int(size), on: target)
            try world.deliver(frame(8, 0, target, bytes(size)), &input)
        case 9:
            let value = UInt32(1) << UInt32(input.number(below: 32))
            let name = UInt16(input.number(below: 9))
            world.client.sendsSettings(window: name == 4 ? Int(value) : nil)
            try world.deliver(frame(4, 0, 0, [UInt8(name >> 8), UInt8(name & 255)] + bytes(value)), &input)
        case 10: try world.deliver(frame(6, input.byte() & 1, 0, input.bytes(8)), &input)
        case 11:
            let (type, flags) = (UInt8(input.number(below: 11)), input.byte())
            world.client.losesCount()
            try world.deliver(frame(type, flags, stream, input.bytes(input.number(below: 32))), &input)
        case 12:
            world.client.losesCount()
            try world.deliver(ByteBuffer(bytes: input.bytes(input.number(below: 32))), &input)
        case 13: world.channel.embeddedEventLoop.advanceTime(by: .milliseconds(1 << Int64(input.number(below: 14))))
        case 14: try world.goOn(input.number(below: 4))
        default: try world.turn(input.number(below: 8))
        }
        try world.takeOutput()
    }

    private static func request(_ input: inout Input, _ world: HTTP2World) throws {
        let (path, extra) = (paths[input.number(below: paths.count)], input.byte())
        var fields = HPACKHeaders([
            (":method", extra & 64 == 0 ? "POST" : "GET"), (":scheme", "https"), (":path", path), ("te", "trailers"),
            ("content-type", extra & 128 == 0 ? "application/grpc" : "text/plain"),
        ])
        if extra & 32 != 0 {
            let (name, value) = extraFields[Int(extra & 7)]
            fields.add(name: name, value: value, indexing: extra & 8 == 0 ? .indexable : .neverIndexed)
        }
        let block = try world.client.encode(fields)
        let flags = input.byte()
        let stream = world.begin()
        var content = block
        var frameFlags = flags & 1 | 4
        if flags & 2 != 0 {
            content = [4] + bytes(UInt32(flags >> 4)) + [1] + content + [0, 0, 0, 0]
            frameFlags |= 0x28
        }
        guard flags & 4 != 0, content.count > 3 else {
            return try world.deliver(frame(1, frameFlags, stream, content), &input)
        }
        // In two frames. Padding belongs to the first.
        guard flags & 2 == 0 else { return try world.deliver(frame(1, frameFlags, stream, content), &input) }
        try world.deliver(frame(1, frameFlags & ~4, stream, Array(content.prefix(3))), &input)
        try world.deliver(frame(9, 4, stream, Array(content.dropFirst(3))), &input)
    }

    private static func data(_ input: inout Input, _ world: HTTP2World, _ stream: UInt32) throws {
        let kind = input.byte()
        var content: [UInt8]
        switch kind >> 5 {
        case 0: content = world.message(.getHead(ServiceWorld.tenants[0]))
        case 1: content = try world.message(.append(world.append(payloadBytes: 3)))
        case 2: content = try world.message(.append(world.append(payloadBytes: 4_000)))
        case 3: content = input.bytes(input.number(below: 40))
        case 4: content = [0, 0, 1, 0, 0] + [UInt8](repeating: 0, count: 9_000)
        case 5: content = [UInt8](repeating: kind, count: 16_000)
        default: content = []
        }
        if kind & 4 != 0 { content = Array(content.prefix(input.number(below: 256))) }
        var flags = kind & 1
        if kind & 8 != 0 {
            content = [3] + content + [0, 0, 0]
            flags |= 8
        }
        try world.deliver(frame(0, flags, stream, content), &input)
    }

    private static func bytes(_ number: UInt32) -> [UInt8] {
        stride(from: 24, through: 0, by: -8).map { UInt8(truncatingIfNeeded: number >> UInt32($0)) }
    }

    static func frame(_ type: UInt8, _ flags: UInt8, _ stream: UInt32, _ content: [UInt8]) -> ByteBuffer {
        var frame = ByteBuffer()
        frame.writeMultipleIntegers(UInt32(content.count) << 8 | UInt32(type), flags, stream)
        frame.writeBytes(content)
        return frame
    }

    /// Takes all that the server still has to say, then closes: nothing is held.
    private static func finish(_ world: HTTP2World) throws {
        world.channel.isWritable = true
        try world.goOn(3)
        try world.takeOutput()
        _ = try? world.channel.finish(acceptAlreadyClosed: true)
        try world.goOn(3)
        try world.checkNothingIsHeld()
    }
}
