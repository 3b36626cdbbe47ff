import ArgumentParser
import Foundation
import MartletModel
import MartletServer

/// The program's name and version.
enum BuildInfo {
    static let text = "0.1.0"
}

@main
struct Martlet: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "martlet",
        abstract: "An event store: append, load and subscribe over TLS.",
        discussion: """
            Events go in and come out as JSON lines. Every command but serve talks to a server: \
            --server, --ca, --cert, --key and --tenant, or MARTLET_SERVER, MARTLET_CA, MARTLET_CERT, MARTLET_KEY \
            and MARTLET_TENANT.

            Exit codes: 0 done, 1 failed, 2 usage, 3 version conflict, 4 not reachable, 5 refused.
            """,
        version: BuildInfo.text,
        subcommands: [
            ServeCommand.self, ConfigCommand.self, CertsCommand.self, AppendCommand.self, LoadCommand.self,
            ReadCommand.self,
            SubscribeCommand.self, DiffCommand.self, HeadCommand.self, StatusCommand.self, ImportCommand.self,
            ExportCommand.self, UpcastersCommand.self, SnapshotsCommand.self, PoliciesCommand.self,
            ConsumersCommand.self,
            SchedulesCommand.self, DoctorCommand.self, BenchCommand.self, CompletionCommand.self,
        ])

    static func main() async {
        do {
            var command = try parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            Foundation.exit(ExitStatus.report(error))
        }
    }
}

/// How the program ends.
enum ExitStatus {
    static let done: Int32 = 0
    static let failed: Int32 = 1
    static let usage: Int32 = 2
    static let versionConflict: Int32 = 3
    static let notReachable: Int32 = 4
    static let refused: Int32 = 5

    /// Says what went wrong in one line on standard error (help and version go to standard output).
    /// - Returns: the exit code.
    static func report(_ error: any Error) -> Int32 {
        let (message, code) = describe(error)
        if code == done {
            Terminal.write(line: message)
        } else if !message.isEmpty {
            Terminal.complain(message)
        }
        return code
    }

    private static func describe(_ error: any Error) -> (message: String, code: Int32) {
        switch error {
        case let error as MartletError: return ("\(error)", code(of: error))
        case let error as UsageError: return ("\(error)", usage)
        case let error as ListenError: return ("--listen \(error)", failed)
        case let error as CommandFailure: return ("\(error)", failed)
        case let error as CommandRefusal: return ("\(error)", refused)
        case let error as InterruptedCommand:
            let (message, code) = describe(error.error)
            return ("\(message); \(error.progress)", code)
        default:
            let code = Martlet.exitCode(for: error)
            let message = Martlet.fullMessage(for: error)
            if code == .success { return (message, done) }
            guard !message.isEmpty else { return ("", code.rawValue) }
            let isUsage = error is ArgumentParser.ValidationError || code == .validationFailure
            if isUsage, let text = Misspelling.explain(Array(CommandLine.arguments.dropFirst()), of: Martlet.self) {
                return (text, usage)
            }
            return (isUsage ? message : "\(error)", isUsage ? usage : failed)
        }
    }

    static func code(of error: MartletError) -> Int32 {
        switch error.reason {
        case .versionConflict: versionConflict
        case .connectionLost, .tlsFailed, .draining, .storageUnavailable, .tooManyConnections, .keepaliveTimeout:
            notReachable
        case .internalError, .storageCorrupted, .clientClosed, .cancelled, .deadlineExceeded, .outcomeUnknown: failed
        default: refused
        }
    }
}

/// The command line is wrong in a way that only the command knows.
struct UsageError: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// What was asked for cannot be done to the tenant's events as they are.
struct CommandRefusal: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// The command failed on this side.
struct CommandFailure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// A command that ended before it was done, and how far it came.
struct InterruptedCommand: Error {
    var error: any Error
    var progress: String

    init(_ error: any Error, _ progress: String) {
        self.error = error
        self.progress = progress
    }
}
