import CMartletOpenSSL

/// A CA that signs certificates, with keys on the curve P-256: for a first start, and where nobody runs another one.
public struct CertificateAuthority: Sendable {
    /// What a certificate is for.
    public enum Usage: String, Sendable {
        /// To be shown by a server.
        case server = "serverAuth"
        /// To be shown by a client.
        case client = "clientAuth"
    }

    /// A certificate and its private key, each in PEM.
    public struct Issued: Sendable {
        /// The certificate.
        public var certificate: String
        /// Its key, not encrypted.
        public var key: String
    }

    /// The CA's own certificate and key.
    public let own: Issued

    /// A new CA.
    /// - Parameters:
    ///   - name: its common name, of 1 to 64 bytes.
    ///   - days: how long it is valid.
    /// - Throws: an error of kind `configuration` for a name that cannot be used.
    public init(name: String, days: Int) throws(TLSError) {
        let key = try EllipticKey()
        let draft = try CertificateDraft()
        try draft.fill(name: name, days: days, key: key)
        try unsafe draft.sign(
            [
                (NID_basic_constraints, "critical,CA:TRUE,pathlen:0"), (NID_key_usage, "critical,keyCertSign,cRLSign"),
                (NID_subject_key_identifier, "hash"),
            ], issuer: nil, issuerKey: key.pointer)
        own = Issued(certificate: try draft.pem(), key: try key.pem())
    }

    /// A CA that there is.
    /// - Throws: an error of kind `configuration` that names the file that cannot be used.
    public init(certificateFile: String, keyFile: String) throws(TLSError) {
        let known = try X509Certificate(pemFile: certificateFile)
        let key = try PrivateKey(pemFile: keyFile)
        guard key.belongs(to: known) else {
            throw TLSError(.configuration, "the private key in \(keyFile) is not that of \(certificateFile)")
        }
        own = Issued(certificate: try known.pem(), key: try unsafe EllipticKey.pem(of: key.pointer))
    }

    /// A certificate with a new key.
    /// - Parameters:
    ///   - name: its common name, which is a text for people, of 1 to 64 bytes.
    ///   - alternativeNames: whom it is for, as in `DNS:localhost`, `IP:127.0.0.1`, `URI:spiffe://…`; none of them with a
    ///     comma.
    ///   - days: how long it is valid.
    /// - Throws: an error of kind `configuration` for a name that cannot be used.
    public func issue(
        name: String, for usage: Usage, alternativeNames: [String], days: Int
    ) throws(TLSError) -> Issued {
        let issuer = try X509Certificate(pem: own.certificate)
        let issuerKey = try PrivateKey(pem: own.key)
        let key = try EllipticKey()
        let draft = try CertificateDraft()
        try draft.fill(name: name, days: days, key: key)
        try unsafe draft.sign(
            [
                (NID_basic_constraints, "critical,CA:FALSE"), (NID_key_usage, "critical,digitalSignature"),
                (NID_ext_key_usage, usage.rawValue), (NID_subject_key_identifier, "hash"),
                (NID_authority_key_identifier, "keyid"),
                (NID_subject_alt_name, alternativeNames.joined(separator: ",")),
            ], issuer: issuer.pointer, issuerKey: issuerKey.pointer)
        return Issued(certificate: try draft.pem(), key: try key.pem())
    }
}

/// A new key.
@safe private struct EllipticKey: ~Copyable {
    let pointer: OpaquePointer

    init() throws(TLSError) {
        ErrorQueue.clear()
        guard let key = unsafe martlet_EVP_new_key() else { throw ErrorQueue.configurationError("cannot make a key") }
        unsafe pointer = key
    }

    deinit { unsafe EVP_PKEY_free(pointer) }

    func pem() throws(TLSError) -> String { try unsafe Self.pem(of: pointer) }

    @unsafe static func pem(of key: OpaquePointer) throws(TLSError) -> String {
        try unsafe PEMText.write("a key") { bio in
            unsafe PEM_write_bio_PKCS8PrivateKey(bio, key, nil, nil, 0, nil, nil)
        }
    }
}

/// A certificate that is not signed yet.
@safe private struct CertificateDraft: ~Copyable {
    let pointer: OpaquePointer

    init() throws(TLSError) {
        ErrorQueue.clear()
        guard let certificate = unsafe X509_new() else {
            throw ErrorQueue.configurationError("cannot make a certificate")
        }
        unsafe pointer = certificate
    }

    deinit { unsafe X509_free(pointer) }

    /// Says whose it is, and for how long.
    func fill(name: String, days: Int, key: borrowing EllipticKey) throws(TLSError) {
        let serial = UInt64.random(in: 1...UInt64(Int64.max))
        let subject = unsafe X509_get_subject_name(pointer)
        let bytes = Array(name.utf8)
        guard unsafe X509_set_version(pointer, 2) == 1,
            unsafe ASN1_INTEGER_set_uint64(X509_get_serialNumber(pointer), serial) == 1,
            // Clocks of other machines may be behind.
            unsafe X509_gmtime_adj(X509_getm_notBefore(pointer), -300) != nil,
            unsafe X509_time_adj_ex(X509_getm_notAfter(pointer), Int32(days), 0, nil) != nil,
            unsafe X509_set_pubkey(pointer, key.pointer) == 1,
            unsafe X509_NAME_add_entry_by_txt(
                subject, "CN", MBSTRING_UTF8, bytes, Int32(bytes.count), -1, 0) == 1
        else { throw ErrorQueue.configurationError("cannot make a certificate for '\(name)'") }
    }

    /// - Parameter issuer: nil where it signs itself.
    func sign(
        _ extensions: [(nid: Int32, value: String)], issuer: OpaquePointer?, issuerKey: OpaquePointer
    ) throws(TLSError) {
        let issuer = unsafe issuer ?? pointer
        guard unsafe X509_set_issuer_name(pointer, X509_get_subject_name(issuer)) == 1 else {
            throw ErrorQueue.configurationError("cannot name the CA of a certificate")
        }
        for (nid, value) in extensions {
            guard unsafe martlet_X509_add_extension(pointer, issuer, nid, value) == 1 else {
                throw ErrorQueue.configurationError("a certificate cannot say '\(value)'")
            }
        }
        guard unsafe X509_sign(pointer, issuerKey, EVP_sha256()) > 0 else {
            throw ErrorQueue.configurationError("cannot sign a certificate")
        }
    }

    func pem() throws(TLSError) -> String {
        try unsafe PEMText.write("a certificate") { bio in unsafe PEM_write_bio_X509(bio, pointer) }
    }
}

/// Texts in PEM, in memory.
private enum PEMText {
    @unsafe static func read(
        _ text: String, _ what: String, _ body: (OpaquePointer) -> OpaquePointer?
    ) throws(TLSError) -> OpaquePointer {
        ErrorQueue.clear()
        let bytes = Array(text.utf8)
        let pointer: OpaquePointer? = unsafe bytes.withUnsafeBytes { bytes in
            guard let bio = unsafe BIO_new_mem_buf(bytes.baseAddress, Int32(bytes.count)) else { return nil }
            defer { unsafe _ = BIO_free(bio) }
            return unsafe body(bio)
        }
        guard let pointer = unsafe pointer else { throw ErrorQueue.configurationError("a text is not \(what)") }
        return unsafe pointer
    }

    static func write(_ what: String, _ body: (OpaquePointer) -> Int32) throws(TLSError) -> String {
        ErrorQueue.clear()
        guard let bio = unsafe BIO_new(BIO_s_mem()) else { throw ErrorQueue.configurationError("cannot write \(what)") }
        defer { unsafe _ = BIO_free(bio) }
        var text: UnsafeMutablePointer<CChar>?
        guard unsafe body(bio) == 1 else { throw ErrorQueue.configurationError("cannot write \(what)") }
        let length = unsafe martlet_BIO_get_mem_data(bio, &text)
        guard length > 0, let text = unsafe text else { throw ErrorQueue.configurationError("cannot write \(what)") }
        return unsafe String(decoding: UnsafeRawBufferPointer(start: text, count: length), as: UTF8.self)
    }
}

extension X509Certificate {
    /// The first certificate of a text.
    fileprivate init(pem: String) throws(TLSError) {
        let pointer = try unsafe PEMText.read(pem, "a certificate") { bio in
            unsafe PEM_read_bio_X509(bio, nil, nil, nil)
        }
        unsafe self.init(owning: pointer)
    }

    fileprivate func pem() throws(TLSError) -> String {
        try unsafe PEMText.write("a certificate") { bio in unsafe PEM_write_bio_X509(bio, pointer) }
    }
}

extension PrivateKey {
    /// The key of a text.
    fileprivate init(pem: String) throws(TLSError) {
        let pointer = try unsafe PEMText.read(pem, "a private key") { bio in
            unsafe PEM_read_bio_PrivateKey(bio, nil, refusePassphrase, nil)
        }
        unsafe self.init(owning: pointer)
    }
}
