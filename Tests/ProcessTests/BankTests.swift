import Foundation
import MartletProjections
import MartletProjectionsPostgreSQL
import MartletProjectionsSQLite
import MartletTesting
import Testing

/// Examples/Bank as a user runs it: each program a process of its own, in Swift and in Python, each of which is killed once.
@Suite(.serialized) struct BankTests {
    private static let python = ProcessInfo.processInfo.environment["MARTLET_TEST_PYTHON"]
    private static let bank = URL(fileURLWithPath: Binary.path).deletingLastPathComponent()
        .appendingPathComponent("bank").path
    private static let seconds = 4

    private let folder: TemporaryFolder
    private let tenant = UUID()
    private var pythonDatabase: String { folder.path + "/statements.db" }

    init() throws { folder = try TemporaryFolder() }

    @Test(
        .enabled(
            if: python != nil && PostgresTestDatabase.isAvailable,
            "MARTLET_TEST_PYTHON and MARTLET_TEST_POSTGRES are not set: run the tests by make test"))
    func theReadModelsAgreeWithTheEvents() async throws {
        let database = try PostgresTestDatabase()
        let url =
            database.url + (database.url.contains("?") ? "&" : "?") + "options=-csearch_path%3D\(database.schema)"
        let postgreSQL = PostgreSQLReadModels(url)
        _ = try await postgreSQL.withTransaction { try await $0.execute("CREATE SCHEMA \(database.schema)") }
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        let environment = try server.environment(tenant: tenant).merging([
            "BANK_DATABASE": url, "BANK_PYTHON_DATABASE": pythonDatabase, "BANK_PATIENCE_MILLIS": "1500",
        ]) { $1 }
        try await expectSuccess(["consumers"], environment)
        // Once more, it changes nothing.
        try await expectSuccess(["consumers"], environment)

        var services: [String: Process] = [:]
        defer { for service in services.values where service.isRunning { kill(service.processIdentifier, SIGKILL) } }
        let names = ["transfers", "clearing", "projections", "python"]
        for name in names { services[name] = try start(name, environment, server.port) }
        async let customers = Binary.run(
            ["customers", "\(Self.seconds)"], environment: environment, path: Self.bank, seconds: 300)
        for name in names {
            try await Task.sleep(for: .milliseconds(700))
            let service = try #require(services[name])
            #expect(service.isRunning, "\(name) has ended by itself: \(log(of: name))")
            kill(service.processIdentifier, SIGKILL)
            services[name] = try start(name, environment, server.port)
        }
        let asked = try await customers
        #expect(asked.code == 0, "\(asked.errors) \(names.map(log))")

        let audit = try await expectSuccess(["audit"], environment)
        #expect(audit.contains("agree with the events") && audit.contains("of Python are the same"), "\(audit)")
        #expect(audit.contains("completed"), "\(audit)")
        // Money comes from the customers' cash alone, and none is under way any more.
        let sum = try await postgreSQL.withTransaction {
            try await $0.execute("SELECT CAST(sum(cents) AS bigint), count(*) FROM balances")
        }
        #expect(sum == [[.integer(400_000), .integer(40)]])
        let selection = "SELECT account, version, position, amount, balance FROM statement_lines ORDER BY position"
        let lines = try await postgreSQL.withTransaction { try await $0.execute(selection) }
        let python = try SQLiteReadModels(path: pythonDatabase)
        #expect(try await python.withTransaction { try await $0.execute(selection) } == lines)
        #expect(lines.count > 40)

        for (name, service) in services {
            #expect(service.isRunning, "\(name) has ended by itself: \(log(of: name))")
            kill(service.processIdentifier, SIGKILL)
            try await service.end(within: 20)
        }
        try await expectAuditToFind("balances: 1 rows", environment) {
            _ = try await postgreSQL.withTransaction {
                try await $0.execute(
                    "UPDATE balances_g1 SET cents = cents + 1 WHERE account = (SELECT min(account) FROM balances)")
            }
        }
        _ = try await postgreSQL.withTransaction {
            try await $0.execute(
                "UPDATE balances_g1 SET cents = cents - 1 WHERE account = (SELECT min(account) FROM balances)")
        }
        try await expectAuditToFind("Python's statement_lines: 1 rows twice", environment) {
            _ = try await python.withTransaction {
                try await $0.execute(
                    """
                    INSERT INTO statement_lines (account, version, position, amount, balance)
                    SELECT account, version, position, amount, balance FROM statement_lines WHERE no = 1
                    """)
            }
        }
        try await server.stop()
    }

    /// What the audit is for: it finds a row that is not as it should be.
    private func expectAuditToFind(
        _ problem: String, _ environment: [String: String], after spoil: () async throws -> Void
    ) async throws {
        try await spoil()
        let outcome = try await Binary.run(["audit"], environment: environment, path: Self.bank)
        #expect(outcome.code == 1 && outcome.errors.contains(problem), "\(outcome)")
    }

    @discardableResult
    private func expectSuccess(_ arguments: [String], _ environment: [String: String]) async throws -> String {
        let outcome = try await Binary.run(arguments, environment: environment, path: Self.bank)
        #expect(outcome.code == 0, "\(arguments): \(outcome)")
        return outcome.output
    }

    private func start(_ name: String, _ environment: [String: String], _ port: Int) throws -> Process {
        let process = Process()
        var settings = ProcessInfo.processInfo.environment.merging(environment) { $1 }
        if name == "python" {
            process.executableURL = URL(fileURLWithPath: Self.python ?? "")
            process.arguments = [
                Repository.root + "/Examples/Projections/python/statement_lines.py", "--consumer", "python-statements",
                "--worker", "python-1", "--database", pythonDatabase,
            ]
            settings["PYTHONPATH"] = Repository.root + "/Clients/python/src"
            settings["PYTHONDONTWRITEBYTECODE"] = "1"
        } else {
            process.executableURL = URL(fileURLWithPath: Self.bank)
            process.arguments = [name]
        }
        process.environment = settings
        let path = folder.path + "/\(name).log"
        if !FileManager.default.fileExists(atPath: path) { try Data().write(to: URL(fileURLWithPath: path)) }
        let log = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        try log.seekToEnd()
        process.standardError = log
        try process.run()
        return process
    }

    private func log(of name: String) -> String {
        ((try? String(contentsOfFile: folder.path + "/\(name).log", encoding: .utf8)) ?? "").suffix(2_000).description
    }
}
