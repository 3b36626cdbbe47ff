import Dispatch
import FoundationEssentials
import MartletModel
import MartletTesting
import MetricsTestKit
import NIOCore
import Testing

@testable import MartletService

/// Metrics with names that peers choose are bounded in number, and go with the workers.
@Suite struct ConsumerSeriesTests {
    private static func id(_ tenant: UInt64, _ number: Int) throws -> ConsumerID {
        ConsumerID(tenant: TenantID(UUID(high: 4, low: tenant)), name: try #require(ConsumerName("c\(number)")))
    }

    /// Names of the consumers that have series, with "rest" for that one.
    private static func names(_ metrics: TestMetrics) -> [String] {
        let series = metrics.recorders.filter { !$0.dimensions.isEmpty }
        let names = Set(series.map { $0.dimensions.map(\.1).joined(separator: "/") })
        #expect(series.count == 7 * names.count, "each has all of them")
        return names.sorted()
    }

    private static func figures(_ behind: UInt64, inFlight: Int) -> ConsumerFigures {
        ConsumerFigures(positionsBehind: behind, eventsInFlight: inFlight, workers: 1)
    }

    private static func gauges(_ metrics: TestMetrics, max: Int) -> ConsumerGauges {
        var limits = Limits()
        limits.consumerSeriesMax = max
        return ConsumerGauges(limits, metrics)
    }

    @Test func seriesComeWithTheFirstWorkerAndGoWithTheLast() throws {
        let bench = try ConsumerBench()
        try bench.put(ConsumerDefinition(slotCount: 4))
        #expect(Self.names(bench.metrics).isEmpty)
        let first = try bench.worker("a")
        #expect(bench.gauge(.consumerWorkers) == 1)
        let second = try bench.worker("b")
        bench.pass(.seconds(2), first, second)
        #expect(bench.gauge(.consumerWorkers) == 2)
        first.leave()
        bench.pass(.seconds(2), second)
        #expect(bench.gauge(.consumerWorkers) == 1 && bench.gauge(.consumerSlots) == 4)
        second.connection.close()
        #expect(Self.names(bench.metrics).isEmpty, "at once")
        let third = try bench.worker("c")
        bench.pass(.seconds(2), third)
        #expect(bench.gauge(.consumerWorkers) == 1)
        bench.advance(.seconds(4))
        #expect(third.error?.reason == .workerSilent && Self.names(bench.metrics).isEmpty)
    }

    @Test func aWorkerWithoutAPlaceLeavesNothing() throws {
        let bench = try ConsumerBench()
        let worker = try bench.worker("a", of: "nobody")
        #expect(worker.error?.reason == .consumerNotFound)
        bench.advance(.seconds(2))
        #expect(Self.names(bench.metrics).isEmpty)
    }

    @Test func moreConsumersThanThatShareTheRest() throws {
        let bench = try ConsumerBench { $0.consumerSeriesMax = 4 }
        var workers: [BenchWorker] = []
        for number in 0..<5 {
            try bench.put(ConsumerDefinition(slotCount: 1), named: "c\(number)")
            workers.append(try bench.worker("a", of: "c\(number)"))
        }
        try bench.append("0", to: .new())
        bench.pass(.seconds(3), workers)
        let tenant = "\(bench.tenant)"
        #expect(Self.names(bench.metrics) == ["\(tenant)/c0", "\(tenant)/c1", "rest/rest"])
        let rest = [("tenant", "rest"), ("consumer", "rest")]
        func ofRest(_ name: MetricName) -> Double? {
            try? bench.metrics.expectGauge(name.rawValue, rest).lastValue
        }
        func restCount() -> Double? {
            try? bench.metrics.expectGauge(MetricName.consumersInRest.rawValue).lastValue
        }
        #expect(restCount() == 3 && ofRest(.consumerWorkers) == 3 && ofRest(.consumerEventsInFlight) == 3)
        #expect(ofRest(.consumerPositionsBehind) == 1, "of the one that is furthest behind")
        workers.removeFirst().leave()
        bench.pass(.seconds(3), workers)
        #expect(
            Self.names(bench.metrics).count == 3 && restCount() == 2 && bench.gauge(.consumerWorkers, of: "c0") == nil)
        for worker in workers.dropFirst() { worker.leave() }
        bench.pass(.seconds(3), workers[0])
        #expect(Self.names(bench.metrics) == ["\(tenant)/c1"] && restCount() == 0)
        workers[0].leave()
        bench.run()
        #expect(Self.names(bench.metrics).isEmpty)
    }

    @Test func aTenantLeavesPlacesToOthers() throws {
        let metrics = TestMetrics()
        let gauges = Self.gauges(metrics, max: 10)
        for number in 0..<1_000 {
            gauges.set(Self.figures(1, inFlight: 1), of: UUID(), try Self.id(1, number), now: .uptimeNanoseconds(0))
        }
        for number in 0..<2 {
            gauges.set(Self.figures(1, inFlight: 1), of: UUID(), try Self.id(2, number), now: .uptimeNanoseconds(0))
        }
        gauges.set(Self.figures(1, inFlight: 1), of: UUID(), try Self.id(1, 0), now: .uptimeNanoseconds(2_000_000_000))
        let (first, second) = (TenantID(UUID(high: 4, low: 1)), TenantID(UUID(high: 4, low: 2)))
        let names = Self.names(metrics)
        #expect(names.count { $0.hasPrefix("\(first)") } == 5 && names.count { $0.hasPrefix("\(second)") } == 2)
        #expect(names.contains("rest/rest") && names.count == 8)
    }

    @Test func figuresOfWorkersAreAddedUpAndLagIsThatOfTheWorst() throws {
        let metrics = TestMetrics()
        let gauges = Self.gauges(metrics, max: 10)
        let id = try Self.id(1, 1)
        gauges.set(Self.figures(7, inFlight: 2), of: UUID(), id, now: .uptimeNanoseconds(0))
        gauges.set(Self.figures(3, inFlight: 5), of: UUID(), id, now: .uptimeNanoseconds(1_000_000_000))
        let labels = [("tenant", "\(id.tenant)"), ("consumer", "c1")]
        #expect(try metrics.expectGauge(MetricName.consumerPositionsBehind.rawValue, labels).lastValue == 7)
        #expect(try metrics.expectGauge(MetricName.consumerEventsInFlight.rawValue, labels).lastValue == 7)
        #expect(try metrics.expectGauge(MetricName.consumerWorkers.rawValue, labels).values == [1, 2])
    }

    /// However workers of many event loops come and go at once, each series is there while one is, and no longer.
    @Test func noSeriesIsLeftBehindByWorkersOfManyThreads() throws {
        let metrics = TestMetrics()
        let gauges = Self.gauges(metrics, max: 6)
        let ids = try (0..<8).map { try Self.id(UInt64($0 % 3), $0) }
        let stays = UUID()
        gauges.set(Self.figures(1, inFlight: 1), of: stays, ids[0], now: .uptimeNanoseconds(0))
        DispatchQueue.concurrentPerform(iterations: 8) { thread in
            for round in 1...500 {
                let (session, id) = (UUID(), ids[(thread + round) % ids.count])
                let now = NIODeadline.uptimeNanoseconds(UInt64(round) * 1_000_000_000)
                gauges.set(Self.figures(1, inFlight: 1), of: session, id, now: now)
                gauges.remove(session, of: id)
            }
        }
        gauges.set(Self.figures(1, inFlight: 1), of: stays, ids[0], now: .uptimeNanoseconds(600_000_000_000))
        #expect(Self.names(metrics) == ["\(ids[0].tenant)/c0"])
        gauges.remove(stays, of: ids[0])
        #expect(Self.names(metrics).isEmpty)
    }
}
