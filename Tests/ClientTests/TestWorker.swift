import MartletModel
import Testing

@testable import MartletClient

/// A worker for tests that take turns: takes items when it is told to, and keeps what it has.
actor TestWorker {
    nonisolated let consumption: Consumption
    private var iterator: Consumption.Iterator?
    /// The slots that it has, with their epochs.
    private(set) var epochs: [Int: UInt64] = [:]
    private(set) var committed: [Int: Checkpoint] = [:]
    private(set) var stopped: [Int: String] = [:]
    private(set) var revocations: [[Int]] = []
    private(set) var isPaused = false

    init(_ consumption: Consumption) {
        self.consumption = consumption
        iterator = consumption.makeAsyncIterator()
    }

    @discardableResult
    func next() async throws -> ConsumptionItem? {
        guard var taken = iterator.take() else { return nil }
        defer { iterator = taken }
        let item = try await taken.next()
        switch item {
        case .assigned(let slots): for slot in slots { epochs[slot.number] = slot.epoch }
        case .revoked(let slots):
            revocations.append(slots)
            for slot in slots { epochs[slot] = nil }
        case .events(let events):
            #expect(events.allSatisfy { epochs[$0.slot] == $0.epoch })
        case .committed(let slot, let checkpoint): committed[slot] = checkpoint
        case .stopped(let slot, let reason): stopped[slot] = reason
        case .paused(let isPaused): self.isPaused = isPaused
        case nil: break
        }
        return item
    }

    /// Takes items until so many events have come.
    func take(_ count: Int) async throws -> [ConsumedEvent] {
        var all: [ConsumedEvent] = []
        while all.count < count {
            if case .events(let events)? = try await next() { all += events }
        }
        return all
    }

    /// Takes items until it has so many slots.
    func hold(slots count: Int) async throws {
        while epochs.count != count { try await next() }
    }

    /// Takes items until what is stored has come to that position, wherever.
    func committed(to position: UInt64) async throws {
        while !committed.values.contains(where: { $0.position >= Position(position) }) { try await next() }
    }

    /// Takes items until a slot has stopped.
    func stop() async throws {
        while stopped.isEmpty { try await next() }
    }

    /// Leaves the loop.
    func leave() { iterator = nil }
}

extension Sample {
    static func consumer(_ text: String = "balances") throws -> ConsumerID {
        guard let name = ConsumerName(text) else { throw BadName() }
        return ConsumerID(tenant: tenant, name: name)
    }

    static func work(_ worker: String = "a", epochAbove: UInt64 = 0) throws -> ConsumeRequest {
        guard let name = WorkerName(worker) else { throw BadName() }
        return ConsumeRequest(try consumer(), worker: name, epochAbove: epochAbove)
    }

    static func definition(slots: Int = 4, _ change: (inout SlotSettings) -> Void = { _ in }) -> ConsumerDefinition {
        var definition = ConsumerDefinition(slotCount: slots)
        change(&definition.delivery)
        return definition
    }
}

extension MartletClient {
    /// Appends so many events, one after the other, to the aggregates of those numbers in turn.
    func fill(_ count: Int, aggregates: ClosedRange<UInt64> = 1...6) async throws {
        for index in 0..<UInt64(count) {
            let aggregate = try Sample.aggregate(aggregates.lowerBound + index % UInt64(aggregates.count))
            _ = try await append([Sample.event()], to: aggregate, expecting: .any, tenant: Sample.tenant)
        }
    }
}

extension [ConsumedEvent] {
    var positions: [UInt64] { map(\.event.position.rawValue) }
}
