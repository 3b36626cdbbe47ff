import Foundation
public import Logging
public import MartletClient
public import MartletModel
import MartletServer
public import MartletStorage
import MartletTLSOpenSSL
import NIOConcurrencyHelpers
import NIOCore

/// A server in this process, on a port of loopback that the system chose, with TLS.
public struct TestServer: Sendable {
    /// Its port.
    public let port: Int
    /// Its certificates.
    public let certificates: TestCertificates
    private let asksForCertificates: Bool

    /// Runs `body` with a server on that engine, which is stopped afterwards.
    ///
    /// - Parameters:
    ///   - requiresClientCertificate: asks for client certificates, and goes by them.
    ///   - port: 0 lets the system choose.
    public static func with<Result: Sendable>(
        _ engine: any StorageEngine, limits: Limits = Limits(), clock: @escaping Clock = Timestamp.now,
        requiresClientCertificate: Bool = false, port: Int = 0, logger: Logger = .silent,
        _ body: @escaping @Sendable (TestServer) async throws -> Result
    ) async throws -> Result {
        let certificates = try TestCertificates.shared.get()
        var configuration = ServerConfiguration(
            host: "127.0.0.1", port: port, serverVersion: "test", requiresClientCertificate: requiresClientCertificate)
        configuration.limits = limits
        configuration.drainMillis = 1_000
        let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
        let server = EventServer(
            configuration: configuration,
            tls: try TLSServerContext(
                TLSServerConfiguration(
                    certificateFile: certificates.file("server.pem"), privateKeyFile: certificates.file("server.key"),
                    clientCAFile: requiresClientCertificate ? certificates.file("ca.pem") : nil)),
            engine: engine, clock: clock, logger: logger
        ) { address in
            continuation.yield(address.port ?? 0)
            continuation.finish()
        }
        return try await withThrowingTaskGroup(of: Result?.self) { group in
            group.addTask {
                defer { continuation.finish() }
                try await server.run()
                return nil
            }
            group.addTask {
                guard let port = await ports.first(where: { _ in true }) else { return nil }
                return try await body(
                    TestServer(
                        port: port, certificates: certificates, asksForCertificates: requiresClientCertificate))
            }
            defer { group.cancelAll() }
            while let result = try await group.next() {
                if let result { return result }
            }
            throw ConformanceFailure("the server ended before its test")
        }
    }

    /// How a client reaches it; with the development client's certificate where one is asked for.
    public var clientConfiguration: ClientConfiguration { clientConfiguration(port: port) }

    /// How a client reaches that port of this machine with these certificates.
    public func clientConfiguration(port: Int) -> ClientConfiguration {
        ClientConfiguration(
            host: "127.0.0.1", port: port,
            tls: TLSClientConfiguration(
                caFile: certificates.file("ca.pem"),
                certificateFile: asksForCertificates ? certificates.file("client.pem") : nil,
                privateKeyFile: asksForCertificates ? certificates.file("client.key") : nil, serverName: "127.0.0.1"),
            clientName: "test")
    }

    /// Runs `body` with a client.
    public func withClient<Result: Sendable>(
        _ body: @escaping @Sendable (MartletClient) async throws -> Result
    ) async throws -> Result {
        try await MartletClient.withClient(clientConfiguration, logger: .silent, body)
    }
}

extension Logger {
    /// Logs nothing.
    public static var silent: Logger { Logger(label: "silent", factory: { _ in SwiftLogNoOpLogHandler() }) }
}

/// Development certificates in a folder of their own, made by Certs/make-dev-certs.sh once a process.
public struct TestCertificates: Sendable {
    /// The folder.
    public let folder: String

    /// The path of one of the files: ca.pem, server.pem, server.key, client.pem, client.key.
    public func file(_ name: String) -> String { "\(folder)/\(name)" }

    /// The certificates of this process, or why they could not be made.
    public static let shared = Result<TestCertificates, any Error> {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-certs-\(UUID())").path
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = [Repository.root + "/Certs/make-dev-certs.sh", folder]
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw ConformanceFailure("Certs/make-dev-certs.sh ended with \(process.terminationStatus)")
        }
        return TestCertificates(folder: folder)
    }
}

/// The repository that this was built from.
public enum Repository {
    /// Its folder.
    public static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path
}

/// A folder that is gone with this object.
public final class TemporaryFolder: Sendable {
    /// Its path.
    public let path: String

    /// Makes a folder.
    public init() throws {
        path = FileManager.default.temporaryDirectory.appendingPathComponent("martlet-\(UUID())").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}
