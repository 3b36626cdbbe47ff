import Foundation
import MartletTesting
@testable import MartletStoragePostgreSQL

/// A PgBouncer of a test's own in front of a cluster.
final class Pooler {
    private static let program = "/usr/sbin/pgbouncer"

    let port: Int
    private let folder: TemporaryFolder
    private let process: Process

    /// - Parameter mode: `session`, `transaction` or `statement`.
    init(_ cluster: OwnCluster, mode: String) throws {
        guard FileManager.default.isExecutableFile(atPath: Self.program) else {
            throw BenchFailure("there is no PgBouncer: run .ci/setup --tests")
        }
        folder = try TemporaryFolder()
        port = try OwnCluster.freePort()
        let settings = """
            [databases]
            * = host=127.0.0.1 port=\(cluster.port) user=martlet password=\(OwnCluster.password)
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = \(port)
            unix_socket_dir =
            auth_type = any
            pool_mode = \(mode)
            default_pool_size = 20
            """
        let path = folder.path + "/pgbouncer.ini"
        try settings.write(toFile: path, atomically: false, encoding: .utf8)
        // It refuses to run as root.
        if getuid() == 0 {
            for place in [folder.path, path] {
                try OwnCluster.waitForEnd(of: OwnCluster.launch(["chown", "postgres", place]))
            }
        }
        process = try OwnCluster.launch(cluster.asOwner([Self.program, "-q", path]))
        let deadline = Date().addingTimeInterval(20)
        while (try? PostgresConnection(url, statements: [])) == nil {
            guard process.isRunning, Date() < deadline else { throw BenchFailure("PgBouncer did not start") }
            Thread.sleep(forTimeInterval: 0.02)
        }
    }

    deinit {
        process.terminate()
        try? OwnCluster.waitForEnd(of: process)
    }

    var url: String { "postgres://martlet@127.0.0.1:\(port)/postgres" }
}
