import MartletModel
import NIOCore

extension AppendRequest {
    /// Sets ``heldBytes`` of an append that was decoded: the bodies of its events, and of its schedules' events, are slices
    /// of one buffer. Where the snapshots, which were copied out of that buffer, made it much larger than the bodies are, the
    /// bodies are copied out too.
    mutating func settleBuffers() {
        let snapshotBytes = aggregates.reduce(0) { $0 + ($1.snapshot?.payload.storageCapacity ?? 0) }
        if snapshotBytes > 0 { moveLooseBodies() }
        heldBytes = snapshotBytes + (aggregates.first?.events.first?.body.storageCapacity ?? 0)
    }

    private mutating func moveLooseBodies() {
        var changes = schedules
        let bytes =
            aggregates.reduce(0) { $1.events.reduce($0) { $0 + $1.body.readableBytes } }
            + changes.reduce(0) { $0 + ($1.event?.body.readableBytes ?? 0) }
        guard let shared = aggregates.first?.events.first?.body, FrameDecoder.isLoose(bytes, in: shared) else { return }
        var own = ByteBuffer()
        own.reserveCapacity(bytes)
        for part in aggregates { for event in part.events { own.writeImmutableBuffer(event.body) } }
        for change in changes { if let event = change.event { own.writeImmutableBuffer(event.body) } }
        func moved(_ event: EncodedEvent) -> EncodedEvent {
            event.with(body: own.readSlice(length: event.body.readableBytes) ?? event.body)
        }
        for index in aggregates.indices { aggregates[index].events = aggregates[index].events.map(moved) }
        guard !changes.isEmpty else { return }
        for index in changes.indices { if let event = changes[index].event { changes[index].event = moved(event) } }
        schedules = changes
    }
}

extension ScheduleChange {
    /// The event of the schedule that is set.
    fileprivate var event: EncodedEvent? {
        get { if case .set(let schedule) = self { schedule.event } else { nil } }
        set {
            guard case .set(var schedule) = self, let newValue else { return }
            schedule.event = newValue
            self = .set(schedule)
        }
    }
}

extension EncodedEvent {
    /// The event with the same bytes in another buffer.
    fileprivate func with(body: ByteBuffer) -> EncodedEvent {
        EncodedEvent(
            id: id, type: type, contentType: contentType, schemaVersion: schemaVersion, payloadBytes: payloadBytes,
            body: body, bodyChecksum: bodyChecksum)
    }
}
