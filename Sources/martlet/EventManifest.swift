import Foundation
import MartletModel
import MartletTLSOpenSSL

/// The last line of an export: what the lines before it are. With it, an import knows that a file is whole, and as it was
/// written.
struct EventManifest: Codable, Hashable {
    /// Only events after this position.
    var after: UInt64
    /// The tenant's last position when the export began.
    var head: UInt64
    /// How many lines before this one it speaks of.
    var events: UInt64
    /// The SHA-256 of these lines, each with its line break, in hexadecimal.
    var sha256: String
    /// Whose events they were.
    var tenant: String

    private struct Line: Codable {
        var manifest: EventManifest
    }

    private static let beginning = Array(#"{"manifest":"#.utf8)

    /// Its line, without a line break.
    func line() throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = .sortedKeys
        return String(decoding: try encoder.encode(Line(manifest: self)), as: UTF8.self)
    }

    /// What a line says; nil if it is none of a manifest.
    static func decode(_ line: [UInt8]) throws(LineFault) -> EventManifest? {
        guard line.starts(with: beginning) else { return nil }
        do { return try JSONDecoder().decode(Line.self, from: Data(line)).manifest } catch {
            throw LineFault(
                "the manifest is not as export writes it: {\"manifest\":{\"after\",\"events\",\"head\",\"sha256\",\"tenant\"}}"
            )
        }
    }
}

/// The checksum of lines that follow one another.
struct LineDigest {
    private let hash: SHA256
    private(set) var count: UInt64 = 0

    init() throws {
        guard let hash = SHA256() else { throw CommandFailure("OpenSSL has no SHA-256, or no memory for it") }
        self.hash = hash
    }

    /// - Parameter line: with its line break or without; it counts either way.
    mutating func add(_ line: [UInt8]) {
        hash.update(line)
        if line.last != UInt8(ascii: "\n") { hash.update([UInt8(ascii: "\n")]) }
        count += 1
    }

    /// The digest of all lines since the last call.
    mutating func finish() -> String {
        count = 0
        return hash.finish()
    }
}
