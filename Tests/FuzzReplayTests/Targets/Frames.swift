import NIOCore

@testable import MartletFrameCodec
@testable import MartletModel
@testable import MartletRecordCodec
@testable import MartletSession

/// Limits that short inputs reach.
private let smallLimits: Limits = {
    var limits = Limits()
    limits.frameBytesMax = 4 << 10
    limits.payloadBytesMax = 64
    limits.metadataBytesMax = 64
    limits.snapshotBytesMax = 64
    limits.settingsBytesMax = 64
    limits.eventsPerAppendMax = 3
    limits.aggregatesPerAppendMax = 2
    limits.filterValuesMax = 3
    return limits
}()

private let allLimits = [Limits(), smallLimits]

/// Bytes of a connection: what is cut out of them is the same however they come.
enum FrameStream {
    static func run(_ bytes: [UInt8]) throws {
        for limits in allLimits {
            let whole = cut([bytes], limits)
            let size = 1 + bytes.count % 7
            let pieces = stride(from: 0, to: bytes.count, by: size).map {
                Array(bytes[$0..<min(bytes.count, $0 + size)])
            }
            let inPieces = cut(pieces, limits)
            try hold(whole == inPieces, "in pieces of \(size) bytes: \(inPieces), whole: \(whole)")
            for message in whole.messages {
                try ClientFrames.check(message, limits)
                try ServerFrames.check(message, limits)
            }
        }
    }

    private struct Cut: Equatable {
        var messages: [ByteBuffer] = []
        var fault: MartletError?
    }

    private static func cut(_ pieces: [[UInt8]], _ limits: Limits) -> Cut {
        var decoder = FrameDecoder(limits: limits)
        var result = Cut()
        for piece in pieces {
            decoder.feed(ByteBuffer(bytes: piece))
            do throws(MartletError) {
                while let message = try decoder.next() { result.messages.append(message) }
            } catch {
                result.fault = error
                return result
            }
        }
        return result
    }

    /// The one message of a frame that was encoded.
    static func message(of frame: ByteBuffer) throws -> ByteBuffer {
        var limits = Limits()
        limits.frameBytesMax = .max
        var decoder = FrameDecoder(limits: limits)
        decoder.feed(frame)
        guard let message = try decoder.next(),
            message.readableBytes == frame.readableBytes - FrameDecoder.prefixBytes
        else { throw Finding("what was encoded is no frame") }
        return message
    }
}

/// Messages from clients: both ways of reading agree, within the budget, and what was read is written again.
enum ClientFrames {
    static func run(_ bytes: [UInt8]) throws {
        for limits in allLimits { try check(ByteBuffer(bytes: bytes), limits) }
    }

    /// The first byte chooses the request, the others are its message: its length is always right.
    static func runRequest(_ bytes: [UInt8]) throws {
        var input = Input(bytes)
        var message = ByteBuffer(bytes: [1 << 3, 7, 3 << 3, 100])
        let choice = Int(input.byte())
        // What the inputs of before meant stays.
        let later = [9, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37]
        let field = choice < 208 ? 16 + choice % 13 : choice >= 254 ? 38 : later[(choice - 208) % 11]
        message.writeField(UInt32(field), length: input.rest.count)
        message.writeBytes(input.rest)
        try run(message.array)
    }

    static func check(_ message: ByteBuffer, _ limits: Limits) throws {
        var decoded: Result<ClientFrame, MartletError>?
        let peak = try HeapWatch.peak {
            decoded = Result { () throws(MartletError) in try ClientFrameCodec.decode(message, limits: limits) }
        }
        let budget = limits.decodeBytesMax(frameBytes: message.readableBytes)
        try hold(peak <= budget, "decoding held \(peak) bytes, the budget is \(budget)")
        let unpacked = Result { () throws(MartletError) in try ClientFrameCodec.unpack(message, limits: limits) }
        try hold(decoded == unpacked, "decoded as \(String(describing: decoded)), by protobuf-c as \(unpacked)")
        guard case .success(let frame) = decoded else { return }
        switch frame.body {
        case .malformed(let error), .malformedHello(let error), .malformedReplies(let error):
            return try hold(!error.message.isEmpty, "a malformed message without a word")
        default: break
        }
        var encoded = ByteBuffer()
        ClientFrameCodec.encode(frame, to: &encoded)
        // What is encoded may be longer than what came.
        var limits = limits
        limits.frameBytesMax = .max / 64
        let again = try ClientFrameCodec.decode(FrameStream.message(of: encoded), limits: limits)
        try hold(again == sent(frame), "\(frame) was encoded and read as \(again)")
        var twice = ByteBuffer()
        ClientFrameCodec.encode(again, to: &twice)
        try hold(twice == encoded, "\(frame) is encoded in two ways")
    }

    /// The frame as it is encoded: why an append that could be read is refused all the same stands in no frame.
    private static func sent(_ frame: ClientFrame) -> ClientFrame {
        guard case .request(.append(var append)) = frame.body else { return frame }
        append.admission = .admitted
        var frame = frame
        frame.body = .request(.append(append))
        return frame
    }
}

/// Messages from servers: as those from clients, but for the budget.
enum ServerFrames {
    static func run(_ bytes: [UInt8]) throws { try check(ByteBuffer(bytes: bytes), Limits()) }

    /// The first byte chooses the answer, the others are its message.
    static func runAnswer(_ bytes: [UInt8]) throws {
        var input = Input(bytes)
        var message = ByteBuffer(bytes: [1 << 3, 7])
        let choice = Int(input.byte())
        let fields = [4, 5, 6, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27]
        let field = choice < 210 ? fields[choice % 15] : choice >= 252 ? 37 + choice % 2 : 28 + (choice - 210) % 9
        message.writeField(UInt32(field), length: input.rest.count)
        message.writeBytes(input.rest)
        try run(message.array)
    }

    static func check(_ message: ByteBuffer, _ limits: Limits) throws {
        let decoded = Result { () throws(MartletError) in try ServerFrameCodec.decode(message, limits: limits) }
        let unpacked = Result { () throws(MartletError) in try ServerFrameCodec.unpack(message, limits: limits) }
        try hold(decoded == unpacked, "decoded as \(decoded), by protobuf-c as \(unpacked)")
        guard case .success(let frame) = decoded else { return }
        var encoded = ByteBuffer()
        ServerFrameCodec.encode(frame, to: &encoded)
        var limits = limits
        limits.frameBytesMax = .max / 64
        let again = try ServerFrameCodec.decode(FrameStream.message(of: encoded), limits: limits)
        try hold(sent(again) == sent(frame), "\(frame) was encoded and read as \(again)")
        var twice = ByteBuffer()
        ServerFrameCodec.encode(again, to: &twice)
        try hold(twice == encoded, "\(frame) is encoded in two ways")
    }

    /// The frame without what only one end knows.
    private static func sent(_ frame: ServerFrame) -> ServerFrame {
        var frame = frame
        switch frame.body {
        case .welcome(var welcome):
            welcome.limits.frameBytesMax = 0
            frame.body = .welcome(welcome)
        case .message(.serverInfo(var info)):
            info.limits.frameBytesMax = 0
            frame.body = .message(.serverInfo(info))
        default: break
        }
        return frame
    }
}
