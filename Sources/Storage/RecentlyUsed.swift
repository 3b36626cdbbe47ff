/// Values of the keys that were used last.
///
/// It holds at most `countMax`, and whatever else comes, the half of that number that was used last stays: values are young
/// or old, one that is used becomes young, and once half of the room is young, the old ones go. That is the least recently
/// used leaving, by the half instead of one by one, at the cost of a dictionary.
package struct RecentlyUsed<Key: Hashable & Sendable, Value: Sendable>: Sendable {
    private let youngMax: Int
    private var young: [Key: Value] = [:]
    private var old: [Key: Value] = [:]

    /// - Parameter countMax: 2 or more.
    package init(countMax: Int) { youngMax = max(1, countMax / 2) }

    /// How many values it holds.
    package var count: Int { young.count + old.count }

    /// The value, which counts as used.
    package mutating func use(_ key: Key) -> Value? {
        if let value = young[key] { return value }
        guard let value = old[key] else { return nil }
        put(value, for: key)
        return value
    }

    /// Puts a value in, which counts as used.
    package mutating func put(_ value: Value, for key: Key) {
        if young.count >= youngMax, young[key] == nil {
            old = young
            young = [:]
        } else if !old.isEmpty {
            old[key] = nil
        }
        young[key] = value
    }

    /// Takes a value out.
    @discardableResult
    package mutating func remove(_ key: Key) -> Value? {
        let value = young.removeValue(forKey: key)
        let before = old.isEmpty ? nil : old.removeValue(forKey: key)
        return value ?? before
    }

    /// Takes all values out.
    package mutating func removeAll() {
        young = [:]
        old = [:]
    }
}
