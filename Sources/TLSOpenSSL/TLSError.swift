import CMartletOpenSSL

/// What went wrong with a certificate, a handshake or a connection. It never holds key material.
public struct TLSError: Error, Sendable, Hashable, CustomStringConvertible {
    /// What kind of failure it is. More kinds may come, so a switch needs a default.
    public struct Kind: Sendable, Hashable, CustomStringConvertible {
        /// The kind's name.
        public let description: String

        /// A file cannot be read or a setting cannot be used.
        public static let configuration = Kind(description: "configuration")
        /// We do not accept the peer's certificate: not signed by our CA, expired, or of another name.
        public static let certificate = Kind(description: "certificate")
        /// The peer ended the connection with an alert, which the message names.
        public static let refusedByPeer = Kind(description: "refused by peer")
        /// The two sides have no application protocol (ALPN) in common.
        public static let noApplicationProtocol = Kind(description: "no application protocol")
        /// The peer does not speak TLS.
        public static let notTLS = Kind(description: "not TLS")
        /// The handshake failed in another way.
        public static let handshake = Kind(description: "handshake")
        /// The handshake took too long.
        public static let handshakeTimeout = Kind(description: "handshake timeout")
        /// The peer closed the connection without saying so in TLS: bytes may be missing.
        public static let truncated = Kind(description: "truncated")
        /// More was written before the end of the handshake than is buffered.
        public static let bufferFull = Kind(description: "buffer full")
        /// An established connection broke: a damaged record, or OpenSSL is out of memory.
        public static let connection = Kind(description: "connection")
    }

    /// Why a peer's certificate is not accepted, as far as something can be done about it.
    public enum CertificateFault: Sendable, Hashable {
        /// None of the CAs that are trusted here has signed it.
        case unknownCA
        /// It is for these names and addresses, and not for the one that was asked for.
        case otherNames([String])
        /// It was valid until some time ago.
        case expired
        /// It is valid from some time on.
        case notYetValid
    }

    /// What kind of failure it is.
    public var kind: Kind
    /// What is wrong with the certificate, where the kind is ``Kind/certificate``.
    public internal(set) var certificateFault: CertificateFault?
    /// The failure in words, with OpenSSL's reasons.
    public var message: String

    init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    /// The kind and the message.
    public var description: String { "TLS \(kind): \(message)" }
}

/// This thread's queue of OpenSSL errors.
enum ErrorQueue {
    /// Forgets what earlier calls left behind, so that the next call's result is its own.
    static func clear() {
        martlet_ERR_clear()
    }

    /// Takes all errors off the queue, oldest first.
    static func drain() -> [Entry] {
        var entries: [Entry] = []
        while true {
            let code = ERR_get_error()
            if code == 0 { return entries }
            entries.append(Entry(code: code))
        }
    }

    /// A configuration error made of `attempt` and the queue's text.
    static func configurationError(_ attempt: String) -> TLSError {
        let reasons = drain().map(\.text)
        return TLSError(.configuration, ([attempt] + reasons).joined(separator: ": "))
    }

    struct Entry {
        var code: UInt

        /// The reason code, if the error is the SSL library's own.
        var sslReason: Int32? {
            martlet_ERR_is_ssl(code) != 0 ? martlet_ERR_reason(code) : nil
        }

        /// The reason in words, such as "wrong version number".
        var text: String {
            let full = unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
                guard let base = buffer.baseAddress else { return "" }
                unsafe ERR_error_string_n(code, base, buffer.count)
                return unsafe String(cString: base)
            }
            // "error:CODE:LIBRARY:FUNCTION:REASON", of which only the last part helps.
            let parts = full.split(separator: ":", maxSplits: 4, omittingEmptySubsequences: false)
            return parts.count == 5 ? String(parts[4]) : full
        }
    }
}
