import FoundationEssentials
import MartletModel

// Appends that carry the event of a consumer that they react to.

extension ConformanceSuite {
    static let reactionClauses: [ConformanceClause] = [
        ConformanceClause(
            "consumer.react", "An append settles the event that it reacts to; a second reaction to it is refused."
        ) { s in
            let reaction = try await s.reactions()
            let worker = s.worker()
            let events = try await worker.take(3)
            let epoch = await worker.slots[0]?.epoch ?? 0
            for (index, event) in events.enumerated() {
                let receipt = try await s.react(to: event, epoch, reaction)
                try require(receipt.checkpointStored && !receipt.replayed, "the receipt is \(receipt)")
                try await s.slotHasComeTo(event.place)
                try await s.nothingIsWritten(.eventSettled) {
                    try await s.react(to: event, epoch, reaction)
                }
                if index > 0 {
                    try await s.nothingIsWritten(.eventSettled) {
                        try await s.react(to: events[index - 1], epoch, reaction)
                    }
                }
            }
            // The worker has acknowledged nothing.
            await worker.leave()
            try await s.fill([s.aggregate()])
            try requireEqual(try await s.worker("b").take(1).positions, [7], "what the next worker gets")
        },
        ConformanceClause(
            "consumer.react.fenced",
            "Who has lost the slot appends nothing under its epoch; an append that is refused settles nothing."
        ) { s in
            let reaction = try await s.reactions()
            let old = s.worker()
            let event = try await old.take(3)[0]
            let before = await old.slots[0]?.epoch ?? 0
            let new = s.worker()
            _ = try await new.take(3)
            let epoch = await new.slots[0]?.epoch ?? 0
            // Whatever else is wrong with it.
            for expected in [ExpectedVersion.any, .exact(Version(7))] {
                try await s.nothingIsWritten(.fenced) {
                    try await s.react(to: event, before, reaction, expecting: expected)
                }
            }
            try await s.nothingIsWritten(.versionConflict) {
                try await s.react(to: event, epoch, reaction, expecting: .exact(Version(7)))
            }
            try await s.slotHasComeTo(.start)
            let receipt = try await s.react(to: event, epoch, reaction)
            try require(receipt.checkpointStored, "the receipt is \(receipt)")
            try await s.reset(to: .after(.start))
            try await s.nothingIsWritten(.fenced) {
                try await s.react(to: event, epoch, reaction)
            }
        },
        ConformanceClause(
            "consumer.react.taken-back",
            "An event that was taken back has its reaction when it comes again, and then no second one."
        ) { s in
            let reaction = try await s.reactions()
            let worker = s.worker()
            let event = try await worker.take(3)[0]
            let before = await worker.slots[0]?.epoch ?? 0
            worker.reject(event, .park)
            try await s.until("it is parked") { try await s.blockedKeys().count == 1 }
            try await s.nothingIsWritten(.eventTakenBack) {
                try await s.react(to: event, before, reaction)
            }
            let place = KeyPlace(slot: 0, key: event.delivery.key)
            try requireEqual(try await s.unblock(place), 1, "how many keys are tried again")
            try await s.nothingIsWritten(.fenced) {
                try await s.react(to: event, before, reaction)
            }
            var again = try await worker.take(1)[0]
            while again.event.position != event.event.position { again = try await worker.take(1)[0] }
            try require(again.delivery.isKeyBlocked, "the delivery says that its key is blocked")
            let epoch = await worker.slots[0]?.epoch ?? 0
            let receipt = try await s.react(to: again, epoch, reaction)
            try require(receipt.checkpointStored, "the receipt is \(receipt)")
            try await s.nothingIsWritten(.eventSettled) {
                try await s.react(to: again, epoch, reaction)
            }
            worker.acknowledge([again])
            try await s.until("the key is free") { try await s.blockedKeys().isEmpty }
        },
        ConformanceClause(
            "consumer.react.history", "Nothing is appended in reaction to an event that is not stored there."
        ) { s in
            let reaction = try await s.reactions()
            let worker = s.worker()
            let events = try await worker.take(3)
            let epoch = await worker.slots[0]?.epoch ?? 0
            let places = [
                Checkpoint(position: Position(2), eventID: events[0].place.eventID),
                Checkpoint(position: Position(9), eventID: UUID()),
            ]
            for place in places {
                try await s.nothingIsWritten(.historyChanged) {
                    try await s.react(to: events[1], at: place, epoch, reaction)
                }
            }
            try await s.slotHasComeTo(.start)
        },
        ConformanceClause(
            "consumer.react.replay",
            "A replay stores a checkpoint that is still to be stored, and is answered where it is refused."
        ) { s in
            let reaction = try await s.reactions()
            let worker = s.worker()
            let event = try await worker.take(3)[1]
            let epoch = await worker.slots[0]?.epoch ?? 0
            let stored = [try s.event()]
            let first = try await s.append(stored, to: reaction, .none)
            try require(!first.checkpointStored, "the receipt is \(first)")
            let steps = [(epoch + 1, false, Checkpoint.start), (epoch, true, event.place), (epoch, false, event.place)]
            for (epoch, stores, place) in steps {
                let receipt = try await s.react(to: event, epoch, reaction, expecting: .none, with: stored)
                try require(
                    receipt.replayed && receipt.checkpointStored == stores && receipt.firstPosition == Position(4),
                    "the receipt is \(receipt)")
                try await s.slotHasComeTo(place)
            }
            try requireEqual(try await s.head().position, Position(4), "the head")
        },
    ]
}

extension Scenario {
    /// A consumer of three orders in one slot, and an aggregate for reactions, which it passes over.
    fileprivate func reactions() async throws -> AggregateName {
        var definition = eager()
        let orders = (0..<3).map { _ in aggregate() }
        definition.filter.aggregateTypes = [orders[0].type]
        try await define(definition)
        try await fill(orders)
        return aggregate("reaction")
    }

    /// Appends one event in reaction to another one, which is at that place, or where it was delivered from.
    @discardableResult
    fileprivate func react(
        to cause: WorkerEvent, at place: Checkpoint? = nil, _ epoch: UInt64, _ aggregate: AggregateName,
        expecting expected: ExpectedVersion = .any, with events: [EncodedEvent]? = nil
    ) async throws -> AppendReceipt {
        let events = try events ?? [event()]
        let checkpoint = AppendCheckpoint(
            consumer: consumer().name, slot: cause.delivery.slot, epoch: epoch, event: place ?? cause.place,
            key: cause.delivery.key, isKeyBlocked: cause.delivery.isKeyBlocked)
        return try await subject.append(
            AppendRequest(
                tenant: tenant,
                aggregates: [
                    AggregateAppend(aggregate: aggregate, expected: expected, events: events)
                ],
                checkpoint: checkpoint))
    }

    /// A reaction that must be refused for that reason, and write nothing.
    fileprivate func nothingIsWritten(
        _ reason: Reason, _ reaction: () async throws -> AppendReceipt
    ) async throws {
        let before = try await head()
        do {
            let receipt = try await reaction()
            throw ConformanceFailure("\(receipt) came, expected \(reason)")
        } catch let error as MartletError {
            try requireEqual(error.reason, reason, "the reason (\(error))")
        }
        try requireEqual(try await head(), before, "the head after \(reason)")
    }

    /// What is stored of the slot is that place.
    fileprivate func slotHasComeTo(_ place: Checkpoint) async throws {
        try requireEqual(try await description().slots.map(\.checkpoint), [place], "what is stored of the slot")
    }
}

extension WorkerEvent {
    /// Where it is.
    fileprivate var place: Checkpoint { Checkpoint(position: event.position, eventID: event.event.id) }
}
