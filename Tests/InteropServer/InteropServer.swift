import Foundation
import Logging
import MartletServer
import MartletStorageMemory
import MartletTLSOpenSSL
import NIOCore

/// A server with `grpc.testing.TestService` beside Martlet's services: `InteropServer CERTIFICATE KEY`. It says which port it
/// has, and ends when its standard input does.
@main struct InteropServer {
    static func main() async throws {
        let arguments = CommandLine.arguments
        guard arguments.count == 3 else {
            FileHandle.standardError.write(Data("usage: InteropServer CERTIFICATE KEY\n".utf8))
            exit(64)
        }
        var configuration = ServerConfiguration(
            host: "127.0.0.1", port: 0, serverVersion: "test", requiresClientCertificate: false)
        configuration.moreServices = [TestService.service]
        let tls = try TLSServerContext(
            TLSServerConfiguration(certificateFile: arguments[1], privateKeyFile: arguments[2]))
        let server = EventServer(
            configuration: configuration, tls: tls, engine: MemoryEngine(), logger: Logger(label: "interop"),
            onListening: { address in
                print("port \(address.port ?? 0)")
                fflush(nil)
            })
        Thread.detachNewThread {
            while readLine() != nil {}
            exit(0)
        }
        try await server.run()
    }
}
