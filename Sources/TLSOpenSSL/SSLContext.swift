import CMartletOpenSSL
import NIOConcurrencyHelpers

/// Owns an `SSL_CTX`: the certificates and rules that connections are made with.
///
/// `@unchecked Sendable`: `init` sets up everything, afterwards nothing changes; making connections from one `SSL_CTX` on
/// several threads is safe by OpenSSL's own locks.
@safe final class SSLContext: @unchecked Sendable {
    let pointer: OpaquePointer
    private let alpn: ALPNList
    /// The sessions that this client may resume; nil in a server.
    private let sessions: ClientSessions?
    /// A digest of the client CAs, in their order.
    private(set) var anchorsDigest: [UInt8] = []
    /// How many connections are open.
    private let connectionCount = NIOLockedValueBox(0)

    private init(_ pointer: OpaquePointer?, alpn: [String], sessions: ClientSessions?) throws(TLSError) {
        guard let pointer = unsafe pointer else { throw ErrorQueue.configurationError("cannot create a context") }
        unsafe self.pointer = pointer
        do {
            self.alpn = try ALPNList(alpn)
        } catch {
            unsafe SSL_CTX_free(pointer)
            throw error
        }
        self.sessions = sessions
    }

    deinit {
        unsafe SSL_CTX_free(pointer)
    }

    /// So many connections keep their record buffers, 34 KiB each, between records; those beyond give them back and pay
    /// for new ones at each record, so that ten thousand idle ones hold no hundreds of megabytes.
    static let bufferedConnectionsMax = 1_024

    /// A connection is made.
    /// - Returns: whether it may keep its record buffers.
    func connectionOpened() -> Bool {
        connectionCount.withLockedValue { count in
            count += 1
            return count <= Self.bufferedConnectionsMax
        }
    }

    /// A connection is gone.
    func connectionClosed() { connectionCount.withLockedValue { $0 -= 1 } }

    /// A server's context. It opens session tickets that `predecessor` has sealed.
    static func server(
        _ configuration: TLSServerConfiguration, after predecessor: SSLContext?
    ) throws(TLSError) -> SSLContext {
        ErrorQueue.clear()
        let context = try unsafe SSLContext(
            SSL_CTX_new(TLS_server_method()), alpn: configuration.alpn, sessions: nil)
        try context.setRules(allowTLS12: configuration.allowTLS12)
        try context.loadCertificate(configuration.certificateFile, key: configuration.privateKeyFile)
        try context.setClientVerification(caFile: configuration.clientCAFile)
        // Tickets hold all of a session; a cache besides would only grow.
        unsafe martlet_SSL_CTX_set_session_cache_mode(context.pointer, Int(SSL_SESS_CACHE_OFF))
        if let predecessor, unsafe martlet_SSL_CTX_copy_ticket_keys(predecessor.pointer, context.pointer) != 1 {
            throw ErrorQueue.configurationError("cannot keep the session ticket keys")
        }
        context.setServerCallbacks()
        return context
    }

    /// A client's context. Sessions that servers offer are kept in `sessions`.
    static func client(
        _ configuration: TLSClientConfiguration, sessions: ClientSessions
    ) throws(TLSError) -> SSLContext {
        ErrorQueue.clear()
        let context = try unsafe SSLContext(
            SSL_CTX_new(TLS_client_method()), alpn: configuration.alpn, sessions: sessions)
        try context.setRules(allowTLS12: configuration.allowTLS12)
        switch (configuration.certificateFile, configuration.privateKeyFile) {
        case (let certificate?, let key?): try context.loadCertificate(certificate, key: key)
        case (nil, nil): break
        default:
            throw TLSError(
                .configuration, "a client certificate and its private key must be given together; one is missing")
        }
        try context.setServerVerification(caFile: configuration.caFile, serverName: configuration.serverName)
        // Unlike its neighbours, this function answers 0 when all is well.
        guard unsafe SSL_CTX_set_alpn_protos(context.pointer, context.alpn.bytes, UInt32(context.alpn.bytes.count)) == 0
        else { throw ErrorQueue.configurationError("cannot set the ALPN names") }
        context.setClientCallbacks()
        return context
    }

    private func setRules(allowTLS12: Bool) throws(TLSError) {
        unsafe martlet_SSL_CTX_set_house_options(pointer)
        unsafe martlet_SSL_CTX_set_mode(pointer, Int(SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER))
        unsafe SSL_CTX_set_default_passwd_cb(pointer, refusePassphrase)
        // AES-128 first: it is the fastest and as good as the rest.
        let suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
        guard
            unsafe martlet_SSL_CTX_set_min_proto_version(pointer, allowTLS12 ? TLS1_2_VERSION : TLS1_3_VERSION) == 1,
            unsafe SSL_CTX_set_ciphersuites(pointer, suites) == 1,
            unsafe SSL_CTX_set_cipher_list(pointer, "ECDHE+AESGCM:ECDHE+CHACHA20") == 1
        else { throw ErrorQueue.configurationError("cannot set the TLS version and the ciphers") }
    }

    private func loadCertificate(_ certificateFile: String, key keyFile: String) throws(TLSError) {
        guard unsafe SSL_CTX_use_certificate_chain_file(pointer, certificateFile) == 1 else {
            throw ErrorQueue.configurationError("cannot use the certificate in \(certificateFile)")
        }
        let key = try PrivateKey(pemFile: keyFile)
        guard unsafe SSL_CTX_use_PrivateKey(pointer, key.pointer) == 1,
            unsafe SSL_CTX_check_private_key(pointer) == 1
        else { throw ErrorQueue.configurationError("cannot use the private key in \(keyFile)") }
    }

    /// Asks clients for a certificate if `caFile` is set, and ties sessions to the CAs: one that was opened under other
    /// CAs, or under none, is not resumed.
    private func setClientVerification(caFile: String?) throws(TLSError) {
        var policy: [UInt8] = []
        if let caFile {
            let file = try PEMFile(caFile)
            while let certificate = try file.nextCertificate() {
                policy += try certificate.fingerprint()
                guard unsafe X509_STORE_add_cert(SSL_CTX_get_cert_store(pointer), certificate.pointer) == 1,
                    unsafe SSL_CTX_add_client_CA(pointer, certificate.pointer) == 1
                else { throw ErrorQueue.configurationError("cannot use a client CA in \(caFile)") }
            }
            guard !policy.isEmpty else {
                throw TLSError(.configuration, "\(caFile) contains no certificate in PEM format")
            }
            trustTheGivenOnly()
            unsafe SSL_CTX_set_verify(pointer, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
        }
        var digest = [UInt8](repeating: 0, count: 32)
        guard unsafe EVP_Digest(policy, policy.count, &digest, nil, EVP_sha256(), nil) == 1,
            unsafe SSL_CTX_set_session_id_context(pointer, digest, UInt32(digest.count)) == 1
        else { throw ErrorQueue.configurationError("cannot set the session context") }
        anchorsDigest = digest
    }

    /// Each certificate that was given is an anchor, whoever has signed it: an issuing CA needs no root beside it, which
    /// would let in all of the root's other CAs too.
    private func trustTheGivenOnly() {
        unsafe _ = X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(pointer), UInt(X509_V_FLAG_PARTIAL_CHAIN))
    }

    private func setServerVerification(caFile: String?, serverName: String) throws(TLSError) {
        if let caFile {
            guard unsafe SSL_CTX_load_verify_file(pointer, caFile) == 1 else {
                throw ErrorQueue.configurationError("cannot use the CA certificates in \(caFile)")
            }
            trustTheGivenOnly()
        } else if unsafe SSL_CTX_set_default_verify_paths(pointer) != 1 {
            throw ErrorQueue.configurationError("cannot use the system's CA certificates")
        }
        let parameters = unsafe SSL_CTX_get0_param(pointer)
        // The common name is a text for people: only alternative names say whom a certificate is for.
        unsafe X509_VERIFY_PARAM_set_hostflags(
            parameters, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT))
        // An empty name would mean that any name will do.
        let isSet =
            !serverName.isEmpty && !serverName.utf8.contains(0)
            && (unsafe X509_VERIFY_PARAM_set1_ip_asc(parameters, serverName) == 1
                || X509_VERIFY_PARAM_set1_host(parameters, serverName, serverName.utf8.count) == 1)
        guard isSet else {
            throw ErrorQueue.configurationError("'\(serverName)' is neither a host name nor an IP address")
        }
        ErrorQueue.clear()
        unsafe SSL_CTX_set_verify(pointer, SSL_VERIFY_PEER, nil)
    }

    // MARK: Callbacks
    // OpenSSL calls them on the connection's event loop, with this context as the argument. Each connection keeps its
    // context, so the argument is alive.

    private func setServerCallbacks() {
        let argument = unsafe Unmanaged.passUnretained(self).toOpaque()
        if !alpn.bytes.isEmpty {
            unsafe SSL_CTX_set_client_hello_cb(
                pointer,
                { ssl, alert, _ in
                    // The ALPN callback does not run for a client that leaves ALPN out.
                    var content: UnsafePointer<UInt8>?
                    var length = 0
                    let type = UInt32(TLSEXT_TYPE_application_layer_protocol_negotiation)
                    if unsafe SSL_client_hello_get0_ext(ssl, type, &content, &length) == 1 {
                        return SSL_CLIENT_HELLO_SUCCESS
                    }
                    unsafe alert?.pointee = SSL_AD_NO_APPLICATION_PROTOCOL
                    return SSL_CLIENT_HELLO_ERROR
                }, nil)
            unsafe SSL_CTX_set_alpn_select_cb(
                pointer,
                { _, chosen, chosenLength, offered, offeredLength, argument in
                    guard let context = unsafe SSLContext.context(argument), let offered = unsafe offered else {
                        return SSL_TLSEXT_ERR_ALERT_FATAL
                    }
                    let offers = unsafe Array(UnsafeBufferPointer(start: offered, count: Int(offeredLength)))
                    guard let range = context.alpn.firstMatch(in: offers) else {
                        return SSL_TLSEXT_ERR_ALERT_FATAL
                    }
                    unsafe chosen?.pointee = offered + range.lowerBound
                    unsafe chosenLength?.pointee = UInt8(range.count)
                    return SSL_TLSEXT_ERR_OK
                }, argument)
        }
        unsafe SSL_CTX_set_session_ticket_cb(
            pointer,
            { ssl, _ in unsafe PeerTrust.seal(ssl, into: SSL_get_session(ssl)) ? 1 : 0 },
            { _, session, _, _, status, _ in
                switch status {
                case SSL_TICKET_SUCCESS, SSL_TICKET_SUCCESS_RENEW:
                    // What has expired since, be it an intermediate, must not live on in a ticket.
                    guard unsafe PeerTrust.isResumable(session) else { return SSL_TICKET_RETURN_IGNORE_RENEW }
                    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW
                default:
                    return SSL_TICKET_RETURN_IGNORE_RENEW
                }
            }, nil)
    }

    private func setClientCallbacks() {
        unsafe martlet_SSL_CTX_set_session_cache_mode(
            pointer, Int(SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL))
        unsafe martlet_SSL_CTX_set_owner(pointer, Unmanaged.passUnretained(self).toOpaque())
        unsafe SSL_CTX_sess_set_new_cb(pointer) { ssl, session in
            guard let session = unsafe session,
                let context = unsafe SSLContext.context(martlet_SSL_CTX_get_owner(SSL_get_SSL_CTX(ssl)))
            else { return 0 }
            guard unsafe PeerTrust.seal(ssl, into: session) else { return 0 }
            unsafe context.sessions?.add(SSLSession(owning: session))
            // 1: the reference to the session is ours now.
            return 1
        }
    }

    private static func context(_ argument: UnsafeMutableRawPointer?) -> SSLContext? {
        guard let argument = unsafe argument else { return nil }
        return unsafe Unmanaged<SSLContext>.fromOpaque(argument).takeUnretainedValue()
    }
}
