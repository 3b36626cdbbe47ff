import CMartletOpenSSL

/// Owns an `EVP_PKEY`.
@safe struct PrivateKey: ~Copyable {
    let pointer: OpaquePointer

    /// Takes over one reference to `pointer`.
    init(owning pointer: OpaquePointer) {
        unsafe self.pointer = pointer
    }

    /// The private key of a PEM file. Throws an error of kind `configuration` also for a file that everyone may read, or
    /// that others than its owner may write.
    init(pemFile path: String) throws(TLSError) {
        let file = try PEMFile(path)
        // Of the file that is open: the name may mean another one by now.
        let mode = unsafe martlet_BIO_file_mode(file.bio)
        guard mode < 0 || mode & 0o026 == 0 else {
            let who =
                mode & 0o022 == 0 ? "every user of this machine can read" : "users other than its owner can change"
            let octal = String(mode, radix: 8)
            throw TLSError(
                .configuration, "\(who) the private key in \(path), whose mode is \(octal): run chmod 600 \(path)")
        }
        ErrorQueue.clear()
        guard let key = unsafe PEM_read_bio_PrivateKey(file.bio, nil, refusePassphrase, nil) else {
            throw ErrorQueue.configurationError("\(path) contains no readable private key")
        }
        unsafe pointer = key
    }

    deinit {
        unsafe EVP_PKEY_free(pointer)
    }

    /// Whether it belongs to `certificate`.
    func belongs(to certificate: borrowing X509Certificate) -> Bool {
        let matches = unsafe X509_check_private_key(certificate.pointer, pointer) == 1
        ErrorQueue.clear()
        return matches
    }
}

/// Answers OpenSSL's question for a passphrase with "none": by default it would ask on the terminal and wait.
func refusePassphrase(
    _ buffer: UnsafeMutablePointer<CChar>?, _ size: Int32, _ isForWriting: Int32, _ data: UnsafeMutableRawPointer?
) -> Int32 {
    -1
}
