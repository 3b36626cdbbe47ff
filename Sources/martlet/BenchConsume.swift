import ArgumentParser
import Foundation
import MartletClient
import MartletLoadTesting
import MartletModel
import NIOConcurrencyHelpers
import NIOCore

struct BenchConsume: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "consume",
        abstract: "Compare groups of workers that take a history in with a subscriber that follows it.",
        discussion: """
            Each worker has a connection of its own, and acknowledges what it has got of a message at once. The rates are \
            the medians of the rounds. The command fails if an event was not handled exactly once.
            """)

    @OptionGroup var options: RehydrationOptions

    @Option(help: "Events of the history.")
    var events = 200_000

    @Option(help: "Aggregates that they belong to: the keys of the group.")
    var keys = 10_000

    @Option(help: ArgumentHelp("Sizes of the groups.", valueName: "n,n,…"))
    var workers = "1,4,16"

    @Option(help: "Slots of the consumer.")
    var slots = 64

    @Option(help: "Rounds, in each of which the subscriber and each group take in the whole history.")
    var rounds = 3

    mutating func run() async throws {
        let sizes = try workers.split(separator: ",").map { text in
            guard let size = Int(text), 1...1_000 ~= size else {
                throw UsageError("--workers: \(text) is not a number from 1 to 1,000")
            }
            return size
        }
        guard !sizes.isEmpty, events > 0, keys > 0, rounds > 0, 1...ConsumerDefinition.slotsMax ~= slots else {
            throw UsageError("--events, --keys, --rounds and --workers must be at least 1, --slots 1 to 1024")
        }
        let (options, tenant, rounds, slots) = (options, try options.tenantID(), rounds, slots)
        let (events, keys) = (events, keys)
        try await options.tenant.server.withClient { client in
            let head = try await client.head(of: tenant).position
            try await Self.fill(client, tenant, events: events, keys: keys, options)
            var rates: [Int: [Double]] = [:]
            for round in 1...rounds {
                // Alternating, so that nobody always comes first.
                for size in round % 2 == 0 ? [0] + sizes : sizes.reversed() + [0] {
                    let took =
                        size == 0
                        ? try await Self.follow(client, tenant, after: head, events: events)
                        : try await Self.consume(
                            options, client, tenant, after: head, workers: size, slots: slots, events: events)
                    rates[size, default: []].append(Double(events) / (took / .seconds(1)))
                }
            }
            func median(_ size: Int) -> Double { rates[size, default: []].sorted()[rounds / 2] }
            for size in [0] + sizes {
                let name = size == 0 ? "subscriber" : "group of \(size)"
                let ratio = String(format: "%.2f", median(size) / median(0))
                Terminal.write(
                    line: #"{"bench":"\#(name)","events":\#(events),"keys":\#(keys),"slots":\#(slots),"#
                        + #""events_per_second":\#(Int(median(size))),"of_subscriber":\#(ratio)}"#)
            }
        }
    }

    private static func fill(
        _ client: MartletClient, _ tenant: TenantID, events: Int, keys: Int, _ options: RehydrationOptions
    ) async throws {
        let names = (0..<min(keys, events)).map { _ in RehydrationOptions.aggregate() }
        var written = 0
        while written < events {
            let count = min(1_000, events - written)
            // As a live system writes them: one after the other, of all.
            var parts: [AggregateName: [NewEvent]] = [:]
            for number in written..<written + count {
                // A hundred of them in each call, as many as it may have.
                let name = names[(number % 100 + number / 1_000 * 100) % names.count]
                parts[name, default: []].append(options.event(number))
            }
            _ = try await client.append(
                parts.map { NewAggregateEvents(aggregate: $0, expected: .any, events: $1) }, tenant: tenant)
            written += count
        }
    }

    private static func follow(
        _ client: MartletClient, _ tenant: TenantID, after head: Position, events: Int
    ) async throws -> Duration {
        let began = ContinuousClock.now
        // The same as a worker of a group does with each.
        let handled = Handled()
        for try await item in client.subscribe(SubscribeRequest(tenant: tenant, start: .after(head))) {
            if case .events(let batch, _) = item {
                handled.add(batch.count, batch.indices.lazy.map { batch[$0].position })
            }
            if handled.count >= events { break }
        }
        try handled.check("the subscriber", after: head, events: events)
        return .now - began
    }

    private static func consume(
        _ options: RehydrationOptions, _ client: MartletClient, _ tenant: TenantID, after head: Position, workers: Int,
        slots: Int, events: Int
    ) async throws -> Duration {
        guard let name = ConsumerName("bench-\(UUID().uuidString)") else { throw CommandFailure("no name") }
        let consumer = ConsumerID(tenant: tenant, name: name)
        var definition = ConsumerDefinition(slotCount: slots)
        definition.isPaused = true
        definition.delivery.inFlightMax = 1_024
        definition.delivery.windowEventsMax = 4_096
        try await client.putConsumer(PutConsumerRequest(consumer, definition, start: .after(head)))
        let handled = Handled()
        let ready = NIOLockedValueBox(0)
        let took = try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<workers {
                group.addTask {
                    try await options.tenant.server.withClient { client in
                        guard let worker = WorkerName("worker-\(number)") else { return }
                        let consumption = client.consume(ConsumeRequest(consumer, worker: worker))
                        for try await item in consumption {
                            switch item {
                            case .paused(true): ready.withLockedValue { $0 += 1 }
                            case .events(let batch):
                                handled.add(batch.count, batch.indices.lazy.map { batch[$0].event.position })
                                if let last = batch.last { consumption.acknowledge(upTo: last.delivery) }
                            default: break
                            }
                        }
                    }
                }
            }
            let tooLong = ContinuousClock.now + .seconds(60)
            while ready.withLockedValue({ $0 }) < workers {
                guard .now < tooLong else { throw CommandFailure("not all of \(workers) workers could begin") }
                try await Task.sleep(for: .milliseconds(5))
            }
            definition.isPaused = false
            let began = ContinuousClock.now
            try await client.putConsumer(PutConsumerRequest(consumer, definition, expected: .any))
            while handled.count < events, .now - began < .seconds(300) {
                try await Task.sleep(for: .milliseconds(1))
            }
            let took = ContinuousClock.now - began
            try await client.awaitConsumer(
                consumer, position: Position(head.rawValue + UInt64(events)), timeout: .seconds(30))
            group.cancelAll()
            return took
        }
        try handled.check("the group of \(workers)", after: head, events: events)
        try await client.deleteConsumer(consumer)
        return took
    }
}

/// Events that were handled: how many, and the sum of their positions.
private final class Handled: Sendable {
    private let state = NIOLockedValueBox((count: 0, sum: UInt64(0)))

    var count: Int { state.withLockedValue { $0.count } }

    func add(_ count: Int, _ positions: some Sequence<Position>) {
        let sum = positions.reduce(UInt64(0)) { $0 &+ $1.rawValue }
        state.withLockedValue { $0 = ($0.count + count, $0.sum &+ sum) }
    }

    /// Throws unless each of so many events after the position was handled once.
    func check(_ name: String, after head: Position, events: Int) throws {
        let (first, last) = (head.rawValue + 1, head.rawValue + UInt64(events))
        let (count, sum) = state.withLockedValue { $0 }
        guard count == events, sum == (first + last) * UInt64(events) / 2 else {
            throw CommandFailure("\(name) handled \(count) events, expected \(events), each once")
        }
    }
}
