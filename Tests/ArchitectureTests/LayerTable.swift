/// What Package.swift says of each target: the targets and the modules of packages that it may import.
struct LayerTable {
    /// What a product of a package offers. A product that is not listed here is a module of its own name.
    private static let modulesOfProducts: [String: Set<String>] = [
        "Collections": [
            "BitCollections", "Collections", "DequeModule", "HashTreeCollections", "HeapModule", "OrderedCollections",
        ],
        "Metrics": ["CoreMetrics", "Metrics"],
    ]

    /// Names that each Swift target names in Package.swift, as modules.
    private(set) var imports: [String: Set<String>] = [:]

    /// Reads the text of a Package.swift.
    init(package text: String) {
        let text = text.split(separator: "\n").filter { !$0.drop { $0 == " " }.hasPrefix("//") }.joined(separator: "\n")
        var products: [String: String] = [:]
        for match in text.matches(of: /static let (\w+) = product\(name: "(\w+)"/) {
            products[String(match.1)] = String(match.2)
        }
        let targets = /(?:layer|tests|\.executableTarget)\(\s*(?:name: )?"(\w+)",\s*(?:dependencies: )?\[([^\]]*)\]/
        for match in text.matches(of: targets) {
            var modules: Set<String> = []
            for name in match.2.matches(of: /"(\w+)"/) { modules.insert(String(name.1)) }
            for alias in match.2.matches(of: /\.(\w+)/) {
                let product = products[String(alias.1)] ?? String(alias.1)
                modules.formUnion(Self.modulesOfProducts[product] ?? [product])
            }
            imports[String(match.1)] = modules
        }
    }

    /// Modules that a target names and none of these files imports, as `target: module`. A product of several modules
    /// counts as used with one of them.
    func unusedDependencies(_ files: [SourceFile]) -> [String] {
        var imported: [String: Set<String>] = [:]
        for file in files {
            let lines = SwiftCode.strip(file.text).split(separator: "\n")
            imported[file.target, default: []].formUnion(lines.flatMap { HouseLaw.imports(in: $0) })
        }
        return imports.flatMap { target, modules -> [String] in
            guard let used = imported[target] else { return [] }
            let families = Self.modulesOfProducts.values.filter { !$0.isDisjoint(with: used) }
            return modules.subtracting(used).subtracting(families.flatMap { $0 })
                // What is started as a process is imported by nobody.
                .filter { $0 != "martlet" }
                .map { "\(target): \($0)" }
        }.sorted()
    }
}
