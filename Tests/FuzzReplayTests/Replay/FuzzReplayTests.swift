import Foundation
import Testing

/// Runs the targets over every input that is kept, without a fuzzer.
@Suite struct FuzzReplayTests {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appending(path: "Fuzz")

    private static func inputs(_ kind: String, of target: FuzzTarget) throws -> [URL] {
        let folder = folder.appending(path: "\(kind)/\(target.name)")
        guard FileManager.default.fileExists(atPath: folder.path) else { return [] }
        return try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
    }

    @Test(arguments: FuzzTarget.all) func theCorpusHolds(_ target: FuzzTarget) throws {
        let inputs = try Self.inputs("Corpus", of: target)
        #expect(inputs.count > 1, "so few inputs say little")
        for input in inputs {
            #expect(throws: Never.self, "\(target.name): \(input.lastPathComponent)") {
                try target.run(Array(Data(contentsOf: input)))
            }
        }
    }

    @Test(arguments: FuzzTarget.all) func whatOnceFailedHolds(_ target: FuzzTarget) throws {
        for input in try Self.inputs("Crashers", of: target) {
            #expect(throws: Never.self, "\(target.name): \(input.lastPathComponent)") {
                try target.run(Array(Data(contentsOf: input)))
            }
        }
    }

    @Test func everyFolderBelongsToATarget() throws {
        let names = Set(FuzzTarget.all.map(\.name))
        for kind in ["Corpus", "Crashers"] {
            let folders = try? FileManager.default.contentsOfDirectory(atPath: Self.folder.appending(path: kind).path)
            for folder in folders ?? [] { #expect(names.contains(folder), "Fuzz/\(kind)/\(folder)") }
        }
    }
}
