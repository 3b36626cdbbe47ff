import FoundationEssentials
import Logging
import MartletAccess
import MartletFrameCodec
import MartletHTTP2Transport
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletTesting
import NIOCore
import NIOEmbedded
import NIOHPACK

@testable import MartletService
@testable import MartletSubscriptions
@testable import MartletTenants

/// A server without threads, one connection of HTTP/2 to it, and what its client may expect.
final class HTTP2World {
    private final class Warrant: ConnectionWarrant {
        func establish() -> MartletError? { nil }
        func fault() -> MartletError? { nil }
        func recheck() -> MartletError? { nil }
    }

    let service: EventService
    let channel = EmbeddedChannel()
    let client = HTTP2Client()
    private let hands: StorageHands
    private let connection: HTTP2Connection
    private var lastStream: Int64 = -1
    private var lastEvent: UInt64 = 0

    init() throws {
        var limits = ServiceWorld.limits
        limits.callsPerConnectionMax = 16
        limits.controlFramesMax = 60
        (service, hands) = try EventService.startByHand(
            engine: MemoryEngine(), limits: limits, serverVersion: "1", clock: { Timestamp(microseconds: 1) },
            logger: Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() }, uptime: { .uptimeNanoseconds(0) })
        connection = HTTP2Connection(
            service: service, services: GRPCServices(GRPCService.martlet), eventLoop: channel.embeddedEventLoop)
        try channel.pipeline.syncOperations.addHandlers([connection.makeFrameGuard(), connection])
        try channel.connect(to: SocketAddress(ipAddress: "127.0.0.1", port: 1)).wait()
        service.connectionOpened(connection, eventLoop: channel.embeddedEventLoop)
        connection.open(.anybody, warrant: Warrant())
    }

    // MARK: What the script does

    /// The next stream.
    func begin() -> UInt32 {
        lastStream += 2
        return UInt32(lastStream)
    }

    /// One of the newest streams; some that are none.
    func stream(_ number: Int) -> UInt32 {
        switch number {
        case 13: 0
        case 14: UInt32(max(0, lastStream + 2))
        case 15: 2
        default: UInt32(max(0, lastStream - 2 * Int64(number)))
        }
    }

    func message(_ request: CallRequest) -> [UInt8] {
        let message = BareMessages.encode(request).message
        var bytes = ByteBuffer()
        bytes.writeInteger(UInt8(0))
        bytes.writeInteger(UInt32(message.readableBytes))
        bytes.writeImmutableBuffer(message)
        return bytes.array
    }

    func append(payloadBytes: Int) throws -> AppendRequest {
        lastEvent += 1
        let event = try EncodedEvent.sample(
            String(repeating: "x", count: payloadBytes), id: UUID(high: 5, low: lastEvent),
            contentType: "text/plain")
        let order = AggregateName(type: "order", id: UUID(high: 4, low: 1))
        return AppendRequest(
            tenant: ServiceWorld.tenants[0],
            aggregates: [AggregateAppend(aggregate: order, expected: .any, events: [event])])
    }

    /// Hands the server bytes, in one piece or in two.
    func deliver(_ bytes: ByteBuffer, _ input: inout Input) throws {
        var rest = bytes
        let cut = input.byte()
        if cut & 1 == 1, let part = rest.readSlice(length: min(Int(cut >> 1), rest.readableBytes)) {
            try receive(part)
        }
        try receive(rest)
    }

    private func receive(_ bytes: ByteBuffer) throws {
        guard channel.isActive, bytes.readableBytes > 0 else { return }
        // A copy: what is read lies in a buffer of its own.
        try channel.writeInbound(ByteBuffer(bytes: bytes.readableBytesView))
    }

    func goOn(_ choice: Int) throws {
        switch choice {
        case 0: _ = hands.commitOne()
        case 1: _ = hands.readOne()
        case 2: channel.embeddedEventLoop.run()
        default:
            for _ in 0..<1_000 {
                channel.embeddedEventLoop.run()
                let (hasCommitted, hasRead) = (hands.commitOne(), hands.readOne())
                try takeOutput()
                guard hasCommitted || hasRead else { break }
            }
        }
    }

    /// What seldom happens.
    func turn(_ choice: Int) throws {
        switch choice {
        case 0: connection.drain()
        case 1: connection.recheck()
        default:
            channel.isWritable.toggle()
            channel.pipeline.fireChannelWritabilityChanged()
        }
    }

    // MARK: What must hold

    func takeOutput() throws {
        while let bytes = try channel.readOutbound(as: ByteBuffer.self) { try client.take(bytes) }
    }

    func checkAccounts() throws {
        let limits = service.limits
        for (name, bytes, bytesMax) in [
            ("inbound", service.pools.inbound.bytes, limits.inboundBytesMax),
            ("outbound", service.pools.outbound.bytes, limits.outboundBytesMax),
            ("calls", service.pools.calls.bytes, limits.callBytesMax),
        ] {
            try hold((0...bytesMax).contains(bytes), "\(name): \(bytes), the bound is \(bytesMax)")
        }
    }

    func checkNothingIsHeld() throws {
        for (name, bytes) in [
            ("inbound", service.pools.inbound.bytes), ("outbound", service.pools.outbound.bytes),
            ("calls", service.pools.calls.bytes), ("appends", service.store.waitingAppendBytes),
            ("tails", service.hub.tailBytes), ("subscriptions", service.counters.subscriptionCount),
            ("connections", service.connectionCount),
        ] {
            try hold(bytes == 0, "\(name): \(bytes) are held after the end")
        }
    }
}

/// The client's end: what it lets the server send, and whether that keeps to it.
final class HTTP2Client {
    private var encoder = HPACKEncoder(allocator: ByteBufferAllocator())
    private var decoder = HPACKDecoder(allocator: ByteBufferAllocator())
    private var output = ByteBuffer()
    private var window = 65_535
    /// What a stream's window begins with, as far as the server has acknowledged it.
    private var streamWindow = 65_535
    /// The same of SETTINGS that were not acknowledged; nil where they say nothing of it.
    private var settings: [Int?] = []
    private var windows: [UInt32: Int] = [:]
    private var ended: Set<UInt32> = []
    private var begun: Set<UInt32> = []
    private var isCounting = true
    private var hasFault = false

    func encode(_ fields: HPACKHeaders) throws -> [UInt8] {
        var bytes = ByteBuffer()
        try encoder.encode(headers: fields, to: &bytes)
        return bytes.array
    }

    func grants(_ bytes: Int, on stream: UInt32) {
        if stream == 0 { window += bytes } else { windows[stream, default: 0] += bytes }
    }

    /// SETTINGS are sent.
    func sendsSettings(window: Int?) { settings.append(window) }

    /// What is sent now may change a window in a way that nobody counts here.
    func losesCount() { isCounting = false }

    func take(_ bytes: ByteBuffer) throws {
        output.writeImmutableBuffer(bytes)
        while let (first, flags, stream) = output.getMultipleIntegers(
            at: output.readerIndex, as: (UInt32, UInt8, UInt32).self)
        {
            let length = Int(first >> 8)
            try hold(length <= 16_384, "a frame of \(length) bytes")
            guard output.readableBytes >= 9 + length else { return }
            output.moveReaderIndex(forwardBy: 9)
            guard var content = output.readSlice(length: length) else { return }
            try hold(!hasFault, "a frame of type \(first & 255) after GOAWAY of an error")
            try take(UInt8(first & 255), flags, stream, &content)
        }
    }

    private func take(_ type: UInt8, _ flags: UInt8, _ stream: UInt32, _ content: inout ByteBuffer) throws {
        switch type {
        case 0, 1:
            try hold(stream & 1 == 1, "type \(type) on stream \(stream)")
            try hold(!ended.contains(stream), "type \(type) on stream \(stream), which has ended")
            if type == 0 {
                try hold(begun.contains(stream), "DATA before HEADERS on stream \(stream)")
                window -= content.readableBytes
                windows[stream, default: 0] -= content.readableBytes
                let left = streamWindow + windows[stream, default: 0]
                try hold(!isCounting || window >= 0, "DATA beyond the connection's window")
                try hold(!isCounting || left >= 0, "DATA beyond the window of stream \(stream)")
            } else {
                try hold(flags & 4 != 0, "HEADERS without END_HEADERS")
                let fields = try decoder.decodeHeaders(from: &content)
                let isFirst = begun.insert(stream).inserted
                try hold(isFirst == fields.contains(name: ":status"), "fields \(fields) on stream \(stream)")
                try hold(isFirst || flags & 1 == 1, "HEADERS in the middle of stream \(stream)")
            }
            if flags & 1 == 1 { ended.insert(stream) }
        case 3:
            try hold(stream != 0 && content.readableBytes == 4, "RST_STREAM")
            ended.insert(stream)
        case 4 where flags & 1 == 1:
            try hold(content.readableBytes == 0 && stream == 0, "an acknowledgement of SETTINGS")
            try hold(!isCounting || !settings.isEmpty, "an acknowledgement of nothing")
            if !settings.isEmpty, let window = settings.removeFirst() { streamWindow = window }
        case 4: try hold(content.readableBytes % 6 == 0 && stream == 0, "SETTINGS")
        case 6: try hold(content.readableBytes == 8 && stream == 0, "PING")
        case 7:
            try hold(content.readableBytes > 8 && stream == 0, "GOAWAY without a text")
            hasFault = content.getInteger(at: content.readerIndex + 4, as: UInt32.self) != 0
        case 8: try hold((content.readInteger(as: UInt32.self) ?? 0) > 0, "WINDOW_UPDATE")
        default: throw Finding("a frame of type \(type)")
        }
    }
}
