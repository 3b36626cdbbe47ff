/// A Swift file of the package.
struct SourceFile {
    /// From the package's root on: `Sources/Model/Names.swift`.
    var path: String
    var text: String

    var isTest: Bool { path.hasPrefix("Tests/") }

    var target: String {
        let parts = path.split(separator: "/")
        guard parts.count > 2 else { return "" }
        // A layer's folder goes without the prefix of its module.
        let isLayer =
            parts[0] == "Sources" && !["Martlet", "martlet"].contains(parts[1]) && !parts[1].hasPrefix("CMartlet")
        return isLayer ? "Martlet\(parts[1])" : String(parts[1])
    }
}

/// What a file does that it may not.
struct Violation: Hashable, CustomStringConvertible {
    enum Rule: Hashable { case unknownTarget, importOutsideLayer, systemImport, tooLong, forceTry, forceCast, bareTask }

    var rule: Rule
    var path: String
    var line: Int
    /// What stands there: a module, or the words of the line.
    var what: String

    var description: String { "\(path):\(line): \(rule): \(what)" }
}

/// The rules that no compiler checks.
struct HouseLaw {
    /// A file with more lines is two concepts.
    static let linesMax = 500

    /// What comes with the toolchain and the system, for layers that do I/O.
    static let systemModules: Set<String> = [
        "Dispatch", "Foundation", "FoundationEssentials", "Glibc", "Swift", "Synchronization",
    ]

    /// State machines and codecs: they get bytes and times, and reach for neither files, threads nor clocks.
    static let layersWithoutIO: Set<String> = [
        "MartletDelivery", "MartletFrameCodec", "MartletModel", "MartletQueries", "MartletRecordCodec",
        "MartletSession",
        "MartletSubscriptions", "MartletUpcasting",
    ]
    private static let systemModulesWithoutIO: Set<String> = ["FoundationEssentials", "Swift", "Synchronization"]

    let table: LayerTable

    func violations(in file: SourceFile) -> [Violation] {
        var violations: [Violation] = []
        func add(_ rule: Violation.Rule, _ line: Int, _ what: String) {
            violations.append(Violation(rule: rule, path: file.path, line: line, what: what))
        }
        guard let allowed = table.imports[file.target] else {
            add(.unknownTarget, 1, "\(file.target) stands in no layer of Package.swift")
            return violations
        }
        let lines = SwiftCode.strip(file.text).split(separator: "\n", omittingEmptySubsequences: false)
        // The line break at the end begins no line.
        let count = lines.count - (lines.last?.isEmpty == true ? 1 : 0)
        if count > Self.linesMax { add(.tooLong, count, "\(count) lines, \(Self.linesMax) are enough") }
        for (index, line) in lines.enumerated() {
            for module in Self.imports(in: line) {
                guard let rule = judge(module, file, allowed) else { continue }
                add(rule, index + 1, module)
            }
            guard !file.isTest else { continue }
            for (rule, words) in Self.forbidden(in: line) { add(rule, index + 1, words) }
        }
        return violations
    }

    private func judge(_ module: String, _ file: SourceFile, _ allowed: Set<String>) -> Violation.Rule? {
        if allowed.contains(module) || module == file.target || (file.isTest && module == "Testing") { return nil }
        guard Self.systemModules.contains(module) else { return .importOutsideLayer }
        let isPure = Self.layersWithoutIO.contains(file.target)
        return isPure && !Self.systemModulesWithoutIO.contains(module) ? .systemImport : nil
    }

    /// Modules that a line of code imports, whatever stands around the word.
    static func imports(in line: Substring) -> [String] {
        guard line.contains("import") else { return [] }
        let pattern =
            /(?:^|[;\s])import\s+(?:(?:struct|class|enum|protocol|func|var|let|typealias|actor)\s+)?`?([A-Za-z_]\w*)/
        return line.matches(of: pattern).map { String($0.1) }
    }

    private static func forbidden(in line: Substring) -> [(Violation.Rule, String)] {
        var found: [(Violation.Rule, String)] = []
        if line.contains("!") {
            found += line.matches(of: /\btry\s*!/).map { (.forceTry, String($0.0)) }
            found += line.matches(of: /\bas\s*!/).map { (.forceCast, String($0.0)) }
        }
        if line.contains("Task") {
            let pattern =
                /\bTask\s*(?:<[^>]*>)?\s*(?:\.\s*(?:detached|immediate)\b|(?:\.\s*init\b\s*)?(?:\([^)]*\)\s*)?\{)/
            found += line.matches(of: pattern).map { (.bareTask, String($0.0)) }
        }
        return found
    }
}
