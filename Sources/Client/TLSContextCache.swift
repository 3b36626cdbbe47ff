import MartletTLSOpenSSL
import NIOConcurrencyHelpers

/// One TLS context for all connections of a client, so that sessions are resumed from one to the next. Before each
/// connection the files are looked at: if they have changed, as when a certificate was renewed, they are read again. A
/// context that cannot be made is tried again at the next connection.
final class TLSContextCache: Sendable {
    private struct Made {
        let context: TLSClientContext
        let stamps: [FileStamp?]
    }

    private let configuration: TLSClientConfiguration
    private let made = NIOLockedValueBox<Made?>(nil)

    init(_ configuration: TLSClientConfiguration) { self.configuration = configuration }

    /// The context of the files as they are now; if they cannot be used, of the files as they were.
    func context() throws(TLSError) -> TLSClientContext {
        // Before the files are read: what changes meanwhile is seen the next time.
        let stamps = [configuration.caFile, configuration.certificateFile, configuration.privateKeyFile]
            .map { $0.flatMap { FileStamp($0) } }
        let before = made.withLockedValue { $0 }
        if let before, before.stamps == stamps { return before.context }
        do throws(TLSError) {
            let context = try TLSClientContext(configuration)
            made.withLockedValue { $0 = Made(context: context, stamps: stamps) }
            return context
        } catch {
            // Half of a renewal, perhaps.
            guard let before else { throw error }
            return before.context
        }
    }
}
