import CMartletPostgreSQL
import Foundation

/// A connection string as libpq takes it, checked so that no message of libpq can show a password of it.
///
/// libpq quotes what it cannot parse, and a password with a character that is not percent-encoded becomes a part of the
/// host, the port or the database's name, which its messages and the server's name. Such strings are refused here, by
/// messages of our own.
struct ConnectionString {
    let text: String
    /// What no message may hold.
    private let secrets: [String]

    /// Shorter ones stand in too many words.
    private static let secretCharactersMin = 3

    private static let advice =
        "in a postgres:// URL, percent-encode these characters of a user name or a password: @ as %40, / as %2F, "
        + ": as %3A, % as %25, # as %23, ? as %3F; or set the password in PGPASSWORD or ~/.pgpass"

    /// - Parameter password: another one, which no message may hold either.
    init(_ text: String, password: String? = nil) throws(PostgresFault) {
        self.text = text
        guard let options = Self.options(text) else {
            throw Self.refusal("the connection string cannot be parsed")
        }
        secrets = Set(["password", "sslpassword"].compactMap { options[$0] } + (password.map { [$0] } ?? []))
            .flatMap { [$0, Self.percentEncoded($0)] }.filter { $0.count >= Self.secretCharactersMin }
            .sorted { $0.count > $1.count }
        for port in options["port", default: ""].split(separator: ",", omittingEmptySubsequences: true) {
            guard let number = UInt32(port.trimmingCharacters(in: .whitespaces)), 1...65_535 ~= number else {
                throw Self.refusal("a port in the connection string is not a number from 1 to 65535")
            }
        }
        // An abstract Unix socket begins with it.
        let hosts = options["host", default: ""].split(separator: ",").map {
            $0.hasPrefix("@") ? $0.dropFirst() : $0[...]
        }
        if Self.isURL(text), hosts.contains(where: { $0.contains("@") }) || Self.pathHoldsAt(text) {
            throw Self.refusal("the connection string contains an @ after the one that ends the password")
        }
    }

    /// A text without what it may hold of passwords.
    func scrubbed(_ message: String) -> String {
        var message = message
        for secret in secrets { message = message.replacing(secret, with: "***") }
        return message
    }

    private static func refusal(_ complaint: String) -> PostgresFault {
        PostgresFault(sqlState: "28000", message: "\(complaint): \(advice)", isConnectionLost: true)
    }

    private static func isURL(_ text: String) -> Bool {
        text.hasPrefix("postgres://") || text.hasPrefix("postgresql://")
    }

    /// Whether what libpq takes for the database's name holds an @: then the password held a slash.
    private static func pathHoldsAt(_ text: String) -> Bool {
        guard let scheme = text.firstRange(of: "://") else { return false }
        let rest = text[scheme.upperBound...]
        guard let slash = rest.firstIndex(of: "/") else { return false }
        return rest[slash...].prefix { $0 != "?" }.contains("@")
    }

    /// What it sets; nil where libpq cannot parse it.
    private static func options(_ text: String) -> [String: String]? {
        var message: UnsafeMutablePointer<CChar>?
        // The message is not used: it quotes.
        defer { unsafe PQfreemem(message) }
        guard let first = unsafe PQconninfoParse(text, &message) else { return nil }
        defer { unsafe PQconninfoFree(first) }
        var options: [String: String] = [:]
        var next = unsafe first
        while let keyword = unsafe next.pointee.keyword {
            if let value = unsafe next.pointee.val {
                options[unsafe String(cString: keyword)] = unsafe String(cString: value)
            }
            unsafe next += 1
        }
        return options
    }

    private static func percentEncoded(_ text: String) -> String {
        text.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? text
    }
}
