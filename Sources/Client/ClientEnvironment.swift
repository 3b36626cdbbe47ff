import MartletTLSOpenSSL
import NIOCore
import NIOPosix

/// What a client takes from outside, so that a test can put its own in.
struct ClientEnvironment: Sendable {
    /// A clock that never goes back.
    var now: @Sendable () -> NIODeadline = { .now() }
    /// Waits; throws when the task is cancelled.
    var sleep: @Sendable (Duration) async throws -> Void = { try await Task.sleep(for: $0) }
    /// From 0 up to 1.
    var random: @Sendable () -> Double = { .random(in: 0..<1) }
    /// How connections are secured.
    var transport: Transport
    /// Where sockets live.
    var eventLoopGroup: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton
}

/// What goes between a socket and the frames.
struct Transport: Sendable {
    /// Whether ``TLSEvent/handshakeCompleted(_:alpn:resumed:)`` says when the connection is safe to use; otherwise it
    /// is as soon as it is there.
    var hasHandshake: Bool
    /// Makes the handler that goes first in a channel's pipeline; called on its event loop.
    var addHandlers: @Sendable (any Channel) throws -> Void
    /// Reads what it needs; called before each connection.
    var prepare: @Sendable () throws(TLSError) -> Void

    /// TLS; the files are read before the first connection.
    static func tls(_ configuration: TLSClientConfiguration) -> Transport {
        let context = TLSContextCache(configuration)
        return Transport(
            hasHandshake: true,
            addHandlers: { channel in
                try channel.pipeline.syncOperations.addHandler(context.context().makeHandler())
            },
            prepare: { () throws(TLSError) in _ = try context.context() })
    }
}
