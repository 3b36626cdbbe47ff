import ArgumentParser
import MartletModel

/// In which schema events are printed.
struct UpcastingFlags: ParsableArguments {
    @Flag(help: "Print events as stored, without upcasting.")
    var raw = false

    @Option(
        help: ArgumentHelp(
            "What to do with an event that an upcaster fails on: stop (default), or print it as stored, marked.",
            valueName: "fail|raw"))
    var onUpcastFailure: String?

    @Option(
        help: ArgumentHelp(
            "Upcast events of this type no further than this schema version; may be repeated.",
            valueName: "type=version"))
    var stopAt: [String] = []

    /// Whether anything but the default was asked for.
    var areSet: Bool { raw || onUpcastFailure != nil || !stopAt.isEmpty }

    func options() throws -> UpcastingOptions {
        var options = UpcastingOptions(isRaw: raw)
        switch onUpcastFailure {
        case nil, "fail": options.onFailure = .fail
        case "raw": options.onFailure = .raw
        case let text?: throw UsageError("--on-upcast-failure '\(text)' is neither fail nor raw")
        }
        for text in stopAt {
            guard let equals = text.lastIndex(of: "="), let version = UInt32(text[text.index(after: equals)...]),
                version > 0
            else { throw UsageError("--stop-at '\(text)' is not TYPE=VERSION, as in OrderPlaced=2") }
            guard options.stopAt.updateValue(version, forKey: try eventType(String(text[..<equals]))) == nil else {
                throw UsageError("--stop-at names \(text[..<equals]) twice")
            }
        }
        guard !raw || (onUpcastFailure == nil && stopAt.isEmpty) else {
            throw UsageError("with --raw nothing is upcast: omit --on-upcast-failure and --stop-at")
        }
        return options
    }
}
