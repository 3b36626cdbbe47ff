import Foundation
import Yams

/// Where the value of a setting comes from; the first of these that has one counts.
enum SettingSource: Hashable {
    case flag
    case environment(String)
    /// With the line.
    case file(String, Int?)
    case standard

    /// As messages name it.
    func description(of key: String) -> String {
        switch self {
        case .flag: "--\(key)"
        case .environment(let variable): variable
        case .file(let path, let line?): "\(path), line \(line): \(key)"
        case .file(let path, nil): "\(path): \(key)"
        case .standard: "the default of \(key)"
        }
    }
}

/// Reads the settings of a command from its flags, the environment and a file. What is wrong is collected, so that all of it
/// can be said at once.
///
/// A setting has one name: `--connections-max`, `MARTLET_SERVE_CONNECTIONS_MAX` in the environment, `connections-max` in the
/// file. A name that there is none of is an error with the nearest known one, as is a value that cannot be read.
struct SettingsReader {
    /// A setting that was read.
    struct Entry {
        var key: String
        /// What is shown of its value, without secrets; nil where it has none.
        var shown: String?
        var source: SettingSource
    }

    static let prefix = "MARTLET_SERVE_"
    private static let fileBytesMax = 1 << 20

    private let environment: [String: String]
    private let path: String?
    private var file: [String: (text: String, line: Int?)] = [:]
    private(set) var entries: [Entry] = []
    private var problems: [String] = []

    /// - Parameter path: the file; nil where there is none.
    init(environment: [String: String], path: String?) throws {
        self.environment = environment.filter { $0.key.hasPrefix(Self.prefix) && !$0.value.isEmpty }
        self.path = path
        if let path { try read(path) }
    }

    private mutating func read(_ path: String) throws {
        let bytes = try DocumentFile.contents(path, bytesMax: Self.fileBytesMax)
        guard let text = String(validating: bytes, as: UTF8.self) else { throw UsageError("\(path) is not UTF-8") }
        let root: Node?
        do { root = try Parser(yaml: text).singleRoot() } catch {
            throw UsageError("\(path) is not YAML: \(YAMLDocument.describe(error))")
        }
        guard let root else { return }
        guard case .mapping(let members) = root else {
            throw UsageError("\(path) is not a list of settings, as in: listen: 127.0.0.1:7311")
        }
        for (key, value) in members {
            guard case .scalar(let name) = key, case .scalar(let scalar) = value else {
                let line = (key.mark ?? value.mark).map { ", line \($0.line)" } ?? ""
                problems.append("\(path)\(line): a setting is one value, as in: listen: 127.0.0.1:7311")
                continue
            }
            file[name.string] = (scalar.string, key.mark?.line)
        }
    }

    /// The name of a setting's variable.
    static func variable(of key: String) -> String {
        prefix + key.uppercased().replacing("-", with: "_")
    }

    /// The value of a setting, as text.
    private mutating func find(_ key: String, flag: String?) -> (text: String, source: SettingSource)? {
        let variable = Self.variable(of: key)
        if let flag { return (flag, .flag) }
        if let text = environment[variable] { return (text, .environment(variable)) }
        if let path, let found = file[key] { return (found.text, .file(path, found.line)) }
        return nil
    }

    /// A setting.
    /// - Parameters:
    ///   - shown: what may be seen of it.
    ///   - parse: nil for a text that is no value of it.
    ///   - expected: what would be one, for the message.
    mutating func value<Value>(
        _ key: String, flag: String?, standard: Value, expected: String, shown: (Value) -> String? = { "\($0)" },
        parse: (String) -> Value?
    ) -> Value {
        guard let (text, source) = find(key, flag: flag) else {
            entries.append(Entry(key: key, shown: shown(standard), source: .standard))
            return standard
        }
        guard let value = parse(text) else {
            // A wrong value may hold a password, or be one in the wrong place.
            let isShown = key != "storage" && !text.contains("://") && !text.contains("@")
            let seen = isShown ? ", not '\(text.prefix(80))'" : ""
            problems.append("\(source.description(of: key)) must be \(expected)\(seen)")
            entries.append(Entry(key: key, shown: nil, source: source))
            return standard
        }
        entries.append(Entry(key: key, shown: shown(value), source: source))
        return value
    }

    mutating func text(_ key: String, flag: String?, standard: String? = nil) -> String? {
        value(key, flag: flag, standard: standard, expected: "a text", shown: { $0 }) { $0 }
    }

    mutating func number(_ key: String, flag: Int?, standard: Int, in range: ClosedRange<Int>) -> Int {
        value(
            key, flag: flag.map(String.init), standard: standard,
            expected: "a number from \(range.lowerBound) to \(range.upperBound)"
        ) { text in Int(text).flatMap { range.contains($0) ? $0 : nil } }
    }

    mutating func isOn(_ key: String, flag: Bool) -> Bool {
        value(key, flag: flag ? "true" : nil, standard: false, expected: "true or false") { text in
            ["true": true, "false": false][text.lowercased()]
        }
    }

    /// Notes what is wrong with a setting that was read.
    mutating func complain(_ key: String, _ problem: String) {
        let source = entries.last { $0.key == key }?.source ?? .standard
        problems.append("\(source.description(of: key)) \(problem)")
    }

    /// Notes what is wrong with the settings as a whole.
    mutating func complain(_ problem: String) { problems.append(problem) }

    /// What is wrong, once all settings were read; those that nobody knows come first, as others may follow from them.
    func allProblems() -> [String] {
        let keys = entries.map(\.key)
        let variables = keys.map(Self.variable) + [Self.variable(of: "config")]
        let unknownVariables = environment.keys.filter { !variables.contains($0) }.sorted().map { variable in
            "there is no setting \(variable)\(NearestName.hint(variable, among: variables))"
        }
        let unknownKeys = file.filter { !keys.contains($0.key) }.sorted { ($0.value.line ?? 0) < ($1.value.line ?? 0) }
            .map { key, value in
                "\(path ?? "")\(value.line.map { ", line \($0)" } ?? ""): there is no setting "
                    + "\(key)\(NearestName.hint(key, among: keys))"
            }
        return unknownVariables + unknownKeys + problems
    }
}
