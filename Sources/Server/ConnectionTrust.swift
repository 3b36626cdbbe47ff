import MartletModel
import MartletTLSOpenSSL
import NIOCore

/// What a connection was let in by, for as long as that holds: the client's certificate chain.
struct ConnectionTrust {
    private let handler: TLSHandler?
    private var endMicros: Int64?

    /// The trust in the peer of a pipeline whose handshake is done.
    init(_ pipeline: ChannelPipeline) {
        handler = try? pipeline.syncOperations.handler(type: TLSHandler.self)
        endMicros = handler?.peerTrustEndMicros
    }

    /// Verifies the chain by the CAs that the server trusts now.
    /// - Returns: why the connection has to end.
    mutating func recheck(under tls: TLSServerContext, now: Timestamp) -> MartletError? {
        guard let handler else { return nil }
        do throws(TLSError) {
            endMicros = try handler.recheckPeer(under: tls)
            return fault(now: now)
        } catch {
            // OpenSSL's verdict is for the log, not for the peer.
            return MartletError(
                .unauthenticated, reason: .certificateNotTrusted,
                message: "the server no longer trusts the CA of the client's certificate: "
                    + "connect with a certificate from a CA that it trusts",
                isRetryable: true)
        }
    }

    /// Why the connection has to end at `now`; nil while the chain holds.
    func fault(now: Timestamp) -> MartletError? {
        guard let endMicros, now.microseconds >= endMicros else { return nil }
        return MartletError(
            .unauthenticated, reason: .certificateExpired,
            message: "a certificate in the client's chain expired at \(Timestamp(microseconds: endMicros)): "
                + "connect with a valid one",
            isRetryable: true)
    }
}
