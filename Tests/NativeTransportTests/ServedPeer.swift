import MartletAccess
import MartletFrameCodec
import MartletModel
import MartletNativeTransport
import MartletService
import MartletSession
import MartletStorage
import MartletStorageMemory
import MartletTenants
import MartletTesting
import NIOCore
import NIOEmbedded

/// A connection of a server without threads, and the peer at its other end, which has said Hello.
final class ServedPeer {
    private final class Warrant: ConnectionWarrant {
        func establish() -> MartletError? { nil }
        func fault() -> MartletError? { nil }
        func recheck() -> MartletError? { nil }
    }

    private let channel = EmbeddedChannel()
    private let service: EventService
    private let hands: StorageHands
    private let connection: ServerConnection
    private var decoder: FrameDecoder
    private let limits: Limits
    private var frames: [ServerFrame] = []

    init(_ limits: Limits) throws {
        self.limits = limits
        let loop = channel.embeddedEventLoop
        (service, hands) = try EventService.startByHand(
            engine: MemoryEngine(), limits: limits, serverVersion: "1", clock: { Timestamp(microseconds: 1) },
            logger: .silent, uptime: { .uptimeNanoseconds(0) })
        connection = ServerConnection(service: service, eventLoop: loop)
        decoder = FrameDecoder(limits: limits)
        try channel.pipeline.syncOperations.addHandler(connection)
        connection.open(.anybody, warrant: Warrant())
        var hello = ByteBuffer()
        ClientFrameCodec.encode(ClientFrame(.connection, .hello(Hello(clientName: "test"))), to: &hello)
        try receive(hello)
    }

    deinit {
        _ = try? channel.finish(acceptAlreadyClosed: true)
        service.release()
    }

    var loop: EmbeddedEventLoop { channel.embeddedEventLoop }
    var pool: FairPool { service.pools.inbound }
    var holder: FairPool.Holder { .connection(ObjectIdentifier(connection)) }

    /// Whether the connection has its socket read.
    var isReading: Bool {
        channel.options.reversed().lazy.compactMap { option, value in
            option is ChannelOptions.Types.AutoReadOption ? value as? Bool : nil
        }.first ?? true
    }

    /// A read of the socket brings that.
    func receive(_ bytes: ByteBuffer) throws { try channel.writeInbound(bytes) }

    /// Has storage do all that it was asked for.
    /// - Returns: the calls that were answered so far.
    func answered() throws -> [CallID] {
        repeat { loop.run() } while hands.commitOne() || hands.readOne()
        try takeFrames()
        return frames.compactMap { if case .message = $0.body { $0.callID } else { nil } }
    }

    /// Why the connection was closed.
    func faults() throws -> [Reason] {
        try takeFrames()
        return frames.compactMap { frame in
            guard frame.callID == .connection, case .status(let error) = frame.body else { return nil }
            return error?.reason
        }
    }

    private func takeFrames() throws {
        while let bytes = try channel.readOutbound(as: ByteBuffer.self) { decoder.feed(bytes) }
        while let message = try decoder.next() { frames.append(try ServerFrameCodec.decode(message, limits: limits)) }
    }
}
