import MartletTLSOpenSSL
import NIOConcurrencyHelpers

/// One TLS context for all connections of a client, so that sessions are resumed from one to the next. A context that
/// cannot be made is tried again at the next connection: the files may have come.
final class TLSContextCache: Sendable {
    private let configuration: TLSClientConfiguration
    private let made = NIOLockedValueBox<TLSClientContext?>(nil)

    init(_ configuration: TLSClientConfiguration) { self.configuration = configuration }

    /// The context.
    func context() throws(TLSError) -> TLSClientContext {
        if let context = made.withLockedValue({ $0 }) { return context }
        let context = try TLSClientContext(configuration)
        return made.withLockedValue { made in
            if let made { return made }
            made = context
            return context
        }
    }
}
