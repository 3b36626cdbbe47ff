import CMartletOpenSSL
import NIOCore

/// Owns an `SSL`: one TLS connection, without I/O. Ciphertext goes in by `receive` and out by `takeOutbound`, plaintext
/// goes in by `write` and out by `read`. It belongs to one event loop.
@safe final class SSLConnection {
    /// A TLS record holds at most so much plaintext.
    static let recordBytesMax = 16_384
    /// More than a record's header, padding and authentication code take.
    private static let recordOverheadBytesMax = 64

    private let ssl: OpaquePointer
    private let context: SSLContext
    private let transport = ByteBufferBIO()

    /// A server's end.
    init(server context: SSLContext) throws(TLSError) {
        ErrorQueue.clear()
        unsafe ssl = try Self.make(context)
        self.context = context
        try attachTransport()
        unsafe SSL_set_accept_state(ssl)
    }

    /// A client's end, which asks for `serverName` and offers to resume `session`.
    init(client context: SSLContext, serverName: String, session: SSLSession?) throws(TLSError) {
        ErrorQueue.clear()
        unsafe ssl = try Self.make(context)
        self.context = context
        try attachTransport()
        unsafe SSL_set_connect_state(ssl)
        // The extension is for names only, not for addresses.
        if (try? SocketAddress(ipAddress: serverName, port: 0)) == nil,
            unsafe martlet_SSL_set_server_name(ssl, serverName) != 1
        {
            throw ErrorQueue.configurationError("cannot request the server name '\(serverName)'")
        }
        if let session, unsafe SSL_set_session(ssl, session.pointer) != 1 {
            throw ErrorQueue.configurationError("cannot offer a session")
        }
    }

    private static func make(_ context: SSLContext) throws(TLSError) -> OpaquePointer {
        guard let ssl = unsafe SSL_new(context.pointer) else {
            throw ErrorQueue.configurationError("cannot create a connection")
        }
        if !context.connectionOpened() { unsafe martlet_SSL_set_mode(ssl, Int(SSL_MODE_RELEASE_BUFFERS)) }
        return unsafe ssl
    }

    private func attachTransport() throws(TLSError) {
        let bio = try unsafe transport.makeBIO()
        // The SSL owns the BIO from now on; it is freed with it, before `transport`.
        unsafe SSL_set_bio(ssl, bio, bio)
    }

    deinit {
        unsafe SSL_free(ssl)
        context.connectionClosed()
    }

    // MARK: Ciphertext

    /// Takes ciphertext from the peer, for the next `handshake` or `read`.
    func receive(_ ciphertext: consuming ByteBuffer) {
        if transport.inbound.readableBytes == 0 {
            transport.inbound = ciphertext
        } else {
            transport.inbound.writeBuffer(&ciphertext)
        }
    }

    /// The ciphertext for the peer that calls since the last time have made; nil if there is none.
    func takeOutbound() -> ByteBuffer? {
        guard transport.outbound.readableBytes > 0 else { return nil }
        defer { transport.outbound = ByteBuffer() }
        return transport.outbound
    }

    // MARK: Handshake

    enum HandshakeStep {
        /// The handshake is complete on this side.
        case done
        /// More ciphertext must come.
        case wantRead
        case failed(TLSError)
    }

    /// Goes as far in the handshake as what has been received allows.
    func handshake() -> HandshakeStep {
        ErrorQueue.clear()
        let result = unsafe SSL_do_handshake(ssl)
        if result == 1 {
            transport.heldBytes = 0
            return .done
        }
        if unsafe SSL_get_error(ssl, result) == SSL_ERROR_WANT_READ { return .wantRead }
        return .failed(error(.handshake))
    }

    /// The application protocol that both sides agreed on; nil if ALPN is unused.
    var alpn: String? {
        var bytes: UnsafePointer<UInt8>?
        var length: UInt32 = 0
        unsafe SSL_get0_alpn_selected(ssl, &bytes, &length)
        guard let bytes = unsafe bytes else { return nil }
        return unsafe String(decoding: UnsafeBufferPointer(start: bytes, count: Int(length)), as: UTF8.self)
    }

    /// The connection resumed an earlier session.
    var isResumed: Bool { unsafe SSL_session_reused(ssl) == 1 }

    /// Who the peer is by its verified certificate, which a resumed session remembers; nil if it showed none.
    var peerIdentity: PeerIdentity? {
        guard unsafe SSL_get_verify_result(ssl) == X509_V_OK, let pointer = unsafe SSL_get1_peer_certificate(ssl) else {
            return nil
        }
        return unsafe PeerIdentity(X509Certificate(owning: pointer))
    }

    /// Until when the peer's verified chain holds, in microseconds since 1970 UTC; nil if it showed no certificate.
    var peerTrustEndMicros: Int64? { unsafe PeerTrust.endMicros(of: ssl) }

    /// Verifies the peer's chain anew, by the rules of `rules`, unless those trust the same CAs as this connection's do.
    /// Returns until when it holds, as `peerTrustEndMicros`. Throws an error of kind `certificate` when it is not trusted.
    func recheckPeer(under rules: SSLContext) throws(TLSError) -> Int64? {
        guard rules.anchorsDigest != context.anchorsDigest else { return peerTrustEndMicros }
        return try unsafe PeerTrust.recheck(ssl, under: rules.pointer)
    }

    // MARK: Plaintext

    enum ReadStop {
        /// Everything received is decrypted; more ciphertext must come.
        case wantRead
        /// The peer has said that nothing more will come.
        case closed
        case failed(TLSError)
    }

    /// Decrypts all that has been received onto the end of `plaintext`, and says what it stopped at.
    func read(into plaintext: inout ByteBuffer) -> ReadStop {
        // Plaintext is shorter than its ciphertext, and what OpenSSL holds back is less than one record.
        let held = min(transport.heldBytes, Self.recordBytesMax + Self.recordOverheadBytesMax)
        let room = 64
        plaintext.reserveCapacity(minimumWritableBytes: transport.inbound.readableBytes + held + room)
        while true {
            ErrorQueue.clear()
            var result: Int32 = 0
            let count = unsafe plaintext.writeWithUnsafeMutableBytes(minimumWritableBytes: room) { free in
                var count = 0
                result = unsafe SSL_read_ex(ssl, free.baseAddress, free.count, &count)
                return result == 1 ? count : 0
            }
            if count > 0 {
                if unsafe SSL_pending(ssl) == 0 { transport.heldBytes = 0 }
                // Without read-ahead it takes no byte beyond the record: asking again would only tell that.
                if transport.inbound.readableBytes == 0, unsafe SSL_has_pending(ssl) == 0 { return .wantRead }
                continue
            }
            switch unsafe SSL_get_error(ssl, result) {
            case SSL_ERROR_WANT_READ: return .wantRead
            case SSL_ERROR_ZERO_RETURN: return .closed
            default: return .failed(error(.connection))
            }
        }
    }

    /// Makes room for the records of that much plaintext at once.
    func reserveOutbound(plaintextBytes: Int) {
        let records = plaintextBytes / Self.recordBytesMax + 1
        transport.outbound.reserveCapacity(
            minimumWritableBytes: plaintextBytes + records * Self.recordOverheadBytesMax)
    }

    /// Encrypts all of `plaintext`, in records as long as can be. The transport never blocks, so it is all or an error.
    func write(_ plaintext: inout ByteBuffer) throws(TLSError) {
        guard plaintext.readableBytes > 0 else { return }
        ErrorQueue.clear()
        let result = unsafe plaintext.readWithUnsafeReadableBytes { bytes -> (Int, Int32) in
            var count = 0
            let result = unsafe SSL_write_ex(ssl, bytes.baseAddress, bytes.count, &count)
            return (count, result)
        }
        guard result == 1 else { throw error(.connection) }
    }

    /// Says to the peer that nothing more will come. Only after the handshake, and not after an error.
    func shutDown() {
        ErrorQueue.clear()
        // 0 and 1 tell whether the peer has said so too, which `read` tells as well.
        _ = unsafe SSL_shutdown(ssl)
    }

    // MARK: Errors

    /// Why the peer's certificate was not accepted.
    private func certificateError(_ message: String) -> TLSError {
        let result = unsafe SSL_get_verify_result(ssl)
        let verdict = unsafe X509_verify_cert_error_string(result)
        let text = unsafe verdict.map { unsafe String(cString: $0) } ?? "unknown reason"
        var error = TLSError(.certificate, "\(message): \(text)")
        switch Int32(result) {
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT,
            X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN,
            X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
            error.certificateFault = .unknownCA
        case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
            error.certificateFault = .otherNames(peerNames)
        case X509_V_ERR_CERT_HAS_EXPIRED: error.certificateFault = .expired
        case X509_V_ERR_CERT_NOT_YET_VALID: error.certificateFault = .notYetValid
        default: break
        }
        return error
    }

    /// Whom the certificate that the peer has shown is for, whether it is trusted or not.
    private var peerNames: [String] {
        guard let leaf = unsafe martlet_X509_list_at(SSL_get_peer_cert_chain(ssl), 0), unsafe X509_up_ref(leaf) == 1
        else { return [] }
        let names = unsafe X509Certificate(owning: leaf).alternativeNames
        return names.dnsNames + names.ipAddresses.compactMap { CertificateReport.text(ofAddress: $0) }
    }

    /// What the error queue and the certificate check say about a call that failed.
    private func error(_ kind: TLSError.Kind) -> TLSError {
        let entries = ErrorQueue.drain()
        let texts = entries.isEmpty ? ["OpenSSL gives no reason"] : entries.map(\.text)
        let message = texts.joined(separator: ": ")
        for reason in entries.lazy.compactMap(\.sslReason) {
            switch reason {
            case SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST:
                return TLSError(.notTLS, "the peer speaks plain HTTP, not TLS (\(message))")
            case SSL_R_WRONG_VERSION_NUMBER where kind == .handshake:
                return TLSError(.notTLS, "the peer's bytes are not TLS (\(message))")
            case SSL_R_NO_APPLICATION_PROTOCOL, SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL:
                return TLSError(.noApplicationProtocol, message)
            case SSL_R_CALLBACK_FAILED where kind == .handshake:
                // Only the ClientHello callback fails of itself.
                return TLSError(.noApplicationProtocol, "the client does not use ALPN")
            case SSL_R_CERTIFICATE_VERIFY_FAILED:
                return certificateError(message)
            case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
                return TLSError(.certificate, message)
            case SSL_AD_REASON_OFFSET..<(SSL_AD_REASON_OFFSET + 256):
                return TLSError(.refusedByPeer, message)
            default: continue
            }
        }
        return TLSError(kind, message)
    }
}
