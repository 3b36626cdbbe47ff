import Accounts
import Foundation
import MartletClient
import MartletEventSourcing
import MartletModel
import MartletProcesses
import MartletTLSOpenSSL
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing
import Transfers

/// Transfers between random accounts, those who ask for them, and those who approve them.
struct TransferBench: Sendable {
    struct Request: Sendable {
        var id: UUID
        var from: UUID
        var to: UUID
        var cents: Int
    }

    let consumer: ConsumerID
    let clearing: ConsumerID
    /// Where something is killed all the time, most transfers are to end by themselves.
    let patience: Duration
    let accounts: [UUID]
    let closed: Set<UUID>
    let requests: [Request]
    let cash = 1_000
    /// How many transfers have ended.
    let ended = NIOLockedValueBox(0)
    private let openMax = 60

    init(transfers: Int, _ random: inout SeededGenerator) throws {
        patience = .seconds(transfers > 1_000 ? 12 : 3)
        let tenant = TenantID(UUID())
        consumer = ConsumerID(tenant: tenant, name: try #require(ConsumerName("transfers")))
        clearing = ConsumerID(tenant: tenant, name: try #require(ConsumerName("clearing")))
        accounts = (0..<40).map { _ in UUID(high: random.next(), low: random.next()) }
        closed = Set(accounts.suffix(4))
        var requests: [Request] = []
        for _ in 0..<transfers {
            requests.append(
                Request(
                    id: UUID(high: random.next(), low: random.next()),
                    from: accounts[Int.random(in: 0..<36, using: &random)],
                    to: accounts[Int.random(in: 0..<40, using: &random)], cents: .random(in: 1...300, using: &random)))
        }
        self.requests = requests
    }

    var tenant: TenantID { consumer.tenant }

    func configuration(_ port: Int) throws -> ClientConfiguration {
        ClientConfiguration(
            host: "127.0.0.1", port: port,
            tls: .init(caFile: try TestCertificates.shared.get().file("ca.pem"), serverName: "127.0.0.1"),
            clientName: "kill")
    }

    func runner(_ number: Int, _ port: Int) throws -> Process {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: Binary.path).deletingLastPathComponent()
            .appendingPathComponent("bank")
        process.arguments = ["transfers"]
        process.environment = ProcessInfo.processInfo.environment.merging([
            "MARTLET_SERVER": "127.0.0.1:\(port)", "MARTLET_TENANT": tenant.uuid.uuidString,
            "MARTLET_CA": try TestCertificates.shared.get().file("ca.pem"), "BANK_WORKER": "runner-\(number)",
            "BANK_PATIENCE_MILLIS": "\(Int(patience / .milliseconds(1)))",
        ]) { $1 }
        try process.run()
        return process
    }

    /// Puts both consumers, and opens the accounts.
    func prepare(_ client: MartletClient) async throws {
        var definition = ConsumerDefinition(filter: Transfers.filter(reactingTo: Clearing.type), slotCount: 8)
        definition.delivery.backoffMin = .milliseconds(20)
        definition.delivery.triesMax = 1_000
        try await client.putConsumer(PutConsumerRequest(consumer, definition))
        definition.filter = EventFilter(
            aggregateTypes: [Clearing.type], eventTypes: [EventType("asked")])
        try await client.putConsumer(PutConsumerRequest(clearing, definition))
        let repository = try MartletEventSourcing.Repository<Account>(client.tenant(tenant))
        for account in accounts {
            try await repository.execute(account, .open(owner: "Ada"))
            try await repository.execute(account, .deposit(cents: cash))
            if closed.contains(account) { try await repository.execute(account, .close) }
        }
    }

    /// Asks for the transfers, with few of them open at a time.
    func request(_ client: MartletClient) async throws {
        let transfers = try MartletEventSourcing.Repository<Transfer>(client.tenant(tenant))
        for (index, request) in requests.enumerated() {
            while index - ended.withLockedValue({ $0 }) >= openMax { try await Task.sleep(for: .milliseconds(5)) }
            try await untilItWorks {
                try await transfers.execute(
                    request.id, .request(from: request.from, to: request.to, cents: request.cents))
            }
        }
    }

    /// Approves most transfers; some never, and some after their time.
    func approve(_ client: MartletClient) async throws {
        let repository = try MartletEventSourcing.Repository<Clearing>(client.tenant(tenant))
        let codec = try EventCodec<Clearing>()
        let worker = try #require(WorkerName("clearing"))
        let consumption = client.consume(ConsumeRequest(clearing, worker: worker))
        for try await item in consumption {
            guard case .events(let events) = item else { continue }
            for event in events {
                let id = event.event.aggregate.id
                switch id.bytes[15] % 25 {
                case 0: break
                case 1:
                    // With ids that follow from the transfer's: done twice, it is one schedule.
                    let late = Timestamp.now().microseconds + Int64(patience * 1.5 / .microseconds(1))
                    let schedule = ScheduledEvent(
                        try #require(ScheduleKey("late:\(id)")), due: Timestamp(microseconds: late),
                        aggregate: event.event.aggregate, event: try codec.encode(.approved, id: id))
                    try await untilItWorks { try await client.setSchedule(schedule, tenant: tenant) }
                default: try await untilItWorks { try await repository.execute(id, .approve) }
                }
                consumption.acknowledge(event.delivery)
            }
        }
    }

    /// Counts the transfers that end.
    func count(_ client: MartletClient) async throws {
        let ends = ["rejected", "completed", "refunded"].compactMap { EventType($0) }
        let filter = EventFilter(aggregateTypes: [Transfer.type], eventTypes: Set(ends))
        for try await item in client.subscribe(SubscribeRequest(tenant: tenant, filter: filter)) {
            if case .events(let events, _) = item { ended.withLockedValue { $0 += events.count } }
        }
    }

    private func untilItWorks(_ body: () async throws -> some Sendable) async throws {
        while true {
            do {
                _ = try await body()
                return
            } catch let error as MartletError where error.isRetryable || error.code == .deadlineExceeded {
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }
}
