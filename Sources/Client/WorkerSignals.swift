import MartletModel

/// What a worker's stream must know of the messages without events that wait for the worker: how many there may be, and which
/// of them say how far a slot is, for only the last one of a slot is kept.
///
/// The bound grows with the slots and the tenants that the server has named, and does not shrink: what was said of slots that
/// are gone may still wait. No more of them are noted than a stream can have; a server that names more is the reader's matter.
struct WorkerSignals: Sendable {
    /// Messages that may wait for each slot.
    private static let perSlot = 4

    /// How many messages may wait.
    private(set) var countMax = Self.perSlot * ConsumerDefinition.slotsMax
    private let tenantsMax: Int
    /// The slots that the worker has, by tenant; nil is the tenant of a stream over one. With each, the number of the part
    /// that says how far it is, counted from the stream's start: it may be taken by now. Below 0 for none.
    private var parts: [TenantID?: [Int: Int]] = [:]
    private var slotCount = 0

    /// Of a stream that begins.
    /// - Parameter tenantsMax: tenants that it follows at most.
    init(tenantsMax: Int = 1) { self.tenantsMax = max(1, tenantsMax) }

    /// Whether the worker has joined that tenant's consumer, as far as that is noted.
    func knows(_ tenant: TenantID) -> Bool { parts[tenant] != nil }

    /// A message without events came.
    /// - Parameters:
    ///   - tenant: whom it is about; nil on a stream over one.
    ///   - number: the number that its part gets.
    ///   - takenCount: the number of the first part that waits.
    /// - Returns: the number of the part in whose place it goes; nil where it goes to the end.
    mutating func receive(
        _ message: ConsumeMessage, about tenant: TenantID?, number: Int, takenCount: Int
    ) -> Int? {
        switch message {
        case .committed(let slot, _):
            if let earlier = parts[tenant]?[slot], earlier >= takenCount { return earlier }
            note(number, slot, of: tenant)
        case .assigned(let slots):
            for slot in slots { note(-1, slot.number, of: tenant) }
        case .revoked(let slots):
            for slot in slots where parts[tenant]?.removeValue(forKey: slot) != nil { slotCount -= 1 }
        case .joined(let tenants):
            for tenant in tenants { join(tenant) }
        case .left:
            slotCount -= parts.removeValue(forKey: tenant)?.count ?? 0
        case .events, .stopped, .paused, .waits: break
        }
        countMax = max(countMax, Self.perSlot * (slotCount + parts.count))
        return nil
    }

    private mutating func join(_ tenant: TenantID?) {
        if parts[tenant] == nil, parts.count < tenantsMax { parts[tenant] = [:] }
    }

    private mutating func note(_ number: Int, _ slot: Int, of tenant: TenantID?) {
        guard (0..<ConsumerDefinition.slotsMax).contains(slot) else { return }
        join(tenant)
        guard parts[tenant] != nil else { return }
        if parts[tenant]?.updateValue(number, forKey: slot) == nil { slotCount += 1 }
    }
}
