import Foundation
import Martlet

/// The bank's programs. Each is a process of its own, and may be killed at any moment: start it again, or another one, and
/// it goes on. They find the server, the tenant and the read models in the environment (see Settings.swift).
let usage = """
    usage: bank                     open an account, and show it now and as it was
           bank deposit COUNT       deposit COUNT times a cent into $BANK_ACCOUNT, as fast as it can
           bank consumers           put the consumers of what follows; once
           bank transfers           carry out transfers
           bank clearing            approve transfers, as somebody outside would
           bank projections         keep the balances and the statements in PostgreSQL up to date
           bank customers SECONDS   open accounts, and ask for transfers for so long; then wait until each has ended
           bank watch               show how far the consumers are, each second
           bank audit               compare the read models with the events
    """

do {
    let settings = try Settings()
    let arguments = Array(CommandLine.arguments.dropFirst())
    try await MartletClient.withClient(settings.client) { client in
        switch (arguments.first, arguments.dropFirst().first.flatMap { Int($0) }) {
        case (nil, nil): try await openAccount(settings, client)
        case ("deposit", let count?): try await deposit(count, settings, client)
        case ("consumers", nil): try await putConsumers(settings, client)
        case ("transfers", nil): try await runTransfers(settings, client)
        case ("clearing", nil): try await runClearing(settings, client)
        case ("projections", nil): try await runProjections(settings, client)
        case ("customers", let seconds?): try await Customers(settings, client).run(seconds: seconds)
        case ("watch", nil):
            var watch = Watch(settings, client)
            try await watch.run()
        case ("audit", nil):
            var audit = Audit(settings, client)
            try await audit.run()
        default: throw Problem(usage)
        }
    }
} catch {
    FileHandle.standardError.write(Data("bank: \(error)\n".utf8))
    exit(1)
}
