import ArgumentParser

/// Finds what a command line that cannot be read was perhaps meant to say.
enum Misspelling {
    /// What is wrong in such a command line, with the nearest command or flag that there is; nil if it is something else.
    static func explain(_ arguments: [String], of root: any ParsableCommand.Type) -> String? {
        var command = root
        var path: [String] = []
        var rest = arguments[...]
        while let name = rest.first, !command.configuration.subcommands.isEmpty, !name.hasPrefix("-") {
            let commands = command.configuration.subcommands
            guard let next = commands.first(where: { Self.name(of: $0) == name }) else {
                let known = commands.map(Self.name) + ["help"]
                guard name != "help" else { return nil }
                let place = (["martlet"] + path).joined(separator: " ")
                return "there is no command '\(place) \(name)'\(NearestName.hint(name, among: known))"
            }
            command = next
            path.append(name)
            rest = rest.dropFirst()
        }
        let known = flags(of: command, in: root)
        for argument in rest.prefix(while: { $0 != "--" }) where argument.hasPrefix("--") {
            let flag = String(argument.prefix { $0 != "=" })
            guard !known.contains(flag) else { continue }
            let near = NearestName.of(flag, among: known).map { "; did you mean \"\($0)\"?" } ?? ""
            let help = (["martlet"] + path + ["--help"]).joined(separator: " ")
            return
                "there is no flag \(flag) of '\((["martlet"] + path).joined(separator: " "))'\(near) `\(help)` lists all"
        }
        return nil
    }

    private static func name(of command: any ParsableCommand.Type) -> String {
        command.configuration.commandName ?? "\(command)".lowercased()
    }

    /// The flags that a command's help lists.
    private static func flags(of command: any ParsableCommand.Type, in root: any ParsableCommand.Type) -> [String] {
        func message<Root: ParsableCommand>(_ root: Root.Type) -> String { root.helpMessage(for: command) }
        let help = message(root)
        return help.matches(of: #/--[a-z0-9][a-z0-9-]*/#).map { String($0.output) } + ["--help", "--version"]
    }
}
