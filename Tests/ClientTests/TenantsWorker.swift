import FoundationEssentials
import MartletModel
import Testing

@testable import MartletClient

/// A worker of many tenants' consumers for tests that take turns: takes items when it is told to, and keeps what it has.
actor TenantsWorker {
    /// An event, and whose it is.
    struct Taken: Sendable {
        var tenant: TenantID
        var event: ConsumedEvent
    }

    nonisolated let consumption: TenantsConsumption
    private var iterator: TenantsConsumption.Iterator?
    /// The slots that it has, with their epochs, of each tenant that it has joined.
    private(set) var epochs: [TenantID: [Int: UInt64]] = [:]
    private(set) var revocations: [TenantID: [[Int]]] = [:]
    private(set) var committed: [TenantID: [Int: Checkpoint]] = [:]
    /// Why it has left tenants, the last time.
    private(set) var left: [TenantID: MartletError] = [:]

    init(_ consumption: TenantsConsumption) {
        self.consumption = consumption
        iterator = consumption.makeAsyncIterator()
    }

    @discardableResult
    func next() async throws -> TenantsConsumptionItem? {
        guard var taken = iterator.take() else { return nil }
        defer { iterator = taken }
        let item = try await taken.next()
        switch item {
        case .joined(let tenants): for tenant in tenants { epochs[tenant] = [:] }
        case .left(let tenant, let error):
            epochs[tenant] = nil
            left[tenant] = error
        case .of(let tenant, let item): note(item, of: tenant)
        case nil: break
        }
        return item
    }

    private func note(_ item: ConsumptionItem, of tenant: TenantID) {
        switch item {
        case .assigned(let slots): for slot in slots { epochs[tenant]?[slot.number] = slot.epoch }
        case .revoked(let slots):
            revocations[tenant, default: []].append(slots)
            for slot in slots { epochs[tenant]?[slot] = nil }
        case .events(let events):
            #expect(events.allSatisfy { epochs[tenant]?[$0.slot] == $0.epoch })
        case .committed(let slot, let checkpoint): committed[tenant, default: [:]][slot] = checkpoint
        case .stopped, .paused: break
        }
    }

    /// Takes items until so many events have come.
    func take(_ count: Int) async throws -> [Taken] {
        var all: [Taken] = []
        while all.count < count {
            if case .of(let tenant, .events(let events))? = try await next() {
                all += events.map { Taken(tenant: tenant, event: $0) }
            }
        }
        return all
    }

    /// Takes items until it has so many slots of each of those tenants, and of no others.
    func hold(slots count: Int, of tenants: [TenantID]) async throws {
        while epochs.mapValues(\.count) != Dictionary(uniqueKeysWithValues: tenants.map { ($0, count) }) {
            try await next()
        }
    }

    /// Takes items until it has left that tenant.
    func leave(_ tenant: TenantID) async throws {
        while left[tenant] == nil { try await next() }
    }

    /// Leaves the loop.
    func leave() { iterator = nil }
}

extension Sample {
    static func tenant(_ number: UInt64) -> TenantID { TenantID(UUID(high: 1, low: number)) }

    static func work(
        _ worker: String = "a", of tenants: Set<TenantID>, epochAbove: UInt64 = 0
    ) throws -> ConsumeTenantsRequest {
        let one = try work(worker, epochAbove: epochAbove)
        return ConsumeTenantsRequest(one.consumer.name, of: tenants, worker: one.worker, epochAbove: epochAbove)
    }
}

extension [TenantsWorker.Taken] {
    func of(_ tenant: TenantID) -> [ConsumedEvent] { filter { $0.tenant == tenant }.map(\.event) }
}
