import CMartletOpenSSL

/// The hash of RFC 3174, for names that a standard derives by it. It protects nothing.
package enum SHA1 {
    /// The 20 bytes of the digest; nil if OpenSSL fails, for want of memory.
    package static func digest(_ bytes: [UInt8]) -> [UInt8]? {
        var digest = [UInt8](repeating: 0, count: 20)
        let isDone = unsafe bytes.withUnsafeBytes { bytes in
            unsafe digest.withUnsafeMutableBytes { digest in
                unsafe EVP_Digest(bytes.baseAddress, bytes.count, digest.baseAddress, nil, EVP_sha1(), nil) == 1
            }
        }
        ErrorQueue.clear()
        return isDone ? digest : nil
    }
}
