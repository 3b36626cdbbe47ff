/// How a consumer is, as far as workers on this server have its slots.
struct ConsumerFigures: Hashable, Sendable {
    /// Positions from the last one up to which all events of these slots are settled, or of blocked keys, to the tenant's
    /// head. It is that of the slot that is furthest behind.
    var positionsBehind: UInt64 = 0
    /// The age of the oldest event that is neither settled nor of a blocked key, in microseconds; 0 where none is known.
    var oldestAgeMicros: Int64 = 0
    /// Events that workers were sent and have said nothing of.
    var eventsInFlight = 0
    var blockedKeys = 0
    var workers = 0
    var slots = 0
    /// Slots that deliver nothing more.
    var stoppedSlots = 0

    /// Both together: what is behind and old is that of the worse one, all else is added up.
    mutating func add(_ other: ConsumerFigures) {
        positionsBehind = max(positionsBehind, other.positionsBehind)
        oldestAgeMicros = max(oldestAgeMicros, other.oldestAgeMicros)
        eventsInFlight += other.eventsInFlight
        blockedKeys += other.blockedKeys
        workers += other.workers
        slots += other.slots
        stoppedSlots += other.stoppedSlots
    }
}
