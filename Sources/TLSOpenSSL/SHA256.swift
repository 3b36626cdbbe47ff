import CMartletOpenSSL

/// The hash of FIPS 180-4, of bytes that come piece by piece.
@safe package final class SHA256 {
    @unsafe private let context: OpaquePointer

    /// The hash of nothing; nil if OpenSSL fails, for want of memory.
    package init?() {
        guard let context = unsafe EVP_MD_CTX_new() else { return nil }
        unsafe self.context = context
        guard unsafe EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1 else { return nil }
    }

    deinit { unsafe EVP_MD_CTX_free(context) }

    /// Takes bytes in.
    package func update(_ bytes: [UInt8]) {
        _ = unsafe bytes.withUnsafeBytes { unsafe EVP_DigestUpdate(context, $0.baseAddress, $0.count) }
    }

    /// The 32 bytes of the digest in hexadecimal. Afterwards it begins anew, with nothing.
    package func finish() -> String {
        var digest = [UInt8](repeating: 0, count: 32)
        unsafe digest.withUnsafeMutableBytes {
            _ = unsafe EVP_DigestFinal_ex(context, $0.assumingMemoryBound(to: UInt8.self).baseAddress, nil)
        }
        _ = unsafe EVP_DigestInit_ex(context, EVP_sha256(), nil)
        return digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
