import Foundation

/// The package that this test is compiled from.
enum PackageFiles {
    static var root: URL {
        URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    }

    static func table() throws -> LayerTable {
        LayerTable(package: try String(contentsOf: root.appending(path: "Package.swift"), encoding: .utf8))
    }

    /// The folders inside a folder of the package.
    static func folders(in folder: String) throws -> [String] {
        try FileManager.default.contentsOfDirectory(
            at: root.appending(path: folder), includingPropertiesForKeys: [.isDirectoryKey]
        ).filter { try $0.resourceValues(forKeys: [.isDirectoryKey]).isDirectory == true }.map(\.lastPathComponent)
    }

    /// All Swift files below a folder of the package.
    static func swiftFiles(in folder: String) throws -> [SourceFile] {
        let start = root.appending(path: folder)
        guard let paths = FileManager.default.enumerator(atPath: start.path) else { return [] }
        return try paths.compactMap { $0 as? String }.filter { $0.hasSuffix(".swift") }.sorted().map { path in
            SourceFile(
                path: folder + "/" + path,
                text: try String(contentsOf: start.appending(path: path), encoding: .utf8))
        }
    }
}
