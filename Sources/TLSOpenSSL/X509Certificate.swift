import CMartletOpenSSL

/// Owns an `X509`.
@safe struct X509Certificate: ~Copyable {
    let pointer: OpaquePointer

    /// Takes over one reference to `pointer`.
    init(owning pointer: OpaquePointer) {
        unsafe self.pointer = pointer
    }

    /// The first certificate of a PEM file.
    init(pemFile path: String) throws(TLSError) {
        let file = try PEMFile(path)
        guard let certificate = try file.nextCertificate() else {
            throw TLSError(.configuration, "\(path) contains no certificate in PEM format")
        }
        self = certificate
    }

    deinit {
        unsafe X509_free(pointer)
    }

    /// The subject as RFC 2253 writes it, such as `CN=localhost,O=Martlet`.
    var subject: String {
        guard let memory = unsafe BIO_new(BIO_s_mem()) else { return "" }
        defer { unsafe _ = BIO_free(memory) }
        guard unsafe martlet_X509_print_subject(memory, pointer) >= 0 else { return "" }
        var text: UnsafeMutablePointer<CChar>?
        let length = unsafe martlet_BIO_get_mem_data(memory, &text)
        guard length > 0, let text = unsafe text else { return "" }
        return unsafe String(decoding: UnsafeRawBufferPointer(start: text, count: length), as: UTF8.self)
    }

    /// The certificate is valid from then on, in microseconds since 1970 UTC.
    var notBeforeMicros: Int64? { unsafe Self.micros(X509_get0_notBefore(pointer)) }
    /// The certificate is valid until then, in microseconds since 1970 UTC.
    var notAfterMicros: Int64? { unsafe Self.micros(X509_get0_notAfter(pointer)) }

    /// A time in microseconds since 1970 UTC.
    static func micros(_ time: UnsafePointer<ASN1_TIME>?) -> Int64? {
        guard let time = unsafe time, let epoch = unsafe ASN1_TIME_set(nil, 0) else { return nil }
        defer { unsafe ASN1_TIME_free(epoch) }
        var days: Int32 = 0
        var seconds: Int32 = 0
        guard unsafe ASN1_TIME_diff(&days, &seconds, epoch, time) == 1 else { return nil }
        return (Int64(days) * 86_400 + Int64(seconds)) * 1_000_000
    }

    /// SHA-256 of the certificate.
    func fingerprint() throws(TLSError) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 32)
        guard unsafe X509_digest(pointer, EVP_sha256(), &digest, nil) == 1 else {
            throw ErrorQueue.configurationError("cannot hash a certificate")
        }
        return digest
    }

    /// The names that the certificate is for.
    struct AlternativeNames {
        var dnsNames: [String] = []
        var uris: [String] = []
        /// 4 or 16 bytes each.
        var ipAddresses: [[UInt8]] = []
    }

    /// The subject alternative names. A name that is not plain printable ASCII is left out, so that no reader is fooled
    /// by a NUL or a line end in it.
    var alternativeNames: AlternativeNames {
        var result = AlternativeNames()
        guard let extensionValue = unsafe X509_get_ext_d2i(pointer, NID_subject_alt_name, nil, nil) else {
            return result
        }
        let names = OpaquePointer(extensionValue)
        defer { unsafe GENERAL_NAMES_free(names) }
        for index in 0..<max(0, unsafe martlet_GENERAL_NAMES_count(names)) {
            guard let name = unsafe martlet_GENERAL_NAMES_at(names, index),
                let string = unsafe martlet_GENERAL_NAME_string(name)
            else { continue }
            let bytes = unsafe Array(
                UnsafeBufferPointer(start: ASN1_STRING_get0_data(string), count: Int(ASN1_STRING_length(string))))
            switch unsafe martlet_GENERAL_NAME_type(name) {
            case GEN_IPADD where bytes.count == 4 || bytes.count == 16: result.ipAddresses.append(bytes)
            case GEN_DNS: if let text = Self.printableASCII(bytes) { result.dnsNames.append(text) }
            case GEN_URI: if let text = Self.printableASCII(bytes) { result.uris.append(text) }
            default: continue
            }
        }
        return result
    }

    private static func printableASCII(_ bytes: [UInt8]) -> String? {
        bytes.allSatisfy { (0x21...0x7E).contains($0) } ? String(decoding: bytes, as: UTF8.self) : nil
    }
}

/// Owns a `BIO` that reads a PEM file.
@safe struct PEMFile: ~Copyable {
    let path: String
    let bio: OpaquePointer

    init(_ path: String) throws(TLSError) {
        ErrorQueue.clear()
        guard let bio = unsafe BIO_new_file(path, "r") else {
            throw ErrorQueue.configurationError("cannot read \(path)")
        }
        self.path = path
        unsafe self.bio = bio
    }

    deinit {
        unsafe _ = BIO_free(bio)
    }

    /// The next certificate of the file, nil at its end.
    func nextCertificate() throws(TLSError) -> X509Certificate? {
        ErrorQueue.clear()
        if let pointer = unsafe PEM_read_bio_X509(bio, nil, nil, nil) { return unsafe X509Certificate(owning: pointer) }
        if martlet_ERR_reason(ERR_peek_last_error()) == PEM_R_NO_START_LINE {
            ErrorQueue.clear()
            return nil
        }
        throw ErrorQueue.configurationError("\(path) contains a damaged certificate")
    }
}
