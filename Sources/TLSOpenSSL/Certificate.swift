import COpenSSL

/// Who a peer is, by its certificate.
public struct PeerIdentity: Hashable, Sendable {
    /// The certificate's subject, as in `CN=orders,O=Example`.
    public var subject: String
    /// The URIs among its subject alternative names.
    public var uris: [String]

    /// An identity of those parts.
    public init(subject: String, uris: [String]) {
        self.subject = subject
        self.uris = uris
    }
}

/// What a certificate file says, for those who check a set-up.
public struct CertificateReport: Hashable, Sendable {
    /// The certificate's subject.
    public var subject: String
    /// Microseconds since 1970 UTC from which it is valid.
    public var notBeforeMicros: Int64
    /// Microseconds since 1970 UTC until which it is valid.
    public var notAfterMicros: Int64
    /// Host names that it names.
    public var dnsNames: [String]
    /// IP addresses that it names.
    public var ipAddresses: [String]
    /// URIs that it names.
    public var uris: [String]
    /// Whether the private key belongs to it; nil where none was given.
    public var matchesKey: Bool?

    /// Reads the first certificate of a PEM file.
    /// - Throws: ``TLSError`` of kind `configuration`, naming the file.
    public init(certificateFile: String, privateKeyFile: String? = nil) throws(TLSError) {
        let certificate = try Certificate(file: certificateFile)
        self = certificate.report
        if let privateKeyFile { matchesKey = try certificate.matches(privateKeyFile: privateKeyFile) }
    }

    fileprivate init(
        subject: String, notBeforeMicros: Int64, notAfterMicros: Int64, dnsNames: [String], ipAddresses: [String],
        uris: [String]
    ) {
        self.subject = subject
        self.notBeforeMicros = notBeforeMicros
        self.notAfterMicros = notAfterMicros
        self.dnsNames = dnsNames
        self.ipAddresses = ipAddresses
        self.uris = uris
    }
}

/// The owner of an `X509 *`.
@safe struct Certificate: ~Copyable {
    @unsafe private let pointer: OpaquePointer

    /// Owns a reference that the caller has.
    @unsafe init(taking pointer: OpaquePointer) { unsafe self.pointer = unsafe pointer }

    /// Reads the first certificate of a PEM file.
    init(file: String) throws(TLSError) {
        ERR_clear_error()
        guard let bio = unsafe BIO_new_file(file, "r") else {
            throw .fromQueue(.configuration, "cannot read certificate file \(file)")
        }
        defer { unsafe BIO_free(bio) }
        guard let pointer = unsafe PEM_read_bio_X509(bio, nil, nil, nil) else {
            throw .fromQueue(.configuration, "certificate file \(file) holds no certificate in PEM")
        }
        unsafe self.pointer = unsafe pointer
    }

    deinit { unsafe X509_free(pointer) }

    var identity: PeerIdentity { PeerIdentity(subject: subject, uris: names(GEN_URI)) }

    var report: CertificateReport {
        CertificateReport(
            subject: subject,
            notBeforeMicros: unsafe martlet_asn1_time_seconds(X509_get0_notBefore(pointer)) * 1_000_000,
            notAfterMicros: unsafe martlet_asn1_time_seconds(X509_get0_notAfter(pointer)) * 1_000_000,
            dnsNames: names(GEN_DNS), ipAddresses: names(GEN_IPADD), uris: names(GEN_URI))
    }

    /// Whether the private key in that PEM file belongs to the certificate.
    func matches(privateKeyFile: String) throws(TLSError) -> Bool {
        ERR_clear_error()
        guard let bio = unsafe BIO_new_file(privateKeyFile, "r") else {
            throw .fromQueue(.configuration, "cannot read private key file \(privateKeyFile)")
        }
        defer { unsafe BIO_free(bio) }
        guard let key = unsafe PEM_read_bio_PrivateKey(bio, nil, nil, nil) else {
            throw .fromQueue(.configuration, "private key file \(privateKeyFile) holds no private key in PEM")
        }
        defer { unsafe EVP_PKEY_free(key) }
        defer { ERR_clear_error() }
        return unsafe X509_check_private_key(pointer, key) == 1
    }

    private var subject: String {
        guard let bio = unsafe BIO_new(BIO_s_mem()) else { return "" }
        defer { unsafe BIO_free(bio) }
        unsafe X509_NAME_print_ex(bio, X509_get_subject_name(pointer), 0, martlet_name_rfc2253())
        var bytes = [UInt8](repeating: 0, count: 1024)
        let count = unsafe BIO_read(bio, &bytes, Int32(bytes.count))
        return String(decoding: bytes.prefix(max(0, Int(count))), as: UTF8.self)
    }

    /// The subject alternative names of one kind.
    private func names(_ kind: Int32) -> [String] {
        guard let all = unsafe martlet_x509_subject_alt_names(pointer) else { return [] }
        defer { unsafe GENERAL_NAMES_free(all) }
        var names: [String] = []
        for index in unsafe 0..<martlet_general_names_count(all) {
            var start: UnsafePointer<UInt8>?
            var count: Int32 = 0
            guard unsafe martlet_general_name(all, index, &start, &count) == kind, let start = unsafe start else {
                continue
            }
            let bytes = unsafe Array(UnsafeBufferPointer(start: start, count: Int(count)))
            names.append(kind == GEN_IPADD ? Self.address(bytes) : String(decoding: bytes, as: UTF8.self))
        }
        return names
    }

    private static func address(_ bytes: [UInt8]) -> String {
        if bytes.count == 4 { return bytes.map { String($0) }.joined(separator: ".") }
        return stride(from: 0, to: bytes.count - 1, by: 2)
            .map { String(UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1]), radix: 16) }
            .joined(separator: ":")
    }
}
