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
        let folders = ["Sources", "Tests", "Benchmarks"]
        for folder in folders {
            for target in Set(try PackageFiles.swiftFiles(in: folder).map(\.target)) {
                #expect(table.imports[target] != nil, "\(target)")
            }
        }
        let targets = Set(try folders.flatMap { try PackageFiles.folders(in: $0) })
        for target in table.imports.keys { #expect(targets.contains(target), "\(target) has no folder") }
    }

    /// The table itself can be changed to allow anything: these are the lines that it may not cross.
    @Test func theTableKeepsTheShape() throws {
        let table = try PackageFiles.table()
        let layers = Set(try PackageFiles.swiftFiles(in: "Sources").map(\.target))
        let engines: Set = ["StoragePostgreSQL", "StorageSQLite", "CPostgreSQL", "CSQLite"]
        for layer in layers.subtracting(["martlet", "StoragePostgreSQL", "StorageSQLite"]) {
            let named = try #require(table.imports[layer]).intersection(engines)
            #expect(named.isEmpty, "\(layer) knows an engine by name: \(named)")
        }
        for engine in ["StoragePostgreSQL", "StorageSQLite"] {
            let named = try #require(table.imports[engine]).intersection(layers)
            #expect(named == ["EventEncoding", "EventModel", "EventStorage"], "\(engine)")
        }
        for layer in layers where layer != "TLSOpenSSL" {
            #expect(table.imports[layer]?.contains("COpenSSL") == false, "\(layer): one owner of TLS")
        }
        for layer in layers where layer != "EventTesting" {
            #expect(table.imports[layer]?.contains("EventTesting") == false, "\(layer): no test code in the product")
        }
        #expect(table.imports["EventModel"]?.isDisjoint(with: layers) == true, "the model stands on nothing")
        for layer in HouseLaw.layersWithoutIO {
            #expect(table.imports[layer]?.contains("NIOPosix") == false, "\(layer) does no I/O")
        }
        #expect(table.imports["MartletClient"]?.contains("EventServer") == false)
        #expect(table.imports["EventServer"]?.contains("MartletClient") == false)
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
