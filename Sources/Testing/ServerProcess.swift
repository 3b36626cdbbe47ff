public import Foundation

/// The program as it was built beside the tests.
public enum Binary {
    /// Its path; that of another one where the environment has `MARTLET_TEST_BINARY`.
    public static let path: String = {
        if let other = ProcessInfo.processInfo.environment["MARTLET_TEST_BINARY"] { return other }
        let tests = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath()
        return tests.deletingLastPathComponent().appendingPathComponent("martlet").path
    }()

    /// What a command came to.
    public struct Outcome: Sendable {
        /// The exit code.
        public var code: Int32
        /// What it wrote to standard output.
        public var output: String
        /// What it wrote to standard error.
        public var errors: String

        /// The lines of its standard output.
        public var lines: [Substring] { output.split(separator: "\n") }
    }

    /// Runs a command to its end.
    /// - Throws: ``ProcessFailure`` where that does not come within `seconds`.
    public static func run(
        _ arguments: [String], input: String = "", environment: [String: String] = [:], path: String = Binary.path,
        seconds: Double = 60
    ) async throws -> Outcome {
        let folder = try TemporaryFolder()
        let files = ["in", "out", "err"].map { folder.path + "/" + $0 }
        try input.write(toFile: files[0], atomically: false, encoding: .utf8)
        for file in files.dropFirst() { try Data().write(to: URL(fileURLWithPath: file)) }
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        process.standardInput = FileHandle(forReadingAtPath: files[0])
        process.standardOutput = FileHandle(forWritingAtPath: files[1])
        process.standardError = FileHandle(forWritingAtPath: files[2])
        try processStart.withLock { [process] in try process.run() }
        try await process.end(within: seconds)
        return Outcome(
            code: process.terminationStatus, output: try String(contentsOfFile: files[1], encoding: .utf8),
            errors: try String(contentsOfFile: files[2], encoding: .utf8))
    }
}

/// Held while a process is started: one that starts at the same moment would inherit what tells of the other's end, which
/// then comes with its own only.
private let processStart = NSLock()

extension Process {
    /// Waits for the end; kills it when the time is over.
    /// - Throws: ``ProcessFailure`` then.
    public func end(within seconds: Double) async throws {
        let deadline = Date().addingTimeInterval(seconds)
        while isRunning {
            if Date() > deadline {
                kill(processIdentifier, SIGKILL)
                throw ProcessFailure("\(arguments ?? []) did not end within \(seconds) s")
            }
            try await Task.sleep(for: .milliseconds(10))
        }
    }
}

/// A process did not do as it should.
public struct ProcessFailure: Error, CustomStringConvertible {
    /// What it did.
    public var description: String

    /// A failure with that description.
    public init(_ description: String) { self.description = description }
}

/// `martlet serve`, as a process.
public final class ServerProcess: @unchecked Sendable {
    // Guard: a test uses it from one task; other tasks only read what stays the same.
    /// The process.
    public let process: Process
    /// The port on which it listens.
    public let port: Int
    private let log: String
    private let folder: TemporaryFolder

    /// Starts a server and waits until it listens.
    ///
    /// - Parameter prefix: a program that starts it, as in `strace`.
    public convenience init(
        storage: String, port: Int = 0, clientCA: Bool = false, extra: [String] = [], prefix: [String] = [],
        certificates: String? = nil
    ) async throws {
        let own = try TestCertificates.shared.get()
        let certificates = certificates ?? own.folder
        var arguments = [
            "--listen", "127.0.0.1:\(port)", "--storage", storage, "--cert", certificates + "/server.pem", "--key",
            certificates + "/server.key",
        ]
        if clientCA { arguments += ["--client-ca", certificates + "/ca.pem"] }
        try await self.init(arguments: arguments + extra, prefix: prefix)
    }

    /// Starts a server with these flags, and waits until it listens.
    public init(arguments flags: [String], prefix: [String] = []) async throws {
        folder = try TemporaryFolder()
        log = folder.path + "/log"
        try Data().write(to: URL(fileURLWithPath: log))
        process = Process()
        let arguments = ["serve"] + flags
        process.executableURL = URL(fileURLWithPath: prefix.first ?? Binary.path)
        process.arguments = prefix.isEmpty ? arguments : prefix.dropFirst() + [Binary.path] + arguments
        process.standardError = FileHandle(forWritingAtPath: log)
        // A server that starts at the same moment would inherit the pipe's other end, and its end would not be seen.
        let output = try processStart.withLock { [process] in
            let output = Pipe()
            process.standardOutput = output
            try process.run()
            return output
        }
        var line = ""
        while !line.contains("\n") {
            let bytes = output.fileHandleForReading.availableData
            guard !bytes.isEmpty else {
                throw ProcessFailure(
                    "the server did not start: \((try? String(contentsOfFile: log, encoding: .utf8)) ?? "")")
            }
            line += String(decoding: bytes, as: UTF8.self)
        }
        guard let text = line.split(separator: ":").last,
            let number = Int(text.trimmingCharacters(in: .whitespacesAndNewlines))
        else { throw ProcessFailure("the server said '\(line)'") }
        self.port = number
    }

    /// What the server has logged.
    public var logged: String { (try? String(contentsOfFile: log, encoding: .utf8)) ?? "" }

    /// Sends a signal.
    public func signal(_ signal: Int32) { kill(process.processIdentifier, signal) }

    /// Sends a signal, and waits for the end.
    @discardableResult
    public func stop(_ signal: Int32 = SIGTERM, within seconds: Double = 20) async throws -> Int32 {
        self.signal(signal)
        try await process.end(within: seconds)
        return process.terminationStatus
    }

    /// Kills what still runs.
    deinit { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }

    /// The settings of a command that talks to this server.
    public func environment(tenant: UUID, client: String? = nil) throws -> [String: String] {
        let certificates = try TestCertificates.shared.get()
        var settings = [
            "MARTLET_SERVER": "127.0.0.1:\(port)", "MARTLET_CA": certificates.file("ca.pem"),
            "MARTLET_TENANT": tenant.uuidString,
        ]
        if let client {
            settings["MARTLET_CERT"] = certificates.file("\(client).pem")
            settings["MARTLET_KEY"] = certificates.file("\(client).key")
        }
        return settings
    }
}
