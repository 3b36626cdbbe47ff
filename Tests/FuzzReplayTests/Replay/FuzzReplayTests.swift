import Foundation
import Testing

/// Runs the targets over every input that is kept, without a fuzzer.
@Suite struct FuzzReplayTests {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appending(path: "Fuzz")

    /// Fails when the pack is missing or damaged.
    @Test(arguments: FuzzTarget.all) func theCorpusHolds(_ target: FuzzTarget) throws {
        let pack = Self.folder.appending(path: "Corpus/\(target.name).pack")
        let inputs = try PackedInputs.unpack(Array(Data(contentsOf: pack)))
        #expect(inputs.count > 1, "so few inputs say little")
        for (number, input) in inputs.enumerated() {
            #expect(throws: Never.self, "\(target.name): input \(number) of the pack") { try target.run(input) }
        }
    }

    @Test(arguments: FuzzTarget.all) func whatOnceFailedHolds(_ target: FuzzTarget) throws {
        let folder = Self.folder.appending(path: "Crashers/\(target.name)")
        guard FileManager.default.fileExists(atPath: folder.path) else { return }
        for input in try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil) {
            #expect(throws: Never.self, "\(target.name): \(input.lastPathComponent)") {
                try target.run(Array(Data(contentsOf: input)))
            }
        }
    }

    @Test func everyFileBelongsToATarget() throws {
        let names = FuzzTarget.all.map(\.name)
        let packs = try FileManager.default.contentsOfDirectory(atPath: Self.folder.appending(path: "Corpus").path)
        #expect(Set(packs) == Set(names.map { "\($0).pack" }))
        let crashers = Self.folder.appending(path: "Crashers").path
        let folders = try? FileManager.default.contentsOfDirectory(atPath: crashers)
        for folder in folders ?? [] { #expect(names.contains(folder), "Fuzz/Crashers/\(folder)") }
    }
}
