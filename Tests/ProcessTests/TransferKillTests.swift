import Accounts
import Foundation
import MartletClient
import MartletEventSourcing
import MartletModel
import MartletTesting
import NIOConcurrencyHelpers
import Testing
import Transfers

/// Transfers run by processes that are killed at random moments, one of which sleeps past its lease, while the server is
/// killed too: each ends, money moves as an oracle says, and nothing happens twice.
@Suite(.serialized) struct TransferKillTests {
    private static let transferCount =
        ProcessInfo.processInfo.environment["MARTLET_TEST_TRANSFERS"].flatMap { Int($0) } ?? 300

    @Test func everyTransferEndsAndEveryBalanceIsRight() async throws {
        var random = SeededGenerator.fromEnvironment()
        let place = "seed \(random.seed)"
        print("transfers: \(place)")
        let bench = try TransferBench(transfers: Self.transferCount, &random)
        let folder = try TemporaryFolder()
        let storage = "sqlite:\(folder.path)/m.db"
        var server = try await ServerProcess(storage: storage)
        let port = server.port
        var runners: [Process] = []
        defer { for runner in runners where runner.isRunning { kill(runner.processIdentifier, SIGKILL) } }
        var (kills, serverKills) = (0, 0)
        let lease = Limits().consumerLeaseMillis
        var hasSlept = false
        var asleep: (runner: Int, since: ContinuousClock.Instant)?
        try await MartletClient.withClient(bench.configuration(port), logger: .silent) { client in
            try await bench.prepare(client)
            for number in 0..<3 { runners.append(try bench.runner(number, port)) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await bench.count(client) }
                group.addTask { try await bench.approve(client) }
                group.addTask { try await bench.request(client) }
                let tooLong = ContinuousClock.now + .seconds(60 + Self.transferCount / 5)
                while bench.ended.withLockedValue({ $0 }) < Self.transferCount || asleep != nil {
                    try #require(ContinuousClock.now < tooLong, "\(place): transfers that do not end")
                    try await Task.sleep(for: .milliseconds(Int.random(in: 50...800, using: &random)))
                    if Int.random(in: 0..<6, using: &random) == 0 {
                        try await server.stop(SIGKILL)
                        server = try await ServerProcess(storage: storage, port: port)
                        serverKills += 1
                    } else if let (sleeper, since) = asleep, .now > since + .milliseconds(lease + 1_000) {
                        // It goes on as if nothing had happened.
                        kill(runners[sleeper].processIdentifier, SIGCONT)
                        asleep = nil
                    } else {
                        let victim = Int.random(in: 0..<runners.count, using: &random)
                        guard victim != asleep?.runner else { continue }
                        if kills >= 7, !hasSlept {
                            hasSlept = true
                            kill(runners[victim].processIdentifier, SIGSTOP)
                            asleep = (victim, .now)
                            continue
                        }
                        kill(runners[victim].processIdentifier, SIGKILL)
                        runners[victim] = try bench.runner(victim, port)
                        kills += 1
                    }
                }
                group.cancelAll()
                // Of tasks that were cancelled, only that they have ended counts.
                while let _ = await group.nextResult() {}
            }
            // Approvals that come too late are still to come.
            let tooLong = ContinuousClock.now + .seconds(30)
            while try await !client.schedules(of: bench.tenant).isEmpty {
                try #require(ContinuousClock.now < tooLong, "\(place): schedules are left over")
                try await Task.sleep(for: .milliseconds(50))
            }
            let head = try await client.head(of: bench.tenant).position
            try await client.awaitConsumer(bench.consumer, position: head, timeout: .seconds(60))
            #expect(try await client.consumer(bench.consumer).blockedKeyCount == 0, "\(place)")
            #expect(try await client.schedules(of: bench.tenant).isEmpty, "\(place)")
            let ends = try await check(bench, client, place)
            print("transfers: \(ends), \(kills) runners and \(serverKills) servers killed")
        }
        try await server.stop()
    }

    /// Holds what is stored to an oracle that knows of the transfers only what was asked for and how each has ended.
    /// - Returns: how many ended how.
    private func check(
        _ bench: TransferBench, _ client: MartletClient, _ place: String
    ) async throws -> [String: Int] {
        var ends: [UUID: [String]] = [:]
        var balances: [UUID: Int] = [:]
        // Postings of each transfer, as text.
        var postings: [UUID: [String]] = [:]
        let codec = try EventCodec<Account>()
        for try await event in try await client.read(ReadRequest(tenant: bench.tenant)) {
            let id = event.aggregate.id
            let type = event.event.type.text
            if event.aggregate.type == Transfer.type, ["rejected", "completed", "refunded"].contains(type) {
                ends[id, default: []].append(type)
            }
            guard event.aggregate.type == Account.type, case .event(let known)? = try codec.decode(event).first else {
                continue
            }
            switch known {
            case .deposited(let posting):
                balances[id, default: 0] += posting.cents
                if let transfer = posting.transfer { postings[transfer, default: []].append("+\(posting.cents) \(id)") }
            case .withdrawn(let posting):
                balances[id, default: 0] -= posting.cents
                if let transfer = posting.transfer { postings[transfer, default: []].append("-\(posting.cents) \(id)") }
            case .opened, .closed: break
            }
        }
        var expected = Dictionary(uniqueKeysWithValues: bench.accounts.map { ($0, bench.cash) })
        var counts: [String: Int] = [:]
        for request in bench.requests {
            let end = ends[request.id] ?? []
            #expect(end.count == 1, "\(place): \(request) ended with \(end)")
            let (out, back) = ("-\(request.cents) \(request.from)", "+\(request.cents) \(request.from)")
            let moved: [String]
            switch end.first {
            case "completed":
                moved = [out, "+\(request.cents) \(request.to)"]
                expected[request.from, default: 0] -= request.cents
                expected[request.to, default: 0] += request.cents
            case "refunded": moved = [out, back]
            default: moved = []
            }
            #expect(postings[request.id] ?? [] == moved, "\(place): \(request) ended with \(end)")
            counts[end.first ?? "not", default: 0] += 1
        }
        #expect(balances == expected, "\(place)")
        #expect(counts["completed"] ?? 0 > bench.requests.count / 2, "\(place): \(counts)")
        return counts
    }
}
