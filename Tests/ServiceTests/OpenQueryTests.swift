import FoundationEssentials
import MartletDelivery
import MartletModel
import MartletQueries
import MartletStorage
import MartletStorageMemory
import MartletTenants
import MartletTesting
import NIOCore
import Testing

@Suite struct OpenQueryTests {
    /// The snapshot leaves with the view: what waits for credit afterwards holds only its place.
    @Test func whatGoesOnHoldsNoSnapshot() throws {
        let (engine, tenant, name) = (MemoryEngine(), TenantID(UUID()), AggregateName.new())
        let writer = engine.makeWriter()
        _ = try writer.commit([.append(.sample(5, to: name, tenant: tenant))], now: .now(), lockWait: .zero)
        let snapshot = NewSnapshot(payload: ByteBuffer(repeating: 0x20, count: 100_000))
        let save = SaveSnapshotRequest(tenant: tenant, aggregate: name, version: Version(2), snapshot: snapshot)
        _ = try writer.commit([.change(.saveSnapshot(save, kept: 3))], now: .now(), lockWait: .zero)
        let queries = QueryOpening(settings: SettingsCache(limits: Limits()), limits: Limits())
        let reader = engine.makeReader()
        let opened = try queries.open(
            LoadRequest(tenant: tenant, aggregate: name, snapshot: SnapshotUse()), now: .now(), reader: reader
        ).get()
        func snapshotBytes(_ query: OpenQuery) -> Int? {
            guard case .load(let view) = query.view else { return nil }
            return view.snapshot?.payload.readableBytes ?? 0
        }
        #expect(snapshotBytes(opened) == 100_000)
        let told = opened.viewTold
        let page = try told.read(reader, bytesMax: 1, scanMax: 100).get().page
        let rest = try #require(told.rest(after: page))
        #expect(page.count == 1 && snapshotBytes(told) == 0 && snapshotBytes(rest) == 0)
        guard case .load(let view) = rest.view else { return }
        #expect(view.version == Version(5), "the view is the same")
    }
}
