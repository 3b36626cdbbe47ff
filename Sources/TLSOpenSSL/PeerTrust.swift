import CMartletOpenSSL
import NIOConcurrencyHelpers

/// Why a peer is trusted, kept with its session: the verified chain's earliest end, and the intermediates that it needed.
///
/// A session that is resumed has no chain any more, only the peer's own certificate. What is sealed into the session, and
/// with it into the ticket, is what the resumed connection goes by: 8 bytes with the end in microseconds since 1970,
/// big-endian, and then the intermediates in DER, one after the other.
enum PeerTrust {
    /// With larger intermediates a session is not resumed: its ticket would grow too long.
    private static let intermediateBytesMax = 8_192

    /// Keeps what the handshake on `ssl` has verified in `session`, which the handshake has just made. A resumed session
    /// has it from the one before. False when out of memory.
    @unsafe static func seal(_ ssl: OpaquePointer?, into session: OpaquePointer?) -> Bool {
        let chain = unsafe SSL_get0_verified_chain(ssl)
        guard unsafe martlet_X509_list_count(chain) > 0 else { return true }
        var intermediates: [UInt8] = []
        for index in unsafe between(chain) {
            guard let der = unsafe bytes(of: martlet_X509_list_at(chain, index)) else { return false }
            intermediates += der
        }
        // A session that has ended is never resumed.
        let end = intermediates.count <= intermediateBytesMax ? unsafe endMicros(ofChain: chain) : .min
        var sealed = unsafe withUnsafeBytes(of: end.bigEndian) { unsafe Array($0) }
        if end > .min { sealed += intermediates }
        return unsafe SSL_SESSION_set1_ticket_appdata(session, sealed, sealed.count) == 1
    }

    /// Whether a session may be resumed now: the peer showed no certificate, or its whole chain is still valid.
    @unsafe static func isResumable(_ session: OpaquePointer?) -> Bool {
        guard unsafe SSL_SESSION_get0_peer(session) != nil else { return true }
        guard let end = unsafe sealed(in: session)?.endMicros, let now = nowMicros else { return false }
        return end > now
    }

    /// Until when the peer's chain holds; nil if it showed no certificate.
    @unsafe static func endMicros(of ssl: OpaquePointer) -> Int64? {
        let chain = unsafe SSL_get0_verified_chain(ssl)
        if unsafe martlet_X509_list_count(chain) > 0 { return unsafe endMicros(ofChain: chain) }
        let session = unsafe SSL_get_session(ssl)
        guard unsafe SSL_SESSION_get0_peer(session) != nil else { return nil }
        return unsafe sealed(in: session)?.endMicros ?? .min
    }

    /// Verifies the client at the other end of `ssl` by the rules and the CAs of another `SSL_CTX`, as a handshake would.
    @unsafe static func recheck(_ ssl: OpaquePointer, under rules: OpaquePointer) throws(TLSError) -> Int64? {
        ErrorQueue.clear()
        guard let leaf = unsafe SSL_get1_peer_certificate(ssl) else { return nil }
        let certificate = unsafe X509Certificate(owning: leaf)
        let verification = unsafe X509_STORE_CTX_new()
        let intermediates = unsafe martlet_X509_list_new()
        defer {
            unsafe X509_STORE_CTX_free(verification)
            unsafe martlet_X509_list_free(intermediates)
        }
        guard unsafe fill(intermediates, from: ssl),
            unsafe X509_STORE_CTX_init(
                verification, SSL_CTX_get_cert_store(rules), certificate.pointer, intermediates) == 1,
            unsafe X509_STORE_CTX_set_default(verification, "ssl_client") == 1,
            unsafe X509_VERIFY_PARAM_set1(X509_STORE_CTX_get0_param(verification), SSL_CTX_get0_param(rules)) == 1
        else { throw ErrorQueue.configurationError("cannot verify a certificate") }
        unsafe X509_VERIFY_PARAM_set_auth_level(
            X509_STORE_CTX_get0_param(verification), SSL_CTX_get_security_level(rules))
        let isTrusted = unsafe X509_verify_cert(verification) == 1
        ErrorQueue.clear()
        guard isTrusted else {
            let verdict = unsafe X509_verify_cert_error_string(Int(X509_STORE_CTX_get_error(verification)))
            let text = unsafe verdict.map { unsafe String(cString: $0) } ?? "unknown reason"
            throw TLSError(.certificate, text)
        }
        return unsafe endMicros(ofChain: X509_STORE_CTX_get0_chain(verification))
    }

    // MARK: Chains

    /// Which certificates of a chain stand between the peer's own and the anchor.
    @unsafe private static func between(_ chain: OpaquePointer?) -> Range<Int32> {
        unsafe 1..<max(1, martlet_X509_list_count(chain) - 1)
    }

    /// The earliest end of a chain's certificates, the anchor included.
    @unsafe private static func endMicros(ofChain chain: OpaquePointer?) -> Int64 {
        var end = Int64.max
        let count = unsafe martlet_X509_list_count(chain)
        for index in 0..<max(0, count) {
            guard let certificate = unsafe martlet_X509_list_at(chain, index) else { return .min }
            let notAfter = unsafe X509Certificate.micros(X509_get0_notAfter(certificate))
            end = min(end, notAfter ?? .min)
        }
        return end
    }

    @unsafe private static func bytes(of certificate: OpaquePointer?) -> [UInt8]? {
        var der: UnsafeMutablePointer<UInt8>?
        let count = unsafe i2d_X509(certificate, &der)
        guard count > 0, let der = unsafe der else { return nil }
        defer { unsafe martlet_free(der) }
        return unsafe Array(UnsafeBufferPointer(start: der, count: Int(count)))
    }

    /// Adds what stood between the peer's certificate and its anchor.
    @unsafe private static func fill(_ list: OpaquePointer?, from ssl: OpaquePointer) -> Bool {
        let chain = unsafe SSL_get0_verified_chain(ssl)
        if unsafe martlet_X509_list_count(chain) > 0 {
            for index in unsafe between(chain) {
                let certificate = unsafe martlet_X509_list_at(chain, index)
                guard unsafe X509_up_ref(certificate) == 1 else { return false }
                guard unsafe martlet_X509_list_push(list, certificate) == 1 else {
                    unsafe X509_free(certificate)
                    return false
                }
            }
            return true
        }
        guard let sealed = unsafe sealed(in: SSL_get_session(ssl)) else { return true }
        return unsafe sealed.intermediates.withUnsafeBufferPointer { bytes in
            guard var next = bytes.baseAddress else { return true }
            let end = unsafe next + bytes.count
            while unsafe next < end {
                var position: UnsafePointer<UInt8>? = unsafe next
                guard let certificate = unsafe d2i_X509(nil, &position, end - next), let after = unsafe position,
                    unsafe after > next
                else { return false }
                guard unsafe martlet_X509_list_push(list, certificate) == 1 else {
                    unsafe X509_free(certificate)
                    return false
                }
                unsafe next = after
            }
            return true
        }
    }

    // MARK: Sessions

    @unsafe private static func sealed(
        in session: OpaquePointer?
    ) -> (endMicros: Int64, intermediates: [UInt8])? {
        var data: UnsafeMutableRawPointer?
        var count = 0
        guard unsafe SSL_SESSION_get0_ticket_appdata(session, &data, &count) == 1, let data = unsafe data, count >= 8
        else { return nil }
        let bytes = unsafe UnsafeRawBufferPointer(start: data, count: count)
        let end = unsafe Int64(bigEndian: bytes.loadUnaligned(as: Int64.self))
        return (end, unsafe Array(bytes[8...]))
    }

    /// The system's time, which OpenSSL verifies by too.
    private static var nowMicros: Int64? {
        guard let now = unsafe X509_gmtime_adj(nil, 0) else { return nil }
        defer { unsafe ASN1_TIME_free(now) }
        return unsafe X509Certificate.micros(now)
    }
}

extension TLSHandler {
    /// Until when the peer's verified chain holds, in microseconds since 1970 UTC: the earliest end of its certificates,
    /// intermediates and anchor included, also of a session that was resumed. Nil if the peer showed no certificate.
    public var peerTrustEndMicros: Int64? { connection.peerTrustEndMicros }

    /// Verifies a client's chain anew by what `context` trusts now; nothing is done where that is what the connection
    /// began with. Called on the connection's event loop, after the handshake.
    ///
    /// Returns until when the chain holds, as `peerTrustEndMicros`. Throws an error of kind `certificate` when the chain is
    /// not trusted any more.
    public func recheckPeer(under context: TLSServerContext) throws(TLSError) -> Int64? {
        try connection.recheckPeer(under: context.current.withLockedValue { $0 })
    }
}
