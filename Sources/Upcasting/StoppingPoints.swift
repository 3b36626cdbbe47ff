public import MartletModel

extension UpcasterSet {
    /// The schema version at which the chain of an event stops; nil for its end.
    public func target(event type: EventType, schemaVersion: UInt32, stopAt: [EventType: UInt32]) -> UInt32? {
        guard !stopAt.isEmpty else { return nil }
        var at = Step.ID(subject: .event(type), from: schemaVersion)
        while let index = storage.graph.indices[at] {
            if case .event(let type) = at.subject, let stop = stopAt[type], at.from >= stop { return at.from }
            at = storage.graph.steps[index].next
        }
        return nil
    }
}

extension UpcasterSet {
    /// The schema version in which a snapshot of that type and stored version is delivered: the latest that the caller
    /// can read; nil where there is none.
    public func snapshotVersion(of type: AggregateType, from version: UInt32, use: SnapshotUse) -> UInt32? {
        let latest = concerns(snapshot: type, schemaVersion: version) ? latestVersion(of: type) ?? version : version
        if use.accepts(latest) { return latest }
        return use.schemaVersions.filter { $0 >= version && $0 < latest }.max()
    }
}
