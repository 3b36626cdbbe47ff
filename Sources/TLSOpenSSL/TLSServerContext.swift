import NIOConcurrencyHelpers

/// Makes the TLS handlers of a server's connections. It can be used from any thread.
public final class TLSServerContext: Sendable {
    private let configuration: TLSServerConfiguration
    let current: NIOLockedValueBox<SSLContext>
    private let validity: NIOLockedValueBox<[CertificateValidity]>
    private let reloadObserver = NIOLockedValueBox<(@Sendable () -> Void)?>(nil)

    /// Reads the certificate files. Throws an error of kind `configuration` that names the file that cannot be used.
    public init(_ configuration: TLSServerConfiguration) throws(TLSError) {
        self.configuration = configuration
        current = NIOLockedValueBox(try SSLContext.server(configuration, after: nil))
        validity = NIOLockedValueBox(try CertificateValidity.all(of: configuration))
    }

    /// Reads the certificate files again, for connections that begin from now on; for those that exist see
    /// ``TLSHandler/recheckPeer(under:)``. On an error nothing changes. Clients can resume their sessions as long as the
    /// client CAs are the same; otherwise they must show their certificates again.
    public func reload() throws(TLSError) {
        let old = current.withLockedValue { $0 }
        let new = try SSLContext.server(configuration, after: old)
        let dates = try CertificateValidity.all(of: configuration)
        current.withLockedValue { $0 = new }
        validity.withLockedValue { $0 = dates }
        reloadObserver.withLockedValue { $0 }?()
    }

    /// Until when the certificates that are in force are valid: the server's own, and the CAs of client certificates.
    public var certificates: [CertificateValidity] { validity.withLockedValue { $0 } }

    /// Calls `body` after each reload, on the thread that reloads; nil ends that.
    public func whenReloaded(_ body: (@Sendable () -> Void)?) {
        reloadObserver.withLockedValue { $0 = body }
    }

    /// The handler for one accepted connection.
    public func makeHandler() throws(TLSError) -> TLSHandler {
        let context = current.withLockedValue { $0 }
        return TLSHandler(
            try SSLConnection(server: context), isALPNRequired: !configuration.alpn.isEmpty,
            handshakeTimeout: configuration.handshakeTimeout, closeTimeout: configuration.closeTimeout)
    }
}
