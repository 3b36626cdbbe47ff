import Foundation

/// A page of the project's documentation, for tests that hold it to what the code does.
public struct ManualPage: Sendable {
    /// As it is written.
    public let text: String
    /// Its words, with one space between two.
    public var words: String { Self.words(of: text) }

    /// The page `Docs/NAME.md` of this checkout.
    public init(_ name: String) throws {
        let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        text = try String(contentsOf: folder.appending(path: "Docs/\(name).md"), encoding: .utf8)
    }

    /// The words of a text, with one space between two.
    public static func words(of text: some StringProtocol) -> String {
        text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    }
}
