public import MartletModel
public import MartletStorage
public import MartletUpcasting
import NIOConcurrencyHelpers
public import NIOCore

/// A tenant's settings, read and compiled.
public struct TenantSettings: Sendable {
    /// The revision of all of them together.
    public var revision: UInt64
    /// Counts how often the server has ceased to believe what it knew (``SettingsCache/forget(_:)``): of two settings of a
    /// tenant, those of the later epoch are the newer ones, and within one epoch those of the higher revision.
    public var epoch: UInt64
    /// How events and snapshots of old schemas become those of today.
    public var upcasters: UpcasterSet
    /// Tells the upcasters from others that the tenant has had.
    public var upcastersVersion: UpcastersVersion
    /// When snapshots are due.
    public var policies: SnapshotPolicies

    /// The settings of a tenant that has none.
    public static let none = TenantSettings(revision: 0, upcasters: .empty, upcastersVersion: .none, policies: .none)

    /// Settings of those parts.
    public init(
        revision: UInt64, epoch: UInt64 = 0, upcasters: UpcasterSet, upcastersVersion: UpcastersVersion,
        policies: SnapshotPolicies
    ) {
        self.revision = revision
        self.epoch = epoch
        self.upcasters = upcasters
        self.upcastersVersion = upcastersVersion
        self.policies = policies
    }

    /// Whether these are newer than others of the same tenant.
    public func isNewer(than other: TenantSettings) -> Bool { (epoch, revision) > (other.epoch, other.revision) }
}

/// The revision since which a tenant's upcasters are what they are, as far as this server has seen, and in which epoch it
/// saw them: after a failover the same revision can have others.
public struct UpcastersVersion: Hashable, Sendable {
    /// The epoch in which they were read first.
    public var epoch: UInt64
    /// The revision of the settings that they were read with.
    public var revision: UInt64

    /// Of a tenant without settings.
    public static let none = UpcastersVersion(epoch: 0, revision: 0)

    /// A version of those numbers.
    public init(epoch: UInt64, revision: UInt64) {
        self.epoch = epoch
        self.revision = revision
    }
}

/// The settings of the tenants that were used last, compiled once. Every load and every start of a subscription
/// compares the revision that storage has, so that no reader ever goes by older settings than those that were
/// acknowledged before it began; what is put here by one server is seen by the others so too. Bounded in bytes, what was
/// compiled included; one tenant's settings are held even where they alone are larger.
///
/// A call keeps the settings that were in force when it began, even after they have changed. All compiled settings that are
/// in use, by the cache or by calls, share a pool of the same size, of which each tenant gets a fair share.
///
/// Settings that this server cannot read, because a newer one has put them, count as none, and are told to `onFault`.
public final class SettingsCache: Sendable {
    private struct Entry {
        var settings: TenantSettings
        var documents: [SettingsKind: ByteBuffer]
        var checkedAt: NIODeadline
        var usedAt: UInt64
        /// Whether storage must say once more that the documents are these.
        var isDoubted = false

        /// What it takes in memory, about: the whole buffers that documents are slices of, and what was compiled.
        var bytes: Int {
            documents.values.reduce(256 + settings.upcasters.memoryBytes + settings.policies.memoryBytes) {
                $0 + max($1.readableBytes, $1.storageCapacity)
            }
        }
    }

    /// Gives the memory of upcasters back when nobody uses them any more.
    private final class Lease: Sendable {
        private let pool: FairPool
        private let bytes: Int
        private let holder: FairPool.Holder

        init(_ pool: FairPool, bytes: Int, _ holder: FairPool.Holder) {
            self.pool = pool
            self.bytes = bytes
            self.holder = holder
        }

        deinit { pool.give(bytes, for: holder) }
    }

    private struct State {
        var entries: [TenantID: Entry] = [:]
        var bytes = 0
        var uses: UInt64 = 0
        /// Grows whenever something that was known is doubted.
        var epoch: UInt64 = 0

        /// Forgets a quarter of the tenants, those that were used last excepted: the search is worth its while.
        /// - Returns: what is to be freed outside the lock.
        mutating func forgetOldest() -> [Entry] {
            let oldest = entries.sorted { $0.value.usedAt < $1.value.usedAt }.prefix(max(1, entries.count / 4))
            for old in oldest { put(nil, old.key) }
            return oldest.map(\.value)
        }

        mutating func put(_ entry: Entry?, _ tenant: TenantID) {
            bytes += (entry?.bytes ?? 0) - (entries[tenant]?.bytes ?? 0)
            entries[tenant] = entry
        }
    }

    private let tenantsMax: Int
    private let bytesMax: Int
    private let uptime: @Sendable () -> NIODeadline
    private let onFault: @Sendable (TenantID, MartletError) -> Void
    private let state = NIOLockedValueBox(State())
    /// What was compiled and is in use.
    private let compiled: FairPool

    /// A cache that knows nothing yet.
    /// - Parameter uptime: the clock of the event loops.
    public init(
        limits: Limits, onFault: @escaping @Sendable (TenantID, MartletError) -> Void = { _, _ in },
        uptime: @escaping @Sendable () -> NIODeadline = { .now() }
    ) {
        tenantsMax = limits.settingsTenantsMax
        bytesMax = limits.settingsCacheBytesMax
        compiled = FairPool(bytesMax: limits.settingsCacheBytesMax)
        self.uptime = uptime
        self.onFault = onFault
    }

    /// What was compiled and is in use takes in memory, about: here, by feeds, and by calls.
    public var compiledBytes: Int { compiled.bytes }

    /// What is held takes in memory, about.
    var bytes: Int { state.withLockedValue { $0.bytes } }

    /// How often something that was known was doubted (``TenantSettings/epoch``).
    public var epoch: UInt64 { state.withLockedValue { $0.epoch } }

    /// What is known of a tenant's settings, without asking storage; nil where nothing is.
    /// - Parameter now: `isOld` where storage was last asked more than 5 seconds before; of many who ask, one is told so.
    public func known(_ tenant: TenantID, now: NIODeadline) -> (settings: TenantSettings, isOld: Bool)? {
        state.withLockedValue { state in
            guard var entry = state.entries[tenant], !entry.isDoubted else { return nil }
            state.uses += 1
            entry.usedAt = state.uses
            let isOld = now - entry.checkedAt > .seconds(5)
            if isOld { entry.checkedAt = now }
            // Put back as a whole: a change in place takes three allocations, for each append and load.
            state.entries[tenant] = entry
            return (entry.settings, isOld)
        }
    }

    /// The settings of a tenant that stands there; on a storage thread.
    /// - Throws: ``MartletStorage/StorageError/Kind/memoryFull`` where older settings that the tenant's calls still use leave
    ///   no room for these.
    public func resolve(
        _ tenant: TenantID, _ tenantState: TenantState, reader: any StorageReader
    ) throws(StorageError) -> TenantSettings {
        var (known, epoch) = state.withLockedValue { state in
            state.entries[tenant]?.checkedAt = uptime()
            return (state.entries[tenant], state.epoch)
        }
        if let known, !known.isDoubted {
            if known.settings.revision >= tenantState.settingsRevision { return known.settings }
            epoch = known.settings.epoch
        }
        guard tenantState.settingsRevision > 0 else {
            var none = TenantSettings.none
            none.epoch = epoch
            return keep(tenant, none, [:])
        }
        let stored = try reader.settings(of: tenant)
        // What is compiled takes more than its document: where that finds no room, it is not compiled.
        let least = stored.documents[.upcasters]?.readableBytes ?? 0
        let isChanged = known == nil || known?.documents[.upcasters] != stored.documents[.upcasters]
        if isChanged { try take(least, tenant) }
        var settings = compile(tenant, stored, known: known, epoch)
        if isChanged { compiled.give(min(least, compiled.bytesMax), for: .tenant(tenant)) }
        // Where they are as they were, their memory is taken already.
        let isNew = known?.settings.upcastersVersion != settings.upcastersVersion
        // They go, unless somebody goes by them.
        known = nil
        if isNew { settings = try held(settings, tenant) }
        return keep(tenant, settings, stored.documents)
    }

    /// Believes a tenant's settings no more until storage has told them again: the storage has come back with another past,
    /// or a change was missed. What was compiled stays, for the case that the documents are the same.
    public func forget(_ tenant: TenantID) {
        state.withLockedValue { state in
            state.epoch += 1
            state.entries[tenant]?.isDoubted = true
        }
    }

    /// Believes no settings any more until storage has told them again.
    public func forgetAll() {
        state.withLockedValue { state in
            state.epoch += 1
            for tenant in state.entries.keys { state.entries[tenant]?.isDoubted = true }
        }
    }

    private func compile(
        _ tenant: TenantID, _ stored: StoredSettings, known: Entry?, _ epoch: UInt64
    ) -> TenantSettings {
        var settings = TenantSettings.none
        settings.revision = stored.revision
        settings.epoch = epoch
        settings.upcastersVersion = UpcastersVersion(epoch: epoch, revision: stored.revision)
        do throws(MartletError) {
            if let known, known.documents[.upcasters] == stored.documents[.upcasters] {
                settings.upcasters = known.settings.upcasters
                settings.upcastersVersion = known.settings.upcastersVersion
            } else if let document = stored.documents[.upcasters] {
                settings.upcasters = try UpcasterSet(definition: document)
            }
        } catch { onFault(tenant, error) }
        // One document that cannot be used leaves the other in force.
        do throws(MartletError) {
            if let document = stored.documents[.snapshotPolicies] {
                settings.policies = try SnapshotPolicies(stored: document)
            }
        } catch { onFault(tenant, error) }
        return settings
    }

    /// The settings, with their memory taken.
    private func held(_ settings: TenantSettings, _ tenant: TenantID) throws(StorageError) -> TenantSettings {
        let bytes = min(settings.upcasters.memoryBytes + settings.policies.memoryBytes, compiled.bytesMax)
        guard bytes > 0 else { return settings }
        try take(bytes, tenant)
        var settings = settings
        settings.upcasters = settings.upcasters.held(by: Lease(compiled, bytes: bytes, .tenant(tenant)))
        return settings
    }

    /// Takes memory; what was not used for long makes room.
    private func take(_ bytes: Int, _ tenant: TenantID) throws(StorageError) {
        // The largest go in where nothing else is.
        let taken = min(bytes, compiled.bytesMax)
        while !compiled.take(taken, for: .tenant(tenant)) {
            // Beyond the share of a tenant that is alone, others need not be forgotten.
            let held = compiled.bytes(of: .tenant(tenant))
            let isWithinShare = held == 0 || 2 * held + taken <= compiled.bytesMax
            if isWithinShare, !state.withLockedValue({ $0.forgetOldest() }).isEmpty { continue }
            throw StorageError(
                .memoryFull,
                "settings_cache_bytes_max is \(bytesMax), and older settings that the tenant's open calls still use leave "
                    + "no room for the \(bytes) bytes of the current ones: end some of these calls, or retry later")
        }
    }

    /// Keeps settings, unless what was read of them was doubted meanwhile.
    /// - Returns: what is in force: where another thread was faster with newer ones, those.
    @discardableResult
    private func keep(
        _ tenant: TenantID, _ settings: TenantSettings, _ documents: [SettingsKind: ByteBuffer]
    ) -> TenantSettings {
        state.withLockedValue { state in
            if let known = state.entries[tenant], !known.isDoubted {
                if !settings.isNewer(than: known.settings) { return known.settings }
            } else if state.epoch != settings.epoch {
                return settings
            }
            state.uses += 1
            let entry = Entry(settings: settings, documents: documents, checkedAt: uptime(), usedAt: state.uses)
            state.put(nil, tenant)
            while state.entries.count >= tenantsMax || state.bytes + entry.bytes > bytesMax, !state.entries.isEmpty {
                _ = state.forgetOldest()
            }
            state.put(entry, tenant)
            return settings
        }
    }
}
