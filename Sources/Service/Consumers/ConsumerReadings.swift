import MartletModel
import NIOCore

/// What readings of a tenant's events can be shared by: consumers that are defined alike in this read the same.
struct ReadingKey: Hashable {
    let tenant: TenantID
    let filter: EventFilter
    let isRaw: Bool
    let keyRule: KeyRule
    let slotCount: Int

    init(_ tenant: TenantID, _ definition: ConsumerDefinition) {
        self.tenant = tenant
        filter = definition.filter
        isRaw = definition.isRaw
        keyRule = definition.keyRule
        slotCount = definition.slotCount
    }
}

/// The readings of consumers' events on one event loop, which all its workers share. Used on it.
final class ConsumerReadings {
    /// So many readings are looked at for one to go on with.
    private static let looksMax = 16

    private var readings: [ReadingKey: [SharedReading]] = [:]

    /// How many there are.
    var count: Int { readings.values.reduce(0) { $0 + $1.count } }

    /// A reading, other than that one, that has what follows a position; a new one where none has.
    func reading(
        after position: Position, by key: ReadingKey, _ service: EventService, on eventLoop: any EventLoop,
        besides other: SharedReading? = nil
    ) -> SharedReading {
        let known = readings[key]?.prefix(Self.looksMax).first { $0 !== other && $0.covers(position) }
        if let known { return known }
        let made = SharedReading(after: position, by: key, service, on: eventLoop, among: self)
        readings[key, default: []].append(made)
        return made
    }

    /// A reading that more take part in, and that has what follows a position.
    func larger(than reading: SharedReading, after position: Position) -> SharedReading? {
        guard let known = readings[reading.key], known.count > 1 else { return nil }
        var isOlder = true
        for other in known.prefix(Self.looksMax) {
            guard other !== reading else {
                isOlder = false
                continue
            }
            let isLarger =
                isOlder ? other.memberCount >= reading.memberCount : other.memberCount > reading.memberCount
            if isLarger, other.covers(position) { return other }
        }
        return nil
    }

    /// A reading is over.
    func remove(_ reading: SharedReading) {
        readings[reading.key]?.removeAll { $0 === reading }
        if readings[reading.key]?.isEmpty == true { readings[reading.key] = nil }
    }
}
