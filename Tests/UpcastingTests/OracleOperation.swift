/// An operation of the property test: as a definition states it, and what the oracle makes of it.
enum OracleOperation {
    case rename([String], String, required: Bool, replace: Bool)
    case move([String], [String], copies: Bool, required: Bool, replace: Bool)
    case remove([String], required: Bool)
    case set([String], Tree, onlyIfAbsent: Bool)
    case convert([String], String)
    case map([String], [String: Tree], otherwise: Tree?)
    case wrap([String], key: String?)
    case unwrap([String], key: String?)
    case split([String], into: [[String]], replace: Bool)
    case splitToArray([String], [String], replace: Bool)
    case join([[String]], [String], required: Bool, replace: Bool)
    case joinArray([String], [String], replace: Bool)

    private static func pointer(_ path: [String]) -> String { "\"\(path.map { "/" + $0 }.joined())\"" }

    var json: String {
        func flags(_ required: Bool, _ replace: Bool) -> String {
            (required ? #","required":true"# : "") + (replace ? #","replace":true"# : "")
        }
        switch self {
        case .rename(let path, let name, let required, let replace):
            return #"{"rename":{"path":\#(Self.pointer(path)),"to":"\#(name)"\#(flags(required, replace))}}"#
        case .move(let from, let to, let copies, let required, let replace):
            return
                #"{"\#(copies ? "copy" : "move")":{"from":\#(Self.pointer(from)),"to":\#(Self.pointer(to))\#(flags(required, replace))}}"#
        case .remove(let path, let required):
            return #"{"remove":{"path":\#(Self.pointer(path))\#(flags(required, false))}}"#
        case .set(let path, let value, let onlyIfAbsent):
            return #"{"\#(onlyIfAbsent ? "default" : "set")":{"path":\#(Self.pointer(path)),"value":\#(value.text)}}"#
        case .convert(let path, let form): return #"{"convert":{"path":\#(Self.pointer(path)),"to":"\#(form)"}}"#
        case .map(let path, let table, let otherwise):
            let entries = table.map { "\"\($0.key)\":\($0.value.text)" }.joined(separator: ",")
            let fallback = otherwise.map { #","default":\#($0.text)"# } ?? ""
            return #"{"map":{"path":\#(Self.pointer(path)),"table":{\#(entries)}\#(fallback)}}"#
        case .wrap(let path, let key):
            return
                #"{"wrap":{"path":\#(Self.pointer(path)),\#(key.map { #""in":"object","key":"\#($0)""# } ?? #""in":"array""#)}}"#
        case .unwrap(let path, let key):
            return
                #"{"unwrap":{"path":\#(Self.pointer(path)),\#(key.map { #""from":"object","key":"\#($0)""# } ?? #""from":"array""#)}}"#
        case .split(let path, let targets, let replace):
            let into = targets.map(Self.pointer).joined(separator: ",")
            return
                #"{"split":{"path":\#(Self.pointer(path)),"separator":" ","into":[\#(into)]\#(flags(false, replace))}}"#
        case .splitToArray(let path, let target, let replace):
            return
                #"{"split":{"path":\#(Self.pointer(path)),"separator":" ","to":\#(Self.pointer(target))\#(flags(false, replace))}}"#
        case .join(let paths, let target, let required, let replace):
            let list = paths.map(Self.pointer).joined(separator: ",")
            return
                #"{"join":{"paths":[\#(list)],"separator":"-","into":\#(Self.pointer(target))\#(flags(required, replace))}}"#
        case .joinArray(let path, let target, let replace):
            return
                #"{"join":{"path":\#(Self.pointer(path)),"separator":"-","into":\#(Self.pointer(target))\#(flags(false, replace))}}"#
        }
    }
}

extension Oracle {
    /// Whole numbers by the texts that the generator uses.
    static let integers = [
        "1": "1", "-3": "-3", "0": "0", "1.0": "1", "2e2": "200", "200": "200",
        "12345678901234567890": "12345678901234567890",
    ]
    static let numbers = integers.keys.sorted() + ["1.50"]

    mutating func apply(_ operation: OracleOperation) throws {
        replaced = []
        switch operation {
        case .rename(let path, let name, let required, let replace):
            for spot in try spots(path[...], required: required) {
                guard case .key(let key) = spot.last, case .object = value(spot.dropLast()) else { throw Failed() }
                let parent = Array(spot.dropLast())
                let existing = child(parent, name)
                if Tree.name(key) == name { continue }
                guard existing == nil || replace else { throw Failed() }
                change(parent) { tree in
                    guard case .object(let members) = tree else { return }
                    tree = .object(
                        members.compactMap { member in
                            if Tree.name(member.key) == name { return nil }
                            return member.key == key ? Tree.Member(key: "\"\(name)\"", value: member.value) : member
                        })
                }
            }
        case .move(let from, let to, let copies, let required, let replace):
            for spot in try spots(from[...], required: required) {
                try checkIsThere(spot)
                let value = value(spot)
                if !copies { change(spot) { $0 = .hole } }
                try place(value, to, Self.bindings(from, spot), replace: replace)
            }
        case .remove(let path, let required):
            for spot in try spots(path[...], required: required) { change(spot) { $0 = .hole } }
        case .set(let path, let new, let onlyIfAbsent):
            let stars = (path.lastIndex(of: "*") ?? -1) + 1
            for spot in try spots(path[..<stars], required: false) {
                let target = try target(path, Self.bindings(path, spot))
                if !onlyIfAbsent || value(target) == .hole { change(target) { $0 = new } }
            }
        case .convert(let path, let form):
            for spot in try spots(path[...], required: false) { try change(spot) { try Self.convert(&$0, form) } }
        case .map(let path, let table, let otherwise):
            for spot in try spots(path[...], required: false) {
                try change(spot) { tree in
                    guard case .scalar(let text) = tree else { throw Failed() }
                    let name = text.hasPrefix("\"") ? Tree.name(text) : text
                    guard let new = table[name] ?? otherwise else { throw Failed() }
                    tree = new
                }
            }
        case .wrap(let path, let key):
            for spot in try spots(path[...], required: false) {
                change(spot) {
                    $0 =
                        key.map { [tree = $0] in .object([Tree.Member(key: "\"\($0)\"", value: tree)]) } ?? .array([$0])
                }
            }
        case .unwrap(let path, let key):
            for spot in try spots(path[...], required: false) where !value(spot).isNull {
                if let key { _ = child(spot, key) }
                try change(spot) { tree in
                    switch (tree, key) {
                    case (.array(let elements), nil) where elements.count == 1: tree = elements[0]
                    case (.object(let members), let key?) where members.count == 1 && Tree.name(members[0].key) == key:
                        tree = members[0].value
                    default: throw Failed()
                    }
                }
            }
        case .split(let path, let targets, let replace):
            for spot in try spots(path[...], required: false) where !value(spot).isNull {
                try checkIsThere(spot)
                let parts = try Self.parts(value(spot), max: targets.count)
                guard parts.count == targets.count else { throw Failed() }
                change(spot) { $0 = .hole }
                for (part, target) in zip(parts, targets) {
                    try place(part, target, Self.bindings(path, spot), replace: replace)
                }
            }
        case .splitToArray(let path, let target, let replace):
            for spot in try spots(path[...], required: false) where !value(spot).isNull {
                try checkIsThere(spot)
                let parts = try Self.parts(value(spot), max: .max)
                change(spot) { $0 = .hole }
                try place(.array(parts), target, Self.bindings(path, spot), replace: replace)
            }
        case .join(let paths, let target, let required, let replace):
            let stars = (target.lastIndex(of: "*") ?? -1) + 1
            for base in try spots(target[..<stars], required: required) {
                var sources: [[Spot]] = []
                for path in paths { sources += try spots(path[stars...], at: base, required: required) }
                guard let text = try Self.joined(sources.map { value($0) }) else { continue }
                for source in sources { change(source) { $0 = .hole } }
                try place(.scalar(text), target, Self.bindings(target, base), replace: replace)
            }
        case .joinArray(let path, let target, let replace):
            for spot in try spots(path[...], required: false) where !value(spot).isNull {
                try checkIsThere(spot)
                guard case .array(let elements) = value(spot) else { throw Failed() }
                let text = try Self.joined(elements) ?? "\"\""
                change(spot) { $0 = .hole }
                try place(.scalar(text), target, Self.bindings(path, spot), replace: replace)
            }
        }
        root = root.filled
    }

    private static func convert(_ tree: inout Tree, _ form: String) throws {
        guard case .scalar(let text) = tree else { throw Failed() }
        if text == "null" { return }
        let isString = text.hasPrefix("\"")
        let plain = isString ? Tree.name(text) : text
        let isBoolean = !isString && (plain == "true" || plain == "false")
        switch form {
        case "string": if !isString { tree = .scalar("\"\(plain)\"") }
        case "number":
            if isBoolean { return tree = .scalar(plain == "true" ? "1" : "0") }
            guard numbers.contains(unsigned(plain)) else { throw Failed() }
            tree = .scalar(plain)
        case "integer":
            if isBoolean { return tree = .scalar(plain == "true" ? "1" : "0") }
            guard let integer = integers[unsigned(plain)] else { throw Failed() }
            tree = .scalar(unsigned(plain) == plain ? integer : "-" + integer)
        default:
            if isBoolean { return }
            switch (plain, isString) {
            case ("true", true), ("1", false): tree = .scalar("true")
            case ("false", true), ("0", false): tree = .scalar("false")
            default: throw Failed()
            }
        }
    }

    /// The text without the minus that a join of "" and a number leaves before it.
    private static func unsigned(_ text: String) -> String {
        text.hasPrefix("-") && !text.hasPrefix("--") && integers[text] == nil ? String(text.dropFirst()) : text
    }

    private static func parts(_ tree: Tree, max: Int) throws -> [Tree] {
        guard case .scalar(let text) = tree, text.hasPrefix("\"") else { throw Failed() }
        return text.dropFirst().dropLast()
            .split(separator: " ", maxSplits: max == .max ? .max : max - 1, omittingEmptySubsequences: false)
            .map { .scalar("\"\($0)\"") }
    }

    private static func joined(_ trees: [Tree]) throws -> String? {
        let texts = try trees.filter { !$0.isNull }.map { tree -> String in
            guard case .scalar(let text) = tree else { throw Failed() }
            return text.hasPrefix("\"") ? String(text.dropFirst().dropLast()) : text
        }
        return texts.isEmpty ? nil : "\"\(texts.joined(separator: "-"))\""
    }
}
