/// Values by key, of which those that were used last are kept.
struct RecentlyUsed<Value> {
    /// How many are kept.
    let countMax: Int
    private var entries: [String: (value: Value, lastUse: UInt64)] = [:]
    private var uses: UInt64 = 0

    init(countMax: Int) { self.countMax = max(1, countMax) }

    var count: Int { entries.count }

    var values: [Value] { entries.values.map(\.value) }

    /// The value of a key, which counts as used by that; nil where there is none.
    mutating func use(_ key: String) -> Value? {
        uses += 1
        entries[key]?.lastUse = uses
        return entries[key]?.value
    }

    /// Keeps the value of a key that has none.
    /// - Returns: the value that is not kept any more in its place: the one that was not used for longest.
    mutating func insert(_ value: Value, for key: String) -> Value? {
        var dropped: Value?
        if entries.count >= countMax, let oldest = entries.min(by: { $0.value.lastUse < $1.value.lastUse }) {
            dropped = entries.removeValue(forKey: oldest.key)?.value
        }
        uses += 1
        entries[key] = (value, uses)
        return dropped
    }
}
