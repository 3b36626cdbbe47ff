import FoundationEssentials
import MartletModel
import MartletStorage
import MartletStorageMemory
import MartletSubscriptions
import MartletTenants
import MartletTesting
import MartletUpcasting
import NIOConcurrencyHelpers
import NIOCore
import Testing

@testable import MartletService

/// Settings of a storage that has come back with another past.
@Suite struct ChangedPastTests {
    private let engine = MemoryEngine()
    private let hub = EventHub(limits: Limits())
    private let settings = SettingsCache(limits: Limits())
    private let tenant = TenantID(UUID())

    private func look(_ reader: (any StorageReader)? = nil) throws {
        let check = TenantStateCheck(hub: hub, settings: settings, forgetPages: { _ in })
        try check.look(after: [TenantStateRefresh.Asked(tenant: tenant)], reader ?? engine.makeReader())
    }

    private func append(_ count: Int) throws {
        for _ in 0..<count { _ = try engine.makeWriter().commit([.sample(tenant: tenant)], now: .now()) }
    }

    private func put(renamingTo type: String) throws {
        let steps = #"{"upcasters":[{"event":"Made","from":1,"operations":[{"type":"\#(type)"}]}]}"#
        _ = try engine.makeWriter().apply(
            .putSettings(PutSettingsRequest(tenant: tenant, kind: .upcasters, document: ByteBuffer(string: steps))),
            now: .now())
    }

    /// As what events of type `Made` are delivered; nil where the settings cannot be had.
    private func delivered(_ feed: TenantFeed) throws -> String? {
        let made = EventType("Made")
        return (try? feed.settings.get())?.upcasters.deliveredType(of: made, schemaVersion: 1).text
    }

    /// A failover that lost settings, and no event.
    @Test func lostSettingsAreNoLongerInForce() throws {
        let feed = hub.follow(tenant)
        try append(3)
        try put(renamingTo: "Lost")
        try look()
        #expect(try delivered(feed) == "Lost")
        engine.restore([tenant: 3], losesSettings: true)
        // The listener has connected again.
        settings.forgetAll()
        try look()
        #expect(try delivered(feed) == "Made" && feed.past == 0)
        // They have the revision now that the lost ones had.
        try put(renamingTo: "New")
        try look()
        #expect(try delivered(feed) == "New")
    }

    @Test func whatIsTheSameIsNoNews() throws {
        let feed = hub.follow(tenant)
        try append(1)
        try put(renamingTo: "Built")
        try look()
        let before = try feed.settings.get()
        settings.forgetAll()
        #expect(settings.known(tenant, now: .now()) == nil, "it is not believed before storage has told it again")
        try look()
        let after = try feed.settings.get()
        #expect(after.upcastersVersion == before.upcastersVersion && after.epoch == before.epoch + 1)
        #expect(after.upcasters.memoryBytes == before.upcasters.memoryBytes)
        #expect(settings.known(tenant, now: .now())?.settings.revision == 1)
    }

    /// Nobody goes on under settings that are not in force, however short.
    @Test func anotherPastComesWithItsSettings() throws {
        let feed = hub.follow(tenant)
        try append(5)
        try put(renamingTo: "Built")
        try look()
        engine.restore([tenant: 3])
        let pasts = NIOLockedValueBox<[UInt64]>([])
        let watching = SettingsWatch(
            engine.makeReader(), after: { pasts.withLockedValue { $0.append(feed.past) } })
        try look(watching)
        #expect(try feed.past == 1 && delivered(feed) == "Built")
        #expect(pasts.withLockedValue { $0 }.first == 0, "the settings are read before the past is over for anybody")
    }

    @Test func whereTheSettingsCannotBeReadNothingHasChanged() throws {
        let feed = hub.follow(tenant)
        try append(5)
        try put(renamingTo: "Built")
        try look()
        engine.restore([tenant: 3])
        let failing = SettingsWatch(
            engine.makeReader(), before: { _ throws(StorageError) in throw StorageError(.unavailable, "planted") })
        #expect(throws: StorageError.self) { try look(failing) }
        #expect(try feed.past == 0 && delivered(feed) == "Built")
        try look()
        #expect(try feed.past == 1 && delivered(feed) == "Built")
    }

    /// What was read of settings before they were doubted is not kept after it.
    @Test func whatWasReadBeforeADoubtIsNotKept() throws {
        try put(renamingTo: "Lost")
        let reader = SettingsWatch(engine.makeReader(), after: { settings.forget(tenant) })
        _ = try settings.resolve(tenant, try reader.tenantState(of: tenant), reader: reader)
        #expect(settings.known(tenant, now: .now()) == nil)
    }
}
