import Accounts
import Foundation
import MartletClient
import MartletEventSourcing
import MartletModel
import MartletProcesses
import MartletStorageMemory
import MartletTesting
import NIOCore
import Testing
import Transfers

/// Runners on a server in this process.
@Suite struct RunnerTests {
    private let tenant = TenantID(UUID())
    private let consumer: ConsumerID

    init() throws { consumer = ConsumerID(tenant: tenant, name: try #require(ConsumerName("process"))) }

    /// Runs a process beside `body`, whose consumer retries soon and parks after three tries.
    private func with<Manager: ProcessManager>(
        _ manager: Manager, _ filter: EventFilter, runners: Int = 2,
        _ body: @escaping @Sendable (MartletClient) async throws -> Void
    ) async throws {
        var definition = ConsumerDefinition(filter: filter, slotCount: 4)
        definition.delivery.backoffMin = .milliseconds(10)
        definition.delivery.triesMax = 3
        try await TestServer.with(MemoryEngine()) { [definition] server in
            try await server.withClient { client in
                try await client.putConsumer(PutConsumerRequest(consumer, definition))
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for number in 0..<runners {
                        let worker = try #require(WorkerName("worker-\(number)"))
                        group.addTask {
                            try await ProcessRunner(manager, of: consumer, as: worker, client: client).run()
                        }
                    }
                    try await body(client)
                    group.cancelAll()
                    try await group.waitForAll()
                }
            }
        }
    }

    private func settle(_ client: MartletClient) async throws {
        let head = try await client.head(of: tenant).position
        try await client.awaitConsumer(consumer, position: head, timeout: .seconds(20))
    }

    private func events(_ client: MartletClient) async throws -> [RecordedEvent] {
        var events: [RecordedEvent] = []
        for try await event in try await client.read(ReadRequest(tenant: tenant)) { events.append(event) }
        return events
    }

    private func wait(_ condition: () async throws -> Bool) async throws {
        let tooLong = ContinuousClock.now + .seconds(20)
        while try await !condition() {
            try #require(ContinuousClock.now < tooLong, "it did not come about")
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    /// As the page shows it.
    private func run(_ client: MartletClient, _ worker: WorkerName) async throws {
        let filter = Transfers.filter(reactingTo: Clearing.type)
        try await client.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition(filter: filter)))
        let runner = ProcessRunner(Transfers(), of: consumer, as: worker, client: client)
        try await runner.run()
    }

    @Test func theFirstTransferIsRejected() async throws {
        try await TestServer.with(MemoryEngine()) { server in
            try await server.withClient { client in
                let worker = try #require(WorkerName("transfers-1"))
                try await withThrowingTaskGroup(of: Void.self) { group in
                    group.addTask { try await run(client, worker) }
                    let transfers = try MartletEventSourcing.Repository<Transfer>(client.tenant(tenant))
                    let id = UUID()
                    try await transfers.execute(id, .request(from: UUID(), to: UUID(), cents: 1))
                    try await wait { try await transfers.load(id).phase == .rejected }
                    group.cancelAll()
                    try await group.waitForAll()
                }
            }
        }
    }

    private static let filter = Transfers.filter(reactingTo: Clearing.type)

    @Test func aTransferIsCompletedAndAnotherOneOverdue() async throws {
        try await with(Transfers(patience: .milliseconds(500)), Self.filter) { client in
            let accounts = try MartletEventSourcing.Repository<Account>(client.tenant(tenant))
            let transfers = try MartletEventSourcing.Repository<Transfer>(client.tenant(tenant))
            let clearing = try MartletEventSourcing.Repository<Clearing>(client.tenant(tenant))
            let (ada, bob) = (UUID(), UUID())
            for account in [ada, bob] { try await accounts.execute(account, .open(owner: "Ada")) }
            try await accounts.execute(ada, .deposit(cents: 500))
            let (approved, forgotten) = (UUID(), UUID())
            for transfer in [approved, forgotten] {
                try await transfers.execute(transfer, .request(from: ada, to: bob, cents: 200))
                try await wait { try await transfers.load(transfer).phase == .withdrawn }
            }
            #expect(try await accounts.load(ada).cents == 100)
            try await clearing.execute(approved, .approve)
            try await wait { try await transfers.load(approved).phase == .completed }
            try await wait { try await transfers.load(forgotten).phase == .refunded }
            try await settle(client)
            #expect(try await accounts.load(ada).cents == 300)
            #expect(try await accounts.load(bob).cents == 200)
            #expect(try await client.schedules(of: tenant).isEmpty)
            #expect(try await client.consumer(consumer).blockedKeyCount == 0)
            // What the process wrote says why.
            let requested = try #require(await events(client).first { $0.event.type.text == "requested" })
            let withdrawn = try #require(await events(client).first { $0.event.type.text == "withdrawn" })
            #expect(withdrawn.event.metadata.causationID == requested.event.id.uuidString.lowercased())
        }
    }

    @Test func snapshotsThatAreDueAreSaved() async throws {
        try await with(Transfers(), Self.filter) { client in
            let policies = #"{"policies": [{"aggregate_type": "account", "every_events": 3}]}"#
            _ = try await client.putSettings(
                PutSettingsRequest(tenant: tenant, kind: .snapshotPolicies, document: ByteBuffer(string: policies)))
            var options = RepositoryOptions()
            options.snapshots = .never
            let accounts = try MartletEventSourcing.Repository<Account>(client.tenant(tenant), options: options)
            let transfers = try MartletEventSourcing.Repository<Transfer>(client.tenant(tenant))
            let ada = UUID()
            try await accounts.execute(ada, .open(owner: "Ada"))
            try await accounts.execute(ada, .deposit(cents: 500))
            try await transfers.execute(UUID(), .request(from: ada, to: UUID(), cents: 200))
            let name = AggregateName(type: Account.type, id: ada)
            try await wait {
                try await client.listSnapshots(of: name, tenant: tenant).map(\.version) == [Version(3)]
            }
            #expect(try await accounts.load(ada).cents == 300 && accounts.figures.snapshotsUsed == 1)
        }
    }

    @Test func oneEventConcernsSeveralInstances() async throws {
        try await with(Meetings(), Meetings.filter(reactingTo: Meetings.rooms)) { client in
            let guests = (0..<3).map { _ in UUID() }
            // Named twice, it is still one instance.
            let payload = (guests + guests).map { $0.uuidString }.joined(separator: " ")
            let event = NewEvent(
                type: EventType("Closed"), contentType: "text/plain",
                payload: ByteBuffer(string: payload))
            let room = AggregateName(type: Meetings.rooms, id: UUID())
            _ = try await client.append([event], to: room, expecting: .none, tenant: tenant)
            try await settle(client)
            let reaction = try await events(client).dropFirst()
            #expect(reaction.filter { $0.event.type.text == "moved" }.map(\.aggregate.id) == guests)
            // All of them wrote to one inbox too.
            #expect(reaction.map(\.event.type.text).filter { $0 == "Apology" }.count == 3)
            #expect(Set(reaction.map(\.recordedAt)).count == 1 && reaction.count == 6)
        }
    }

    @Test func aRefusalThatNobodyExpectsParksTheEvent() async throws {
        try await with(Meetings(), Meetings.filter(reactingTo: Meetings.rooms)) { client in
            let event = NewEvent(
                type: EventType("Charged"), contentType: "text/plain",
                payload: ByteBuffer(string: UUID().uuidString))
            let room = AggregateName(type: Meetings.rooms, id: UUID())
            _ = try await client.append([event], to: room, expecting: .none, tenant: tenant)
            try await wait { try await client.blockedKeys(of: consumer).first?.blocked.until == .asked }
            let blocked = try #require(await client.blockedKeys(of: consumer).first?.blocked)
            #expect(blocked.reason == "isNotOpen" && blocked.tries == 3)
            #expect(try await events(client).count == 1)
        }
    }

    @Test(arguments: ["Silent", "Slow"])
    func aPlanThatCannotWorkParksTheEvent(_ type: String) async throws {
        var filter = Meetings.filter(reactingTo: Meetings.rooms)
        filter.eventTypes = [try #require(EventType(type))]
        try await with(Meetings(), filter) { client in
            let event = NewEvent(
                type: try #require(EventType(type)), contentType: "text/plain",
                payload: ByteBuffer(string: UUID().uuidString))
            let room = AggregateName(type: Meetings.rooms, id: UUID())
            _ = try await client.append([event], to: room, expecting: .none, tenant: tenant)
            try await wait { try await client.blockedKeys(of: consumer).first?.blocked.until == .asked }
            let reason = try #require(await client.blockedKeys(of: consumer).first?.blocked.reason)
            #expect(
                reason.contains(type == "Silent" ? "records no event" : "keeps out the time-out moved"), "\(reason)")
            #expect(try await events(client).count == 1)
        }
    }
}

/// A guest of a meeting.
private struct Guest: Aggregate {
    enum Event: Sendable { case moved }

    static let type: AggregateType = "guest"
    static let schema = Schema<Guest>().event("moved", .moved)

    init(id: UUID) {}
    mutating func apply(_ event: Event) {}
}

/// Reacts to events of rooms, whose payloads name guests.
private struct Meetings: ProcessManager {
    typealias State = Guest

    static let rooms = AggregateType("room")
    private let inbox = AggregateName(type: AggregateType("inbox"), id: UUID())

    func correlate(_ event: ProcessEvent) -> [UUID] {
        guard event.recorded.aggregate.type == Self.rooms else { return [] }
        return String(buffer: event.recorded.event.payload).split(separator: " ").compactMap { UUID(text: $0) }
    }

    func plan(_ event: ProcessEvent, for guest: Loaded<Guest>) throws -> Plan {
        switch event.recorded.event.type.text {
        case "Charged":
            return Plan().execute(.withdraw(cents: 1), on: Account.self, guest.id).record(.moved)
        case "Silent": return Plan().cancelTimeOut("x")
        case "Slow": return Plan().record(.moved).setTimeOut("x", after: .seconds(1), .moved)
        default:
            return Plan().record(.moved)
                .append(NewEvent(type: "Apology", payload: ByteBuffer(string: "{}")), to: inbox)
        }
    }
}
