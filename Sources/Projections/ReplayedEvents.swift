import FoundationEssentials
import MartletClient
import MartletModel

/// A consumer's events as they are in the log, in the order of their positions.
struct ReplayedEvents: Sendable {
    let client: MartletClient
    let consumer: ConsumerID
    let definition: ConsumerDefinition
    let past: PastCheck

    init(_ consumer: ConsumerID, _ definition: ConsumerDefinition, _ client: MartletClient) {
        self.client = client
        self.consumer = consumer
        self.definition = definition
        past = PastCheck(client: client, consumer: consumer)
    }

    /// Reads all events from a place on.
    /// - Throws: `HISTORY_CHANGED` where the server does not have the event of that place.
    func read(
        after place: Checkpoint, of generation: ProjectionGeneration, to target: ReadTarget = .head,
        eventsMax: UInt64? = nil
    ) async throws -> EventStream<ReadView> {
        let stream = try await client.read(request(definition.filter, after: place.position, target, eventsMax))
        // Afterwards: a past that changes in between is noticed, too.
        try await past.check(place, of: generation)
        return stream
    }

    /// Reads the events of one key.
    func read(_ key: ConsumerKey, after position: Position, to last: Position) async throws -> [RecordedEvent] {
        guard position < last, let filter = filter(for: key) else { return [] }
        var events: [RecordedEvent] = []
        for try await event in try await client.read(request(filter, after: position, .position(last), nil))
        where definition.key(of: event) == key {
            events.append(event)
        }
        return events
    }

    private func request(
        _ filter: EventFilter, after position: Position, _ target: ReadTarget, _ eventsMax: UInt64?
    ) -> ReadRequest {
        ReadRequest(
            tenant: consumer.tenant, after: position, target: target, filter: filter, eventsMax: eventsMax,
            upcasting: UpcastingOptions(isRaw: definition.isRaw, onFailure: .raw))
    }

    /// The consumer's filter, narrowed as far as the key allows; nil where no event can match.
    private func filter(for key: ConsumerKey) -> EventFilter? {
        var filter = definition.filter
        let text = key.description
        guard text.hasPrefix("a:"), let slash = text.lastIndex(of: "/"),
            let id = UUID(text: text[text.index(after: slash)...])
        else { return filter }
        guard filter.aggregateIDs.isEmpty || filter.aggregateIDs.contains(id) else { return nil }
        filter.aggregateIDs = [id]
        return filter
    }
}

extension ConsumerDefinition {
    /// The key of an event.
    func key(of event: RecordedEvent) -> ConsumerKey {
        ConsumerKey(keyRule, aggregate: event.aggregate) { event.event.metadata.tags[ExactText($0)] }
    }
}

extension RecordedEvent {
    var place: Checkpoint { Checkpoint(position: position, eventID: event.id) }
}
