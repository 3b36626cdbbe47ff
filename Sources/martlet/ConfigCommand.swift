import ArgumentParser
import Foundation

struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Check and print the settings that serve would have.",
        discussion: """
            Takes the flags of serve, its environment (MARTLET_SERVE_…) and its file (--config).
            """,
        subcommands: [ConfigCheck.self, ConfigPrint.self])
}

struct ConfigCheck: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check", abstract: "Check the settings, and the certificates that they name.",
        discussion: """
            Prints each problem, and exits with code 2 if there is one. Does not open the storage: doctor does.
            """)

    @OptionGroup var flags: ServeFlags

    mutating func run() throws {
        let settings = try ServeSettings(flags)
        try settings.check()
        _ = try settings.listenAddress()
        _ = try settings.makeTLS()
        if let file = settings.storagePasswordFile {
            _ = try DocumentFile.contents(file, bytesMax: 4_096)
        }
        let set = settings.entries.filter { $0.source != .standard }.count
        Terminal.write(line: "ok: \(set) of \(settings.entries.count) settings are set, the others have their defaults")
    }
}

struct ConfigPrint: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "print", abstract: "Print all settings as a file for --config, each with where it comes from.",
        discussion: "Passwords are masked.")

    @OptionGroup var flags: ServeFlags

    mutating func run() throws {
        let settings = try ServeSettings(flags)
        for entry in settings.entries {
            let source =
                switch entry.source {
                case .flag: "--\(entry.key)"
                case .environment(let variable): variable
                case .file(let path, let line): path + (line.map { ", line \($0)" } ?? "")
                case .standard: "default"
                }
            let setting = entry.shown.map { "\(entry.key): \(Self.scalar($0))" } ?? "# \(entry.key):"
            Terminal.write(line: "\(setting)  # \(source)")
        }
        try settings.check()
    }

    /// A text as a scalar of YAML: plain where nothing in it has a meaning there.
    private static func scalar(_ text: String) -> String {
        let plain = text.utf8.allSatisfy { byte in
            UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte | 0x20 || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
                || "/._:-@?=%+".utf8.contains(byte)
        }
        let isPlain = plain && !text.hasSuffix(":") && !text.hasPrefix("-") && !text.hasPrefix("?") && !text.isEmpty
        return isPlain && !text.hasPrefix("%") && !text.hasPrefix("@") ? text : EventLine.quoted(text)
    }
}
