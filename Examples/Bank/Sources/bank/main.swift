import Accounts
import Foundation
import MartletKit

/// Opens an account, moves money, and shows the state now and as it was; with a number, deposits one cent so many times
/// into the account that BANK_ACCOUNT names, as fast as it can.
let environment = ProcessInfo.processInfo.environment
let server = (environment["MARTLET_SERVER"] ?? "127.0.0.1:7311").split(separator: ":")
guard server.count == 2, let port = Int(server[1]), let ca = environment["MARTLET_CA"],
    let tenant = UUID(uuidString: environment["MARTLET_TENANT"] ?? "")
else {
    print("bank: set MARTLET_CA and MARTLET_TENANT, and MARTLET_SERVER to HOST:PORT")
    exit(2)
}
var configuration = ClientConfiguration(
    host: String(server[0]), port: port, tls: TLSClientConfiguration(caFile: ca, serverName: String(server[0])),
    clientName: "bank/1.0")
configuration.retryBudget = .seconds(30)

try await MartletClient.withClient(configuration) { client in
    var options = RepositoryOptions()
    options.decisionsMax = 1_000
    options.sendsMax = 100
    let accounts = try Repository<Account>(client, tenant: TenantID(tenant), options: options)
    if let deposits = CommandLine.arguments.dropFirst().first.flatMap({ Int($0) }) {
        guard let id = UUID(uuidString: environment["BANK_ACCOUNT"] ?? "") else { exit(2) }
        for _ in 0..<deposits { try await accounts.execute(id, .deposit(cents: 1)) }
        print("deposited \(deposits) cents")
        return
    }
    let id = UUID()
    try await accounts.execute(id, .open(owner: "Ada"))
    try await accounts.execute(id, .deposit(cents: 10_000))
    try await accounts.execute(id, .withdraw(cents: 2_500))
    let now = try await accounts.load(id)
    let before = try await accounts.load(id, asOf: .version(Version(2)))
    print("account \(id): \(now.cents) cents at version \(now.version), \(before.cents) at version \(before.version)")
    do {
        try await accounts.execute(id, .withdraw(cents: 1_000_000))
    } catch let refusal as Account.Refusal { print("refused: \(refusal)") }
}
