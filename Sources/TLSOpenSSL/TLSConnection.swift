import COpenSSL
import NIOCore

/// The one owner of an `SSL *`: encrypted bytes in and out, plain bytes in and out, no I/O.
///
/// Used on one event loop. OpenSSL's error queue belongs to the thread and not to the connection: it is
/// cleared before every call whose result is looked up in it.
@safe final class TLSConnection {
    /// What came of a step of the handshake.
    enum HandshakeResult {
        case done
        /// More bytes must come in first.
        case wantRead
        case failed(TLSError)
    }

    /// What came of reading.
    enum ReadResult {
        /// Plain bytes were added.
        case read
        /// More bytes must come in first.
        case wantRead
        /// The peer has closed its side, and said so.
        case closed
        case failed(TLSError)
    }

    @unsafe private let ssl: OpaquePointer
    private let bio = ByteBufferBIO()
    /// Keeps what the context's callbacks point to.
    private let context: TLSContextHandle

    private static let recordBytes = 16 << 10

    /// A connection that has not begun its handshake.
    init(_ context: TLSContextHandle, isServer: Bool) throws(TLSError) {
        guard let ssl = unsafe SSL_new(context.pointer) else {
            throw .fromQueue(.configuration, "no memory for a connection")
        }
        guard let bio = unsafe bio.makeBIO() else {
            unsafe SSL_free(ssl)
            throw .fromQueue(.configuration, "no memory for a connection")
        }
        // One BIO for both directions: SSL_set_bio takes the one reference.
        unsafe SSL_set_bio(ssl, bio, bio)
        if isServer { unsafe SSL_set_accept_state(ssl) } else { unsafe SSL_set_connect_state(ssl) }
        unsafe self.ssl = unsafe ssl
        self.context = context
    }

    deinit { unsafe SSL_free(ssl) }

    /// Calls `body` with the handle, to set it up before the handshake.
    @unsafe func withHandle<Result>(_ body: (OpaquePointer) -> Result) -> Result { unsafe body(ssl) }

    /// Adds encrypted bytes that came in.
    func receive(_ bytes: ByteBuffer) { bio.receive(bytes) }

    /// Takes encrypted bytes that are to go out.
    func takeOutbound() -> ByteBuffer? { bio.takeOutbound() }

    /// Goes on with the handshake.
    func handshake() -> HandshakeResult {
        ERR_clear_error()
        let result = unsafe SSL_do_handshake(ssl)
        if result == 1 { return .done }
        switch unsafe SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return .wantRead
        default: return .failed(.fromQueue(.handshakeFailed, "the TLS handshake failed\(verificationFault)"))
        }
    }

    private var verificationFault: String {
        let code = unsafe SSL_get_verify_result(ssl)
        guard code != Int(X509_V_OK), let text = unsafe X509_verify_cert_error_string(code) else { return "" }
        return unsafe " (the peer's certificate: \(String(cString: text)))"
    }

    /// Decrypts the next record into `buffer`.
    func read(into buffer: inout ByteBuffer) -> ReadResult {
        ERR_clear_error()
        var count = 0
        var result: Int32 = 0
        unsafe buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: Self.recordBytes) { target in
            result = unsafe SSL_read_ex(ssl, target.baseAddress, target.count, &count)
            return count
        }
        if result == 1 { return .read }
        switch unsafe SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return .wantRead
        case SSL_ERROR_ZERO_RETURN: return .closed
        default: return .failed(.fromQueue(.protocolViolation, "a TLS record cannot be read"))
        }
    }

    /// Encrypts all of it, in full records but for the last one.
    func write(_ plain: ByteBuffer) throws(TLSError) {
        guard plain.readableBytes > 0 else { return }
        ERR_clear_error()
        var count = 0
        let result = unsafe plain.withUnsafeReadableBytes { bytes in
            unsafe SSL_write_ex(ssl, bytes.baseAddress, bytes.count, &count)
        }
        // The BIO takes everything, so that a write is never partial.
        guard result == 1, count == plain.readableBytes else {
            throw .fromQueue(.protocolViolation, "a TLS record cannot be written")
        }
    }

    /// Says that this end writes no more (close_notify).
    func closeOutput() {
        ERR_clear_error()
        _ = unsafe SSL_shutdown(ssl)
    }

    /// What ALPN agreed on; nil for nothing.
    var negotiatedProtocol: String? {
        var bytes: UnsafePointer<UInt8>?
        var count: UInt32 = 0
        unsafe SSL_get0_alpn_selected(ssl, &bytes, &count)
        guard let bytes = unsafe bytes, count > 0 else { return nil }
        return unsafe String(decoding: UnsafeBufferPointer(start: bytes, count: Int(count)), as: UTF8.self)
    }

    /// Whether the handshake resumed an earlier session.
    var isResumed: Bool { unsafe SSL_session_reused(ssl) == 1 }

    /// Who the peer is, by its verified certificate; nil without one.
    var peerIdentity: PeerIdentity? {
        guard let certificate = unsafe SSL_get1_peer_certificate(ssl) else { return nil }
        return unsafe Certificate(taking: certificate).identity
    }
}
