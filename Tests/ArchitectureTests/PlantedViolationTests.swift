import Testing

/// Each rule finds what is planted for it, and nothing else.
@Suite struct PlantedViolationTests {
    private static let package = """
        extension Target.Dependency {
            static let nioCore = product(name: "NIOCore", package: "swift-nio")
            static let collections = product(name: "Collections", package: "swift-collections")
            static let nioPosix = product(name: "NIOPosix", package: "swift-nio")
        }
        let package = Package(
            targets: [
                // layer("Ghost", []),
                layer("MartletModel", [.nioCore]),
                layer(
                    "MartletServer",
                    [
                        "MartletModel", .collections, .nioCore,
                        .nioPosix,
                    ]),
                .executableTarget(
                    name: "martlet",
                    dependencies: ["MartletServer"], swiftSettings: house),
                tests("ModelTests", ["MartletModel"]),
                tests("ArchitectureTests", []),
            ]
        )
        """

    private let law = HouseLaw(table: LayerTable(package: package))

    /// The rules that a text breaks, and where.
    private func found(_ text: String, in path: String = "Sources/Server/A.swift") -> [(Violation.Rule, Int)] {
        law.violations(in: SourceFile(path: path, text: text)).map { ($0.rule, $0.line) }
    }

    private func finds(
        _ rule: Violation.Rule, _ text: String, line: Int = 1, in path: String = "Sources/Server/A.swift",
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let found = found(text, in: path)
        #expect(
            found.count == 1 && found.first?.0 == rule && found.first?.1 == line, "\(text): \(found)",
            sourceLocation: sourceLocation)
    }

    private func findsNothing(
        _ text: String, in path: String = "Sources/Server/A.swift",
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let found = found(text, in: path)
        #expect(found.isEmpty, "\(text): \(found)", sourceLocation: sourceLocation)
    }

    @Test func theTableIsRead() {
        let table = LayerTable(package: Self.package).imports
        #expect(Set(table.keys) == ["MartletModel", "MartletServer", "martlet", "ModelTests", "ArchitectureTests"])
        #expect(table["MartletModel"] == ["NIOCore"])
        #expect(table["MartletServer"]?.isSuperset(of: ["MartletModel", "DequeModule", "NIOCore", "NIOPosix"]) == true)
        #expect(table["martlet"] == ["MartletServer"] && table["ArchitectureTests"] == [])
    }

    @Test func anImportOutsideTheLayerIsFound() {
        let texts = [
            "import Logging", "public import Logging", "internal import Logging", "@testable import Logging",
            "@preconcurrency public import Logging", "@_spi(Inside) import Logging", "@_exported import Logging",
            "import struct Logging.Logger", "  import Logging", "import MartletModel; import Logging",
            "import\tLogging",
            "private import `Logging`", "import MartletStorageSQLite",
        ]
        for text in texts { finds(.importOutsideLayer, text) }
        finds(.importOutsideLayer, "#if os(Linux)\n    import Logging\n#endif", line: 2)
        finds(.importOutsideLayer, "/* why */ import Logging // this")
        finds(.importOutsideLayer, "import MartletServer", in: "Sources/Model/A.swift")
        finds(.importOutsideLayer, "import NIOPosix", in: "Sources/Model/A.swift")
        finds(.importOutsideLayer, "import Testing")
        finds(.importOutsideLayer, "import MartletServer", in: "Tests/ModelTests/A.swift")
        finds(.importOutsideLayer, "import MartletModel", in: "Sources/martlet/Deep/A.swift")
    }

    @Test func eachModuleIsForbiddenInEachRealLayerThatDoesNotNameIt() throws {
        let table = try PackageFiles.table()
        let law = HouseLaw(table: table)
        let modules = table.imports.values.reduce(into: Set<String>()) { $0.formUnion($1) }
        #expect(modules.count > 20)
        var planted = 0
        for (target, allowed) in table.imports {
            for module in modules where module != target {
                let layer = target == "Martlet" ? target : String(target.dropFirst("Martlet".count))
                let folder = target.hasPrefix("Martlet") ? "Sources/\(layer)" : "Tests/\(target)"
                let file = SourceFile(path: "\(folder)/A.swift", text: "public import \(module)\n")
                let found = law.violations(in: file).map(\.rule)
                #expect(found == (allowed.contains(module) ? [] : [.importOutsideLayer]), "\(module) in \(target)")
                planted += 1
            }
        }
        #expect(planted > 500)
    }

    @Test func aModuleOfTheSamePackageIsNamedByItself() {
        finds(.importOutsideLayer, "import NIOConcurrencyHelpers")
    }

    @Test func aDependencyThatNobodyImportsIsFound() {
        let used = SourceFile(
            path: "Sources/Server/A.swift",
            text: "import MartletModel\nimport DequeModule\nimport NIOPosix // import NIOCore\n")
        let model = SourceFile(path: "Sources/Model/A.swift", text: "public import NIOCore\n")
        let table = LayerTable(package: Self.package)
        #expect(table.unusedDependencies([used, model]) == ["MartletServer: NIOCore"])
    }

    @Test func whatALayerNamesMayBeImported() {
        let named = ["MartletModel", "NIOCore", "DequeModule", "HeapModule", "NIOPosix"]
        for module in named + ["Foundation", "FoundationEssentials", "Synchronization", "Dispatch", "Glibc"] {
            findsNothing("public import \(module)\n")
        }
        findsNothing("@testable import MartletModel\nimport Testing", in: "Tests/ModelTests/A.swift")
    }

    @Test func theSystemIsOutOfReachOfStateMachines() {
        for module in ["Foundation", "Dispatch", "Glibc"] {
            finds(.systemImport, "import \(module)", in: "Sources/Model/A.swift")
        }
        findsNothing("import FoundationEssentials\nimport Synchronization", in: "Sources/Model/A.swift")
        finds(.importOutsideLayer, "import Darwin", in: "Sources/Model/A.swift")
    }

    @Test func aTargetOutsideTheTableIsFound() {
        finds(.unknownTarget, "let a = 1", in: "Sources/Ghost/A.swift")
        finds(.unknownTarget, "let a = 1", in: "Sources/A.swift")
    }

    @Test func aFileThatIsTooLongIsFound() {
        func lines(_ count: Int) -> String { String(repeating: "let a = 1\n", count: count) }
        findsNothing(lines(500))
        findsNothing(lines(499) + "let b = 2")
        finds(.tooLong, lines(501), line: 501)
        finds(.tooLong, String(repeating: "// comment\n", count: 501), line: 501)
        finds(.tooLong, lines(500) + "let b = 2", line: 501)
        finds(.tooLong, lines(501), line: 501, in: "Tests/ModelTests/A.swift")
    }

    @Test func forceIsFound() {
        for text in [
            "try! f()", "let a = try! await f()", "x(try!f())", "try ! f()", "\"\\(try! f())\"", "/* a */try! f()",
        ] {
            finds(.forceTry, text)
        }
        for text in ["a as! B", "(a as!B)", "\"\"\"\n\\(a as! B)\n\"\"\"", "#\"\\#(a as! B)\"#"] {
            finds(.forceCast, text, line: text.hasPrefix("\"\"\"") ? 2 : 1)
        }
        for text in [
            "try? f()", "a as? B", "a as B", "retry!", "alias!", "// try! f()", "/* a as! B */", "\"try! this\"",
            "#\"a \"as!\" b\"#", "\"\"\"\ntry! this \"quoted\"\n\"\"\"", "try a != b", "/* /* try! */ try! */",
            "\"\\\\\" // try!",
        ] {
            findsNothing(text)
        }
        findsNothing("try! f(); a as! B; Task { }", in: "Tests/ModelTests/A.swift")
    }

    @Test func aBareTaskIsFound() {
        for text in [
            "Task { }", "Task{", "let t = Task { await f() }", "Task(priority: .high) { }", "Task<Void, Never> { }",
            "Task.detached { }", "Task.detached(priority: .low) {", "Task.immediate {", "Task.init {", "_ = Task  {",
            "Task(name: \"a\") { }",
        ] {
            finds(.bareTask, text)
        }
        for text in [
            "group.addTask { }", "Task.isCancelled", "try await Task.sleep(for: .seconds(1))",
            "withTaskGroup(of: T.self) { group in",
            "await Task.yield()", "// Task { }", "\"Task { }\"", "let a: Task<Void, Never>", "struct MyTask { }",
            "Tasks { }",
        ] {
            findsNothing(text)
        }
    }

    @Test func severalViolationsAreAllFound() {
        let found = found("import Logging\n\nfunc f() {\n    try! g()\n    Task { a as! B }\n}\n")
        #expect(found.map(\.0) == [.importOutsideLayer, .forceTry, .forceCast, .bareTask])
        #expect(found.map(\.1) == [1, 4, 5, 5])
    }

    @Test func strippingLeavesCodeAndLines() {
        let table = [
            ("a // b\nc", "a \nc"), ("a /* b\n/* c */ d */ e", "a \n e"), ("a \"b\" c", "a \"\" c"),
            ("\"a\\\"b\" c", "\"\" c"), ("\"\\(a + \"b\\(c)\")\"", "\"\" a + \"\" c  "),
            ("#\"a\"b\\(c)\"# d", "\"\" d"),
            ("\"\"\"\na \"b\"\n\"\"\" c", "\"\"\n\n c"), ("##\"a\"#b\"## c", "\"\" c"),
            ("#if a\n#endif", "#if a\n#endif"),
            ("\"https://a\" b", "\"\" b"), ("\"", "\"\""), ("/*", ""), ("\"\\", "\"\""), ("\"\\(", "\"\"  "),
            ("\"a\nb", "\"\"\nb"),
        ]
        for (text, code) in table { #expect(SwiftCode.strip(text) == code, "\(text)") }
    }
}
