import FoundationEssentials
import MartletClient
import MartletModel
import MartletProjections
import MartletTesting
import NIOConcurrencyHelpers
import NIOCore
import Testing

/// Tenants that have a consumer of one name each.
struct TenantsHarness: Sendable {
    /// The accounts are the same in all tenants.
    static let accounts: UInt64 = 5

    let tenants: [TenantID]
    let name: ConsumerName
    let worker: WorkerName
    let random = NIOLockedValueBox(SeededGenerator.fromEnvironment())

    init(tenants count: Int = 3) throws {
        tenants = (0..<count).map { _ in TenantID(UUID()) }.sorted()
        // Characters that mean something in patterns.
        name = try #require(ConsumerName("led_ger.a:b-c"))
        worker = try #require(WorkerName("all"))
    }

    var seed: Comment { Comment(rawValue: "seed \(random.withLockedValue { $0.seed })") }

    func id(_ tenant: TenantID) -> ConsumerID { ConsumerID(tenant: tenant, name: name) }

    func put(_ tenant: TenantID, _ client: MartletClient) async throws {
        var definition = ConsumerDefinition(slotCount: 4)
        definition.delivery.backoffMin = .milliseconds(5)
        definition.delivery.triesMax = 1_000
        try await client.putConsumer(PutConsumerRequest(id(tenant), definition))
    }

    /// Appends so many events of a tenant, by chance to each of the accounts.
    func append(_ count: Int, _ tenant: TenantID, _ client: MartletClient) async throws {
        for _ in 0..<count {
            let (account, bytes) = random.withLockedValue {
                (UInt64.random(in: 0..<Self.accounts, using: &$0), Int.random(in: 1...9, using: &$0))
            }
            try await append(String(repeating: "x", count: bytes), to: account, tenant, client)
        }
    }

    @discardableResult
    func append(
        _ text: String, to account: UInt64, _ tenant: TenantID, _ client: MartletClient
    ) async throws -> Position {
        let event = NewEvent(
            type: EventType("Moved"), contentType: "text/plain", payload: ByteBuffer(string: text))
        return try await client.append(
            [event], to: RebuildHarness.account(account), expecting: .any, tenant: tenant
        ).lastPosition
    }

    func awaitHeads(_ client: MartletClient, of tenants: [TenantID]? = nil) async throws {
        for tenant in tenants ?? self.tenants {
            let head = try await client.head(of: tenant).position
            try await client.awaitConsumer(id(tenant), position: head, timeout: .seconds(60))
        }
    }

    /// Tries all keys again that are blocked, until none is.
    func unblockAll(_ client: MartletClient, of tenants: [TenantID]? = nil) async throws {
        for tenant in tenants ?? self.tenants {
            while try await client.consumer(id(tenant)).blockedKeyCount > 0 {
                let keys = try await client.blockedKeys(of: id(tenant)).map { UnblockKeysRequest.Key($0.place) }
                if !keys.isEmpty { try await client.unblockKeys(UnblockKeysRequest(id(tenant), keys: keys)) }
                try await Task.sleep(for: .milliseconds(20))
            }
        }
    }

    func whileRunning<Database: ProjectionDatabase>(
        _ runner: ProjectionRunner<Database>, _ body: @Sendable () async throws -> Void
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await runner.run() }
            try await body()
            group.cancelAll()
            try await group.waitForAll()
        }
    }

    /// Compares the read model with what the events of each tenant say: each once, in the order of its account, but for some.
    /// - Parameters:
    ///   - effects: selects tenant, id, account and version of what was done, in the order in which it was.
    ///   - sums: selects tenant, account and the sum of its cents, in the order of the first two.
    func expectAll(
        _ client: MartletClient, _ readModels: TestReadModels, of tenants: [TenantID]? = nil,
        without missing: [TenantID: Set<Position>] = [:], effects: String, sums: String, _ comment: Comment? = nil,
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws {
        let effects = try await readModels.rows(effects)
        var expectedSums: [[SQLValue]] = []
        for tenant in tenants ?? self.tenants {
            var ids: [String] = []
            var cents: [String: Int64] = [:]
            for try await event in try await client.read(ReadRequest(tenant: tenant))
            where missing[tenant]?.contains(event.position) != true {
                ids.append("\(event.event.id)".lowercased())
                cents["\(event.aggregate.id)", default: 0] += Int64(event.event.payload.readableBytes)
            }
            expectedSums += cents.sorted { $0.key < $1.key }
                .map { [.text("\(tenant)"), .text($0.key), .integer($0.value)] }
            let rows = effects.filter { $0[0] == .text("\(tenant)") }
            #expect(rows.count == ids.count, comment, sourceLocation: sourceLocation)
            #expect(Set(rows.compactMap(\.[1].text)) == Set(ids), comment, sourceLocation: sourceLocation)
            var versions: [String: Int64] = [:]
            for row in rows {
                let (account, version) = (row[2].text ?? "", row[3].integer ?? 0)
                #expect(version == versions[account, default: 0] + 1, comment, sourceLocation: sourceLocation)
                versions[account] = version
            }
        }
        #expect(try await readModels.rows(sums) == expectedSums, comment, sourceLocation: sourceLocation)
    }
}

/// A database that does something before each statement.
struct HookedDatabase: ProjectionDatabase {
    struct Transaction: ProjectionTransaction {
        let base: any ProjectionTransaction
        let hook: @Sendable (String, [SQLValue]) async throws -> Void

        func execute(_ sql: String, _ values: [SQLValue]) async throws -> [[SQLValue]] {
            try await hook(sql, values)
            return try await base.execute(sql, values)
        }
    }

    let base: TestReadModels
    let hook: @Sendable (String, [SQLValue]) async throws -> Void

    var bytesType: String { base.bytesType }
    var lockTimeoutStatement: String? { base.lockTimeoutStatement }

    func withTransaction<Result: Sendable>(
        _ body: @Sendable (Transaction) async throws -> Result
    ) async throws -> Result {
        try await base.withTransaction { try await body(Transaction(base: $0, hook: hook)) }
    }
}
