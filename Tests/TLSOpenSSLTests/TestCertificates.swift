import Foundation
import NIOCore
import Testing

@testable import MartletTLSOpenSSL

/// A folder with certificates that `Certs/make-dev-certs.sh` made.
struct TestCertificates {
    static let tenants = ["6f1c2f6e-0d1b-4a51-9e0a-0b7c5a3f9d11", "0e9f6c0c-6b1e-4d52-8d3f-2f0a7c1b5e22"]
    static let script = URL(filePath: #filePath).deletingLastPathComponent().appending(
        path: "../../Certs/make-dev-certs.sh"
    ).standardizedFileURL.path

    /// One set that all tests read and none changes.
    static let shared = Result { try TestCertificates() }
    /// Another CA, and what it signed.
    static let foreign = Result { try TestCertificates() }

    private(set) var folder: String

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "martlet-tls-\(UUID())").path
        try run(Self.script, folder, "--client", "both", Self.tenants[0], Self.tenants[1])
    }

    func path(_ name: String) -> String { folder + "/" + name }

    /// With time for handshakes on a busy machine.
    var server: TLSServerConfiguration {
        var configuration = TLSServerConfiguration(
            certificateFile: path("server.pem"), privateKeyFile: path("server.key"))
        configuration.handshakeTimeout = .minutes(1)
        return configuration
    }

    var verifyingServer: TLSServerConfiguration {
        var configuration = server
        configuration.clientCAFile = path("ca.pem")
        return configuration
    }

    var client: TLSClientConfiguration {
        var configuration = TLSClientConfiguration(caFile: path("ca.pem"), serverName: "localhost")
        configuration.handshakeTimeout = .minutes(1)
        return configuration
    }

    func client(certificate name: String) -> TLSClientConfiguration {
        var configuration = client
        configuration.certificateFile = path("\(name).pem")
        configuration.privateKeyFile = path("\(name).key")
        return configuration
    }

    /// A certificate NAME.pem of our CA for the key SOURCE.key.
    func sign(_ name: String, key source: String, days: Int, alternativeNames: String) throws {
        try Data("subjectAltName=\(alternativeNames)\n".utf8).write(to: URL(filePath: path("\(name).ext")))
        try run(
            "openssl", "req", "-new", "-key", path("\(source).key"), "-subj", "/CN=\(name)", "-out",
            path("\(name).csr"))
        try run(
            "openssl", "x509", "-req", "-in", path("\(name).csr"), "-CA", path("ca.pem"), "-CAkey", path("ca.key"),
            "-set_serial", "7", "-days", "\(days)", "-extfile", path("\(name).ext"), "-out", path("\(name).pem"))
    }

    /// A copy to change at will.
    func copy() throws -> TestCertificates {
        var copy = self
        copy.folder = FileManager.default.temporaryDirectory.appending(path: "martlet-tls-\(UUID())").path
        try FileManager.default.copyItem(atPath: folder, toPath: copy.folder)
        return copy
    }

    /// Puts `name` in the place of `target`.
    func replace(_ target: String, with name: String, of other: TestCertificates) throws {
        try FileManager.default.removeItem(atPath: path(target))
        try FileManager.default.copyItem(atPath: other.path(name), toPath: path(target))
    }

    func remove() {
        try? FileManager.default.removeItem(atPath: folder)
    }
}

/// Runs a command to its end, which must be a success, and answers what it wrote.
@discardableResult
func run(_ command: String...) throws -> String {
    try run(command)
}

/// Runs a command to its end, which must be a success, and answers what it wrote.
@discardableResult
func run(_ command: [String]) throws -> String {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = command
    let output = Pipe()
    process.standardOutput = output
    process.standardError = output
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
        throw CommandFailure(
            description: "\(command.joined(separator: " ")) ended \(process.terminationStatus): \(text)")
    }
    return text
}

struct CommandFailure: Error, CustomStringConvertible {
    var description: String
}
