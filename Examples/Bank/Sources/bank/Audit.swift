import Accounts
import Foundation
import Martlet
import MartletProjections
import MartletProjectionsPostgreSQL
import MartletProjectionsSQLite
import ReadModels
import Transfers

/// Compares the read models with what follows straight from the events, when everything has come to rest.
struct Audit {
    /// A line of a statement: account, version, position, amount and balance.
    typealias Line = [SQLValue]

    private let settings: Settings
    private let client: MartletClient
    private var balances: [String: Int64] = [:]
    private var movements: [String: Int64] = [:]
    private var lines: Set<Line> = []
    private var ends: [UUID: [String]] = [:]

    init(_ settings: Settings, _ client: MartletClient) {
        self.settings = settings
        self.client = client
    }

    /// - Throws: the first difference.
    mutating func run() async throws {
        try await readEvents()
        for (transfer, ends) in ends where ends.count != 1 {
            throw Problem("transfer \(transfer) has ended \(ends.count) times: \(ends)")
        }
        let postgreSQL = PostgreSQLReadModels(try settings.postgreSQL(), connections: 1)
        let rows = try await postgreSQL.withTransaction {
            try await $0.execute("SELECT account, cents, movements FROM balances")
        }
        let expected = Set(balances.map { [.text($0), .integer($1), .integer(movements[$0] ?? 0)] as [SQLValue] })
        try compare("balances", rows, expected)
        let selection = "SELECT account, version, position, amount, balance FROM statement_lines"
        try compare("statement_lines", try await postgreSQL.withTransaction { try await $0.execute(selection) }, lines)
        if let path = settings.pythonDatabase {
            let python = try SQLiteReadModels(path: path)
            try compare(
                "Python's statement_lines", try await python.withTransaction { try await $0.execute(selection) }, lines)
        }
        let accounts = try Repository<Account>(client.tenant(settings.tenant))
        for (account, cents) in balances {
            guard let id = UUID(uuidString: account) else { continue }
            let loaded = try await accounts.load(id).cents
            guard loaded == cents else {
                throw Problem("account \(account) is loaded with \(loaded) cents, not \(cents)")
            }
        }
        let counts = Dictionary(ends.values.map { ($0[0], 1) }, uniquingKeysWith: +).sorted { $0.key < $1.key }
        print("\(ends.count) transfers: " + counts.map { "\($0.value) \($0.key)" }.joined(separator: ", "))
        print("\(balances.count) balances and \(lines.count) statement lines agree with the events")
        if settings.pythonDatabase != nil { print("the statement lines of Python are the same") }
    }

    private mutating func readEvents() async throws {
        for try await event in try await client.tenant(settings.tenant).read() {
            if event.aggregate.type == Transfer.type {
                ends[event.aggregate.id, default: []] +=
                    ["rejected", "completed", "refunded"].filter { $0 == event.event.type.text }
            }
            guard event.aggregate.type == Account.type, let movement = try Movement(event) else { continue }
            let balance = balances[movement.account, default: 0] + movement.cents
            balances[movement.account] = balance
            movements[movement.account, default: 0] += 1
            lines.insert([
                .text(movement.account), .integer(movement.version), .integer(movement.position),
                .integer(movement.cents), .integer(balance),
            ])
        }
    }

    private func compare(_ name: String, _ rows: [[SQLValue]], _ expected: Set<[SQLValue]>) throws {
        guard Set(rows) == expected else {
            let (missing, wrong) = (expected.subtracting(rows).count, Set(rows).subtracting(expected).count)
            throw Problem("\(name): \(missing) rows are missing, and \(wrong) should not be there")
        }
        guard rows.count == expected.count else { throw Problem("\(name): \(rows.count - expected.count) rows twice") }
    }
}
