import Foundation
import MartletTesting
import Testing

@Suite struct PagesTests {
    private static let root = URL(filePath: MartletTesting.Repository.root)

    private func files(_ folder: String, _ ending: String) throws -> [(path: String, text: String)] {
        let start = Self.root.appending(path: folder)
        let paths = FileManager.default.enumerator(atPath: start.path)?.compactMap { $0 as? String } ?? []
        return try paths.filter { $0.hasSuffix(ending) && !$0.contains(".build") }.sorted().map {
            ("\(folder)/\($0)", try String(contentsOf: start.appending(path: $0), encoding: .utf8))
        }
    }

    /// Each block of Swift on a page is part of a file that the tests compile.
    @Test func everyBlockIsCompiled() throws {
        let sources = try (files("Tests", ".swift") + files("Examples/Bank/Sources", ".swift")).map { file in
            // The example has its targets use each other; a program of one target needs none of this.
            ManualPage.words(of: file.text.replacing("package ", with: ""))
        }
        let readme = try String(contentsOf: Self.root.appending(path: "README.md"), encoding: .utf8)
        var blocks = 0
        for page in [("README.md", readme)] + (try files("Docs", ".md") + files("Sources/Martlet/Martlet.docc", ".md"))
        {
            for block in page.1.components(separatedBy: "```swift\n").dropFirst() {
                let words = ManualPage.words(of: block.components(separatedBy: "```")[0])
                #expect(sources.contains { $0.contains(words) }, "\(page.0): \(words)")
                blocks += 1
            }
        }
        #expect(blocks >= 20)
    }

    /// The program of README.md is all of Tests/Quickstart, which imports nothing but Martlet.
    @Test func theProgramOfTheReadmeIsWhole() throws {
        let readme = try String(contentsOf: Self.root.appending(path: "README.md"), encoding: .utf8)
        let program = try String(contentsOf: Self.root.appending(path: "Tests/Quickstart/main.swift"), encoding: .utf8)
        #expect(readme.contains("```swift\n\(program)```"))
    }
}
