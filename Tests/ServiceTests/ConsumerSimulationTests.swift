import FoundationEssentials
import MartletModel
import MartletTenants
import MartletTesting
import NIOCore
import Testing

@testable import MartletService

/// Workers that come, go, stall, fall silent, fail on events and give up, on one server or two, of which one is stopped now and
/// then, while events are appended, a consumer is paused and keys are tried again: in the end every key was handled from its first event to its last, each once and in order.
///
/// A worker stores what it does in a database of its own, with the epoch of its slot, as the protocol's page says: what is
/// under a lower epoch than is there is refused.
@Suite struct ConsumerSimulationTests {
    /// Where workers store what they did.
    private struct Database {
        var epochs: [Int: UInt64] = [:]
        /// Of each aggregate, the version of the last event that was handled.
        var handled: [UUID: UInt64] = [:]
        var refused = 0
        var repeated = 0
        var violations: [String] = []

        /// - Returns: false where the worker is fenced off.
        mutating func handle(_ delivered: BenchWorker.Delivered, epoch: UInt64) -> Bool {
            let slot = delivered.delivery.slot
            guard epoch >= epochs[slot] ?? 0 else {
                refused += 1
                return false
            }
            epochs[slot] = epoch
            let (id, version) = (delivered.event.aggregate.id, delivered.event.version.rawValue)
            let last = handled[id] ?? 0
            if version <= last {
                repeated += 1
                if !delivered.delivery.mayBeRepeated {
                    violations.append("\(id) version \(version) came again, unmarked")
                }
            } else if version == last + 1 {
                handled[id] = version
            } else {
                violations.append("\(id) version \(version) came after \(last)")
            }
            return true
        }
    }

    private final class Worker {
        let bench: BenchWorker
        /// Under which epoch the worker has begun to work on each slot.
        var queue: [(BenchWorker.Delivered, epoch: UInt64)] = []
        var isStalled = false

        init(_ bench: BenchWorker) { self.bench = bench }

        func collect(_ database: inout Database) throws {
            for delivered in try bench.take() {
                guard let slot = bench.slots[delivered.delivery.slot] else { continue }
                // A worker claims its epoch before it handles anything.
                database.epochs[slot.number] = max(database.epochs[slot.number] ?? 0, slot.epoch)
                queue.append((delivered, slot.epoch))
            }
        }
    }

    @Test(arguments: 0..<TestRounds.count(8, long: 100))
    func everyKeyIsHandledInOrder(_ number: Int) throws {
        let base = SeededGenerator.fromEnvironment()
        var random = SeededGenerator(seed: base.seed &+ UInt64(number))
        let context = "seed \(base.seed), round \(number)"
        let servers = 1 + number % 2
        let bench = try ConsumerBench(servers: servers) { $0.consumerLeaseMillis = 2_000 }
        var definition = ConsumerDefinition(slotCount: Int.random(in: 1...6, using: &random))
        definition.delivery.inFlightMax = Int.random(in: 1...8, using: &random)
        definition.delivery.windowEventsMax = 8 + Int.random(in: 0...40, using: &random)
        definition.delivery.triesMax = 3
        definition.delivery.acknowledgementTimeout = .seconds(3)
        try bench.put(definition)
        let keys = (0..<Int.random(in: 1...9, using: &random)).map { number in
            AggregateName(type: AggregateName.new("account").type, id: UUID(high: 5, low: UInt64(number)))
        }
        var appended: [UUID: UInt64] = [:]
        var database = Database()
        var workers: [Worker] = []
        var joined = 0

        func step(_ action: Int) throws {
            switch action {
            case 0..<30:
                for _ in 0..<Int.random(in: 1...5, using: &random) {
                    let key = keys[Int.random(in: 0..<keys.count, using: &random)]
                    appended[key.id, default: 0] += 1
                    try bench.append("{}", to: key)
                }
            case 30..<34 where workers.count < 4:
                joined += 1
                let server = Int.random(in: 0..<servers, using: &random)
                guard !bench.servers[server].isStopped else { return }
                workers.append(Worker(try bench.worker("w\(joined % 5)", on: server)))
            case 34..<37 where !workers.isEmpty:
                let worker = workers.remove(at: Int.random(in: 0..<workers.count, using: &random))
                if Bool.random(using: &random) { worker.bench.connection.close() } else { worker.bench.leave() }
            case 37..<40 where !workers.isEmpty:
                workers[Int.random(in: 0..<workers.count, using: &random)].isStalled.toggle()
            case 40..<42:
                var changed = definition
                changed.isPaused = Bool.random(using: &random)
                try bench.put(changed)
            case 42..<46: try unblockAll()
            // The first one is asked what there is.
            case 46..<50 where servers > 1: bench.servers[1].isStopped.toggle()
            case 50..<60: bench.advance(.milliseconds(Int64.random(in: 10...900, using: &random)))
            default: try work(fails: true)
            }
        }

        func work(fails: Bool) throws {
            workers.removeAll { $0.bench.isOver && $0.queue.isEmpty }
            for worker in workers where !worker.isStalled {
                try worker.collect(&database)
                worker.bench.say(.alive)
                let count = fails ? Int.random(in: 0...worker.queue.count, using: &random) : worker.queue.count
                for (delivered, epoch) in worker.queue.prefix(count) {
                    guard worker.bench.slots[delivered.delivery.slot]?.epoch == epoch || Bool.random(using: &random)
                    else { continue }
                    if fails, Int.random(in: 0..<12, using: &random) == 0 {
                        worker.bench.say(
                            .reject(
                                delivered.delivery.number,
                                Bool.random(using: &random) ? .park : .retry(afterMillis: 100),
                                reason: "by chance"))
                        continue
                    }
                    guard isNext(delivered, worker) else { continue }
                    if database.handle(delivered, epoch: epoch) {
                        worker.bench.say(.acknowledge(delivered.delivery.number, upTo: false))
                    }
                }
                worker.queue.removeFirst(count)
            }
            bench.run()
        }

        /// A worker passes over what comes after an event of the key that it has rejected itself.
        func isNext(_ delivered: BenchWorker.Delivered, _ worker: Worker) -> Bool {
            delivered.event.version.rawValue <= (database.handled[delivered.event.aggregate.id] ?? 0) + 1
        }

        func unblockAll() throws {
            guard case .blockedKeys(let keys) = try bench.answer(.listBlockedKeys(ListBlockedKeysRequest(bench.id())))
            else { throw ConsumerBench.Unexpected() }
            guard !keys.isEmpty else { return }
            _ = try bench.answer(
                .unblockKeys(UnblockKeysRequest(bench.id(), keys: keys.map { .init($0.place) })))
        }

        for _ in 0..<400 { try step(Int.random(in: 0..<100, using: &random)) }
        try bench.put(definition)
        for worker in workers { worker.isStalled = false }
        for server in bench.servers { server.isStopped = false }
        if workers.isEmpty { workers.append(Worker(try bench.worker("last"))) }
        // One event a round is as slow as it gets.
        for round in 0..<400 + Int(appended.values.reduce(0, +)) {
            if round % 20 == 0 { try unblockAll() }
            if workers.allSatisfy(\.bench.isOver) { workers = [Worker(try bench.worker("last"))] }
            bench.advance(.milliseconds(200))
            try work(fails: false)
            if database.handled == appended, try bench.describe().positionsBehind == 0 { break }
        }
        #expect(database.violations.isEmpty, "\(context): \(database.violations.prefix(3))")
        #expect(database.handled == appended, "\(context)")
        let description = try bench.describe()
        #expect(description.positionsBehind == 0 && description.oldest == nil, "\(context)")
        for worker in workers { worker.bench.leave() }
        bench.run()
        #expect(bench.servers.allSatisfy { $0.service.pools.calls.bytes == 0 }, "\(context)")
    }
}
