import ArgumentParser

struct CompletionCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "completion", abstract: "Print a script with which a shell completes commands and flags.",
        discussion: """
            bash: martlet completion bash > /etc/bash_completion.d/martlet
            zsh:  martlet completion zsh > "${fpath[1]}/_martlet"
            fish: martlet completion fish > ~/.config/fish/completions/martlet.fish
            """)

    enum Shell: String, ExpressibleByArgument, CaseIterable { case bash, zsh, fish }

    @Argument(help: "bash, zsh or fish.")
    var shell: Shell

    mutating func run() {
        let kind: CompletionShell =
            switch shell {
            case .bash: .bash
            case .zsh: .zsh
            case .fish: .fish
            }
        Terminal.write(line: Martlet.completionScript(for: kind))
    }
}
