import FoundationEssentials
import MartletModel
public import MartletStorage

/// Tenants with consumers of several names, and what a reader must say of who has one of a name.
public struct ConsumerTenants {
    /// In no order, the first and the last of all ids among them: engines number tenants in this one.
    private static let tenants: [TenantID] = [
        TenantID(UUID(high: 0x8000_0000_0000_0001, low: 1)), TenantID(UUID(high: 7, low: 2)),
        TenantID(UUID(high: .max, low: .max)), TenantID(UUID(high: 7, low: 0x8000_0000_0000_0000)),
        TenantID(UUID(high: 0, low: 0)), TenantID(UUID(high: 0x7F00_0000_0000_0000, low: 0)),
        TenantID(UUID(high: 7, low: 1)),
    ]
    /// Some begin with others.
    private static let names = ["a", "ab", "a.", "A", "b"]
    /// Has no events and no consumers.
    private static let stranger = TenantID(UUID(high: 7, low: 3))

    private let engine: any StorageEngine
    private let writer: ConsumerWriter
    private var names: [TenantID: Set<String>] = [:]

    /// Whether the engine says who has a consumer of a name, as consumers are put, put again and deleted.
    ///
    /// - Parameter engine: nothing is stored in it yet.
    /// - Throws: ``ConformanceFailure`` naming the question and the answer that is wrong.
    public static func check(_ engine: any StorageEngine) throws {
        var check = ConsumerTenants(engine)
        try check.all()
    }

    private init(_ engine: any StorageEngine) {
        self.engine = engine
        writer = ConsumerWriter(engine.makeWriter())
    }

    private mutating func all() throws {
        try questions()
        let owned: [[String]] = [["a", "b"], ["ab"], ["a", "ab", "a."], ["a."], ["a", "A"], [], ["a"]]
        for (tenant, names) in zip(Self.tenants, owned) {
            try engine.makeWriter().append(.sample(tenant: tenant))
            for name in names { try put(name, of: tenant) }
        }
        try questions()
        // A consumer that is put again is still one.
        try put("a", of: Self.tenants[0])
        try delete("a", of: Self.tenants[2])
        try delete("ab", of: Self.tenants[1])
        try questions()
        try put("a", of: Self.tenants[2])
        try delete("b", of: Self.tenants[0])
        try questions()
    }

    private mutating func put(_ name: String, of tenant: TenantID) throws {
        names[tenant, default: []].insert(name)
        let put = PutConsumer(ConsumerDefinition(slotCount: 2), start: .start, expected: .any, countMax: 9)
        try writer.change(ConsumerChange(.put(put), of: .named(name, of: tenant)))
    }

    private mutating func delete(_ name: String, of tenant: TenantID) throws {
        names[tenant]?.remove(name)
        try writer.change(ConsumerChange(.delete, of: .named(name, of: tenant)))
    }

    /// Every name, in every kind of scope, above every tenant, in pages of several sizes.
    private func questions() throws {
        let reader = engine.makeReader()
        let (tenants, stranger) = (Self.tenants, Self.stranger)
        let scopes: [TenantScope] = [
            .all, .only(Set(tenants + [stranger])), .only([tenants[0], tenants[3], tenants[5], stranger]),
            .only([tenants[2], tenants[4]]), .only([stranger]), .only([]),
        ]
        for name in Self.names {
            let consumer = ConsumerID.named(name, of: stranger).name
            for scope in scopes {
                let owners = tenants.filter { scope.allows($0) && names[$0]?.contains(name) == true }.sorted()
                for after in [nil, stranger] + tenants.map(Optional.some) {
                    let above = owners.filter { owner in after.map { owner > $0 } ?? true }
                    for countMax in [1, 2, 100] {
                        try requireEqual(
                            try reader.tenants(withConsumer: consumer, in: scope, after: after, countMax: countMax),
                            Array(above.prefix(countMax)),
                            "at most \(countMax) tenants with the consumer \(name) after \(after as Any) of \(scope)")
                    }
                }
            }
        }
    }
}
