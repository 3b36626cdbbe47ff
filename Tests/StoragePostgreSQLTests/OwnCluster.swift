import Foundation
import MartletTesting
import NIOConcurrencyHelpers
@testable import MartletStoragePostgreSQL

/// A PostgreSQL server of a test's own, that can be stopped, and that asks for a password.
final class OwnCluster: Sendable {
    static let password = "s3cret"

    private static let bin: String? = {
        let root = "/usr/lib/postgresql"
        let versions = (try? FileManager.default.contentsOfDirectory(atPath: root)) ?? []
        return versions.max { (Int($0) ?? 0) < (Int($1) ?? 0) }.map { "\(root)/\($0)/bin" }
    }()

    /// Whether there are programs to make one.
    static var isAvailable: Bool { bin != nil }

    private let bin: String
    private let folder: TemporaryFolder
    let port: Int
    private let syncs: Bool
    private let server = NIOLockedValueBox<Process?>(nil)

    /// Makes a cluster and starts it.
    /// - Parameter syncs: whether it flushes to disk: for most tests, processes crash and the system does not.
    init(syncs: Bool = false) throws {
        guard let bin = Self.bin else { throw BenchFailure("there is no PostgreSQL") }
        self.bin = bin
        self.syncs = syncs
        folder = try TemporaryFolder()
        port = try Self.freePort()
        // PostgreSQL refuses to run as root.
        if getuid() == 0 { try Self.run(["chown", "postgres", folder.path]) }
        try (Self.password + "\n").write(toFile: folder.path + "/password", atomically: false, encoding: .utf8)
        try Self.run(
            asOwner([
                "initdb", "-D", folder.path + "/data", "-U", "martlet", "-A", "scram-sha-256", "--pwfile",
                folder.path + "/password", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
            ]))
        try start()
    }

    /// Makes a standby that follows a cluster, and starts it.
    init(standbyOf primary: OwnCluster) throws {
        bin = primary.bin
        syncs = false
        folder = try TemporaryFolder()
        port = try Self.freePort()
        if getuid() == 0 { try Self.run(["chown", "postgres", folder.path]) }
        try Self.run(
            asOwner([
                "pg_basebackup", "-d", primary.url(), "-D", folder.path + "/data", "-R", "-c", "fast", "--no-sync",
            ]))
        try start()
    }

    deinit { try? stop(crashes: true) }

    func url(password: String? = OwnCluster.password, database: String = "postgres") -> String {
        "postgres://martlet\(password.map { ":\($0)" } ?? "")@127.0.0.1:\(port)/\(database)"
    }

    func start() throws {
        let process = try Self.launch(
            asOwner([
                "postgres", "-D", folder.path + "/data", "-p", "\(port)", "-c", "listen_addresses=127.0.0.1", "-c",
                "unix_socket_directories=",
                "-c", "fsync=\(syncs ? "on" : "off")",
            ]))
        let deadline = Date().addingTimeInterval(20)
        while (try? PostgresConnection(url(), statements: [])) == nil {
            guard process.isRunning, Date() < deadline else { throw BenchFailure("PostgreSQL did not start") }
            Thread.sleep(forTimeInterval: 0.02)
        }
        server.withLockedValue { $0 = process }
    }

    /// - Parameter crashes: at once, as when the power goes; otherwise in order, but without waiting for clients.
    func stop(crashes: Bool) throws {
        let process = server.withLockedValue { server in
            defer { server = nil }
            return server
        }
        guard let process else { return }
        kill(try processID(), crashes ? SIGQUIT : SIGINT)
        try Self.waitForEnd(of: process)
    }

    /// The server's first process.
    func processID() throws -> pid_t {
        let lock = try String(contentsOfFile: folder.path + "/data/postmaster.pid", encoding: .utf8)
        guard let id = lock.split(separator: "\n").first.flatMap({ pid_t($0) }) else {
            throw BenchFailure("PostgreSQL has no process")
        }
        return id
    }

    /// Keeps a copy of all that is stored now, as a standby has it that hears of nothing later.
    func keepCopy() throws {
        try stop(crashes: false)
        try Self.run(["rm", "-rf", folder.path + "/copy"])
        try Self.run(["cp", "-a", folder.path + "/data", folder.path + "/copy"])
        try start()
    }

    /// Goes away, and the copy takes its place under the same address.
    func failOverToCopy() throws {
        try stop(crashes: true)
        try Self.run(["rm", "-rf", folder.path + "/data"])
        try Self.run(["mv", folder.path + "/copy", folder.path + "/data"])
        try start()
    }

    func asOwner(_ command: [String]) -> [String] {
        (getuid() == 0 ? ["runuser", "-u", "postgres", "--"] : []) + [
            command[0].hasPrefix("/") ? command[0] : "\(bin)/\(command[0])"
        ] + command.dropFirst()
    }

    static func launch(_ command: [String]) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = command
        process.currentDirectoryURL = URL(fileURLWithPath: "/")
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        return process
    }

    static func waitForEnd(of process: Process) throws {
        let deadline = Date().addingTimeInterval(20)
        while process.isRunning {
            guard Date() < deadline else { throw BenchFailure("\(process.arguments ?? []) does not end") }
            Thread.sleep(forTimeInterval: 0.01)
        }
    }

    private static func run(_ command: [String]) throws {
        let process = try launch(command)
        try waitForEnd(of: process)
        guard process.terminationStatus == 0 else {
            throw BenchFailure("\(command) ended with \(process.terminationStatus)")
        }
    }

    static func freePort() throws -> Int {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let isBound = unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                unsafe bind(descriptor, pointer, length) == 0 && getsockname(descriptor, pointer, &length) == 0
            }
        }
        guard isBound else { throw BenchFailure("no port is free") }
        return Int(UInt16(bigEndian: address.sin_port))
    }
}
