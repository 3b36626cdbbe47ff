import ArgumentParser
import Foundation
import MartletModel

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
            ServeCommand.self, AppendCommand.self, LoadCommand.self, ReadCommand.self, SubscribeCommand.self,
            DiffCommand.self, HeadCommand.self, StatusCommand.self, ImportCommand.self, ExportCommand.self,
            UpcastersCommand.self, SnapshotsCommand.self, PoliciesCommand.self, ConsumersCommand.self,
            SchedulesCommand.self, DoctorCommand.self, BenchCommand.self,
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
        switch error {
        case let error as MartletError:
            Terminal.complain("\(error)")
            return code(of: error)
        case let error as UsageError:
            Terminal.complain("\(error)")
            return usage
        case let error as CommandFailure:
            Terminal.complain("\(error)")
            return failed
        case let error as CommandRefusal:
            Terminal.complain("\(error)")
            return refused
        default:
            let code = Martlet.exitCode(for: error)
            let message = Martlet.fullMessage(for: error)
            if code == .success {
                print(message)
                return done
            }
            guard !message.isEmpty else { return code.rawValue }
            Terminal.complain(
                error is ArgumentParser.ValidationError || code == .validationFailure ? message : "\(error)")
            return code == .validationFailure ? usage : failed
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
