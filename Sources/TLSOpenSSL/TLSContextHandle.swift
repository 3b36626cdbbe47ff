import COpenSSL
import Synchronization

/// The one owner of an `SSL_CTX *`, and of what its callbacks point to.
///
/// `@unchecked Sendable`: the context is set up in its initialiser and not changed afterwards; OpenSSL locks what
/// it changes itself (reference count, session cache).
@safe final class TLSContextHandle: @unchecked Sendable {
    /// What ALPN offers or accepts, in the wire's form: each name after its length.
    final class Protocols: Sendable {
        let wire: [UInt8]
        init(_ names: [String]) { wire = names.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) } }
    }

    @unsafe let pointer: OpaquePointer
    private let protocols: Protocols
    /// Where a client keeps the sessions that it may resume.
    let sessions: TLSSessionCache?

    private static let ciphers =
        "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
    /// The size of OpenSSL 3's ticket keys.
    private static let ticketKeyBytes = 80

    @unsafe private init(
        method: OpaquePointer?, allowTLS12: Bool, protocols: [String], sessions: TLSSessionCache?
    ) throws(TLSError) {
        ERR_clear_error()
        guard let pointer = unsafe SSL_CTX_new(method) else { throw .fromQueue(.configuration, "OpenSSL cannot start") }
        unsafe self.pointer = unsafe pointer
        self.protocols = Protocols(protocols)
        self.sessions = sessions
        guard unsafe martlet_ctx_set_min_version(pointer, allowTLS12 ? TLS1_2_VERSION : TLS1_3_VERSION) == 1,
            unsafe SSL_CTX_set_ciphersuites(pointer, Self.ciphers) == 1
        else { throw .fromQueue(.configuration, "OpenSSL knows no TLS 1.3") }
        unsafe SSL_CTX_set_options(
            pointer,
            martlet_op_no_renegotiation() | martlet_op_no_compression() | martlet_op_server_preference())
        // Idle connections give their record buffers back.
        unsafe martlet_ctx_set_mode(pointer, Int(SSL_MODE_RELEASE_BUFFERS))
    }

    deinit { unsafe SSL_CTX_free(pointer) }

    /// A server's context.
    convenience init(server configuration: TLSServerConfiguration) throws(TLSError) {
        try unsafe self.init(
            method: TLS_server_method(), allowTLS12: configuration.allowTLS12, protocols: configuration.alpn,
            sessions: nil)
        try use(certificateFile: configuration.certificateFile, privateKeyFile: configuration.privateKeyFile)
        unsafe martlet_ctx_set_server_session_cache_off(pointer)
        unsafe SSL_CTX_set_alpn_select_cb(
            pointer,
            { _, chosen, chosenCount, offered, offeredCount, argument in
                guard let argument = unsafe argument else { return SSL_TLSEXT_ERR_ALERT_FATAL }
                let protocols = unsafe Unmanaged<Protocols>.fromOpaque(argument).takeUnretainedValue()
                return unsafe protocols.wire.withUnsafeBufferPointer { known in
                    var match: UnsafeMutablePointer<UInt8>?
                    let result = unsafe SSL_select_next_proto(
                        &match, chosenCount, known.baseAddress, UInt32(known.count), offered, offeredCount)
                    guard result == OPENSSL_NPN_NEGOTIATED else { return SSL_TLSEXT_ERR_ALERT_FATAL }
                    unsafe chosen?.pointee = UnsafePointer(match)
                    return SSL_TLSEXT_ERR_OK
                }
            }, Unmanaged.passUnretained(self.protocols).toOpaque())
        guard let clientCAFile = configuration.clientCAFile else { return }
        guard unsafe SSL_CTX_load_verify_locations(pointer, clientCAFile, nil) == 1,
            let names = unsafe SSL_load_client_CA_file(clientCAFile)
        else { throw .fromQueue(.configuration, "cannot use client CA file \(clientCAFile)") }
        unsafe SSL_CTX_set_client_CA_list(pointer, names)
        unsafe SSL_CTX_set_verify(pointer, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
        // A ticket is taken by this service only, and the certificate in it was verified by it.
        let id = Array("martlet".utf8)
        unsafe SSL_CTX_set_session_id_context(pointer, id, UInt32(id.count))
    }

    /// A client's context.
    convenience init(client configuration: TLSClientConfiguration) throws(TLSError) {
        let cache = TLSSessionCache()
        try unsafe self.init(
            method: TLS_client_method(), allowTLS12: configuration.allowTLS12, protocols: configuration.alpn,
            sessions: cache)
        let loaded =
            if let file = configuration.caFile {
                unsafe SSL_CTX_load_verify_locations(pointer, file, nil)
            } else {
                unsafe SSL_CTX_set_default_verify_paths(pointer)
            }
        guard loaded == 1 else {
            throw .fromQueue(.configuration, "cannot use CA file \(configuration.caFile ?? "of the system")")
        }
        unsafe SSL_CTX_set_verify(pointer, SSL_VERIFY_PEER, nil)
        if let certificateFile = configuration.certificateFile {
            guard let privateKeyFile = configuration.privateKeyFile else {
                throw TLSError(.configuration, "certificate file \(certificateFile) needs a private key file")
            }
            try use(certificateFile: certificateFile, privateKeyFile: privateKeyFile)
        }
        let wire = self.protocols.wire
        guard unsafe SSL_CTX_set_alpn_protos(pointer, wire, UInt32(wire.count)) == 0 else {
            throw .fromQueue(.configuration, "cannot offer \(configuration.alpn)")
        }
        unsafe martlet_ctx_set_client_session_cache(pointer)
        unsafe SSL_CTX_set_ex_data(pointer, 0, Unmanaged.passUnretained(cache).toOpaque())
        unsafe SSL_CTX_sess_set_new_cb(pointer) { ssl, session in
            guard let session = unsafe session, let context = unsafe SSL_get_SSL_CTX(ssl),
                let data = unsafe SSL_CTX_get_ex_data(context, 0)
            else { return 0 }
            unsafe Unmanaged<TLSSessionCache>.fromOpaque(data).takeUnretainedValue().add(taking: session)
            return 1
        }
    }

    /// Takes over the ticket keys of another server's context, so that its tickets are still good.
    func takeTicketKeys(from other: TLSContextHandle) {
        var keys = [UInt8](repeating: 0, count: Self.ticketKeyBytes)
        guard unsafe martlet_ctx_get_ticket_keys(other.pointer, &keys, Self.ticketKeyBytes) == 1 else { return }
        _ = unsafe martlet_ctx_set_ticket_keys(pointer, &keys, Self.ticketKeyBytes)
    }

    private func use(certificateFile: String, privateKeyFile: String) throws(TLSError) {
        guard unsafe SSL_CTX_use_certificate_chain_file(pointer, certificateFile) == 1 else {
            throw .fromQueue(.configuration, "cannot use certificate file \(certificateFile)")
        }
        guard unsafe SSL_CTX_use_PrivateKey_file(pointer, privateKeyFile, SSL_FILETYPE_PEM) == 1 else {
            throw .fromQueue(.configuration, "cannot use private key file \(privateKeyFile)")
        }
        guard unsafe SSL_CTX_check_private_key(pointer) == 1 else {
            throw .fromQueue(.configuration, "\(privateKeyFile) is not the key of \(certificateFile)")
        }
    }
}

/// The sessions that a client may resume: a few, each used once (RFC 8446, appendix C.4).
@safe final class TLSSessionCache: Sendable {
    /// The owner of an `SSL_SESSION *`.
    @safe private final class Session: @unchecked Sendable {
        // Guard: immutable; OpenSSL counts references with atomics.
        @unsafe let pointer: OpaquePointer
        init(taking pointer: OpaquePointer) { unsafe self.pointer = unsafe pointer }
        deinit { unsafe SSL_SESSION_free(pointer) }
    }

    private static let countMax = 8
    private let sessions = Mutex<[Session]>([])

    /// Adds a session whose reference is given away.
    @unsafe func add(taking pointer: OpaquePointer) {
        let session = unsafe Session(taking: pointer)
        sessions.withLock { sessions in
            sessions.append(session)
            if sessions.count > Self.countMax { sessions.removeFirst() }
        }
    }

    /// Has a connection resume the newest session, if there is one.
    @unsafe func resume(_ ssl: OpaquePointer) {
        guard let session = sessions.withLock({ $0.popLast() }) else { return }
        _ = unsafe SSL_set_session(ssl, session.pointer)
    }
}
