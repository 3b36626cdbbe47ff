import COpenSSL

/// How TLS failed.
public struct TLSError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What a caller may want to tell apart.
    public enum Kind: Hashable, Sendable {
        /// A file is missing, unreadable, or not what it should be.
        case configuration
        /// The handshake did not come to an agreement.
        case handshakeFailed
        /// The handshake was not finished in time.
        case handshakeTimeout
        /// The peer speaks another protocol over TLS than this end does.
        case noCommonProtocol
        /// The connection ended without the peer saying so.
        case truncated
        /// A record cannot be read or written.
        case protocolViolation
    }

    /// What a caller may want to tell apart.
    public var kind: Kind
    /// For a person; holds no key material.
    public var description: String

    /// An error of those parts.
    public init(_ kind: Kind, _ description: String) {
        self.kind = kind
        self.description = description
    }

    /// An error that says what OpenSSL's error queue says, which is empty afterwards.
    static func fromQueue(_ kind: Kind, _ description: String) -> TLSError {
        let reasons = drainQueue()
        return TLSError(kind, reasons.isEmpty ? description : "\(description): \(reasons.joined(separator: "; "))")
    }

    private static func drainQueue() -> [String] {
        var reasons: [String] = []
        while true {
            let code = ERR_get_error()
            guard code != 0 else { return reasons }
            if let text = unsafe ERR_reason_error_string(code) {
                unsafe reasons.append(String(cString: text))
            } else {
                reasons.append("error \(code)")
            }
        }
    }
}
