import Testing

/// The package as it is.
@Suite struct ArchitectureTests {
    @Test(arguments: [("Sources", 40), ("Tests", 40), ("Benchmarks", 5)])
    func everyFileKeepsTheLaw(_ folder: String, _ filesMin: Int) throws {
        let law = HouseLaw(table: try PackageFiles.table())
        let files = try PackageFiles.swiftFiles(in: folder)
        #expect(files.count > filesMin, "so few files are not the package")
        for violation in files.flatMap({ law.violations(in: $0) }) { Issue.record("\(violation)") }
    }

    @Test func everyTargetStandsInTheTable() throws {
        let table = try PackageFiles.table()
        let targets = Set(
            try ["Sources", "Tests", "Benchmarks"].flatMap { try PackageFiles.swiftFiles(in: $0) }.map(\.target))
        for target in targets { #expect(table.imports[target] != nil, "\(target)") }
        for target in table.imports.keys { #expect(targets.contains(target), "\(target) has no file") }
    }

    /// A dependency that no file imports is slack: the next import through it would go unseen.
    @Test func everyDependencyIsImported() throws {
        let files = try ["Sources", "Tests"].flatMap { try PackageFiles.swiftFiles(in: $0) }
        let unused = try PackageFiles.table().unusedDependencies(files)
        #expect(unused.isEmpty, "named in Package.swift, imported nowhere: \(unused)")
    }

    /// The table itself can be changed to allow anything: these are the lines that it may not cross.
    @Test func theTableKeepsTheShape() throws {
        let table = try PackageFiles.table()
        let layers = Set(try PackageFiles.swiftFiles(in: "Sources").map(\.target))
        let engines: Set = [
            "CMartletPostgreSQL", "CMartletSQLite", "MartletStorageMemory", "MartletStoragePostgreSQL",
            "MartletStorageSQLite",
        ]
        // Those that are about one database of a read model, which has nothing to do with the server's.
        let readModels: Set = ["MartletProjectionsPostgreSQL", "MartletProjectionsSQLite"]
        for layer in layers.subtracting(["martlet", "MartletTesting"]).subtracting(engines).subtracting(readModels) {
            let named = try #require(table.imports[layer]).intersection(engines)
            #expect(named.isEmpty, "\(layer) knows an engine by name: \(named)")
        }
        for engine in engines.intersection(layers) {
            let named = try #require(table.imports[engine]).intersection(layers)
            #expect(named.isSubset(of: ["MartletModel", "MartletRecordCodec", "MartletStorage"]), "\(engine)")
        }
        for layer in layers where layer != "MartletTLSOpenSSL" {
            #expect(table.imports[layer]?.contains("CMartletOpenSSL") == false, "\(layer): one owner of TLS")
        }
        for layer in layers where layer != "MartletTesting" {
            #expect(table.imports[layer]?.contains("MartletTesting") == false, "\(layer): no test code in the product")
        }
        #expect(table.imports["MartletModel"]?.isDisjoint(with: layers) == true, "the model stands on nothing")
        for layer in HouseLaw.layersWithoutIO {
            #expect(table.imports[layer]?.contains("NIOPosix") == false, "\(layer) does no I/O")
        }
        #expect(table.imports["MartletClient"]?.contains("MartletServer") == false)
        #expect(table.imports["MartletServer"]?.contains("MartletClient") == false)
    }

    @Test func noLayerImportsItselfInACircle() throws {
        let table = try PackageFiles.table()
        for start in table.imports.keys {
            var reached: Set<String> = []
            var next = Array(table.imports[start] ?? [])
            while let module = next.popLast() {
                if reached.insert(module).inserted { next += table.imports[module] ?? [] }
            }
            #expect(!reached.contains(start), "\(start)")
        }
    }

    /// Were literals or comments cut wrongly, braces would be left over.
    @Test func theStripperUnderstandsEverySourceFile() throws {
        for file in try PackageFiles.swiftFiles(in: "Sources") {
            let code = Array(SwiftCode.strip(file.text).utf8)
            for (open, close) in [("{", "}"), ("(", ")"), ("[", "]")] as [(Unicode.Scalar, Unicode.Scalar)] {
                let opened = code.count { $0 == UInt8(ascii: open) }
                let closed = code.count { $0 == UInt8(ascii: close) }
                #expect(opened == closed, "\(file.path): \(open) \(close)")
            }
            #expect(code.count { $0 == 0x0A } == Array(file.text.utf8).count { $0 == 0x0A }, "\(file.path)")
        }
    }
}
