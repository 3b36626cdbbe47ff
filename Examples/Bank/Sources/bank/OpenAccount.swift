import Accounts
import Foundation
import Martlet

/// Opens an account, moves money, and shows the state now and as it was.
func openAccount(_ settings: Settings, _ client: MartletClient) async throws {
    let accounts = try Repository<Account>(client.tenant(settings.tenant))
    let id = UUID()
    try await accounts.execute(id, .open(owner: "Ada"))
    try await accounts.execute(id, .deposit(cents: 10_000))
    try await accounts.execute(id, .withdraw(cents: 2_500))
    let now = try await accounts.load(id)
    let before = try await accounts.load(id, asOf: .version(2))
    print("account \(id): \(now.cents) cents at version \(now.version), \(before.cents) at version \(before.version)")
    do {
        try await accounts.execute(id, .withdraw(cents: 1_000_000))
    } catch let refusal as Account.Refusal { print("refused: \(refusal)") }
}

/// Deposits one cent so many times, as fast as it can; several processes may do so at once.
func deposit(_ count: Int, _ settings: Settings, _ client: MartletClient) async throws {
    var options = RepositoryOptions()
    options.decisionsMax = 1_000
    options.sendsMax = 100
    let accounts = try Repository<Account>(client.tenant(settings.tenant), options: options)
    for _ in 0..<count { try await accounts.execute(try settings.account(), .deposit(cents: 1)) }
    print("deposited \(count) cents")
}
