import FoundationEssentials
import MartletClient
import MartletModel

/// Compares what a read model has taken in with the server's past: after a restore or a failover that lost commits, the
/// server has other events at positions that the read model has passed, or none, and would have them count as taken in.
struct PastCheck: Sendable {
    /// A view that breaks says that the past changes at this moment: the next one shows what it has become.
    private static let triesMax = 3

    let client: MartletClient
    let consumer: ConsumerID

    /// Reads one event, unless nothing was taken in.
    /// - Parameters:
    ///   - place: the last event that the read model has of a slot.
    ///   - slot: the slot.
    /// - Throws: `HISTORY_CHANGED` where the server has another event there, or none; what a read throws.
    func check(_ place: Checkpoint, of slot: Int) async throws(MartletError) {
        try await check(place, in: "slot \(slot)")
    }

    /// The same of a generation.
    func check(_ place: Checkpoint, of generation: ProjectionGeneration) async throws(MartletError) {
        try await check(place, in: "generation \(generation.number ?? 0)")
    }

    private func check(_ place: Checkpoint, in part: String) async throws(MartletError) {
        guard place.position > .start else { return }
        let (found, head) = try await event(at: place.position)
        if let found, found == place.eventID { return }
        let stored = place.eventID.map { "event \(Self.text($0))" } ?? "an event whose id it does not hold"
        let there =
            found.map { "has event \(Self.text($0)) there" }
            ?? "has no event there: its last position is \(head)"
        throw MartletError(
            .failedPrecondition, reason: .historyChanged,
            message: "the read model of \(consumer.name), tenant \(consumer.tenant), has taken in \(stored) at "
                + "position \(place.position) in \(part), but the server \(there). The server was restored, or a "
                + "failover lost commits. Nothing more is taken in. Reset and rebuild the read model: stop its "
                + "runners, empty its tables, delete its rows of martlet_projection_slots and martlet_projection_keys, "
                + "and reset the consumer: martlet consumers reset \(consumer.name) --to start")
    }

    /// The id of the event at a position, nil for none; and the tenant's last position.
    private func event(at position: Position) async throws(MartletError) -> (id: UUID?, head: Position) {
        let request = ReadRequest(
            tenant: consumer.tenant, after: Position(position.rawValue - 1), target: .position(position), eventsMax: 1,
            upcasting: .raw)
        for _ in 1..<Self.triesMax {
            do throws(MartletError) {
                return try await answer(to: request)
            } catch { guard error.reason == .historyChanged else { throw error } }
        }
        return try await answer(to: request)
    }

    private func answer(to request: ReadRequest) async throws(MartletError) -> (id: UUID?, head: Position) {
        let stream = try await client.read(request)
        var events = stream.makeAsyncIterator()
        return (try await events.next()?.event.id, stream.view.head.position)
    }

    private static func text(_ id: UUID) -> String { id.uuidString.lowercased() }
}
