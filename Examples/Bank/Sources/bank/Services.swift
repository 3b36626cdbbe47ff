import Foundation
import Martlet
import MartletProcesses
import MartletProjections
import MartletProjectionsPostgreSQL
import ReadModels
import Transfers

/// Carries out transfers: each step once, however many of these processes run, and whichever of them is killed.
func runTransfers(_ settings: Settings, _ client: MartletClient) async throws {
    let runner = ProcessRunner(
        Transfers(patience: settings.patience), of: try BankConsumer.transfers.id(settings), as: settings.worker,
        client: client)
    try await whileItCanBeRetried { try await runner.run() }
}

/// Stands for a system outside: it is asked to approve transfers, and its answers are events. It forgets some of them, and
/// the transfer's time-out gives the money back.
///
/// A crash between the approval and the acknowledgement has it approve again, which `Clearing` ignores.
func runClearing(_ settings: Settings, _ client: MartletClient) async throws {
    let clearings = try Repository<Clearing>(client.tenant(settings.tenant))
    let request = ConsumeRequest(try BankConsumer.clearing.id(settings), worker: settings.worker)
    try await whileItCanBeRetried {
        let consumption = client.consume(request)
        for try await item in consumption {
            guard case .events(let events) = item else { continue }
            for event in events {
                let transfer = event.event.aggregate.id
                if transfer.uuid.15 % 20 != 0 { try await clearings.execute(transfer, .approve) }
                consumption.acknowledge(event.delivery)
            }
        }
    }
}

/// Keeps two read models up to date, in tables of one PostgreSQL: each event once, with how far they are in the same
/// transaction.
func runProjections(_ settings: Settings, _ client: MartletClient) async throws {
    let database = PostgreSQLReadModels(try settings.postgreSQL(), connections: 8)
    var balances = ProjectionRunner(
        Balances(), of: try BankConsumer.balances.id(settings), as: settings.worker, client: client, database: database)
    var statements = ProjectionRunner(
        StatementLines(), of: try BankConsumer.statements.id(settings), as: settings.worker, client: client,
        database: database)
    // A handler that does not even end when it is cancelled: only the end of the process frees what it holds.
    balances.onStuck = { endProcess($0) }
    statements.onStuck = { endProcess($0) }
    try await withThrowingTaskGroup(of: Void.self) { [balances, statements] group in
        group.addTask { try await whileItCanBeRetried { try await balances.run() } }
        group.addTask { try await whileItCanBeRetried { try await statements.run() } }
        try await group.waitForAll()
    }
}

private func endProcess(_ error: any Error) {
    FileHandle.standardError.write(Data("bank: \(error)\n".utf8))
    exit(1)
}
