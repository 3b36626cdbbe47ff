import Foundation
public import MartletModel

/// What a message to a peer must not hold: nothing of hosts, ports, paths, SQL and libraries.
public enum PeerTexts {
    private static let words = [
        "sqlite", "postgres", "libpq", "pq", "psql", "sql", "disk i/o", "errno", "no such file", "connection",
        "refused",
        "socket", "host", "port ", "127.0.0.1", "localhost", "::1", "/", "(code", "select ", "insert ", "update ",
        "relation", "schema", "table", "index", "row", "database", "password", "role", "inode", "link",
        "process",
    ]

    /// Those words, and those of `secrets`, that stand in an error's text; empty for one that a peer may see.
    public static func leaks(in error: MartletError, secrets: [String] = []) -> [String] {
        let text = error.description.lowercased()
        let plain = text.replacing(error.reason.rawValue.lowercased(), with: "")
        return (words + secrets.map { $0.lowercased() }).filter { !$0.isEmpty && plain.contains($0) }
    }
}
