import Dispatch
import FoundationEssentials
import MartletModel
import MartletTesting
import Metrics
import MetricsTestKit
import NIOCore
import Synchronization
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

    private static func gauges(_ metrics: any MetricsFactory, max: Int) -> ConsumerGauges {
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
        let rest = try bench.metrics.expectGauge(MetricName.consumersInRest.rawValue)
        #expect(rest.values.isEmpty, "nothing was set in between either")
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

    /// A worker that comes back while the metrics backend still removes the series of its consumer waits for nothing, and
    /// its series is there afterwards.
    @Test func whatComesBackWhileItsSeriesGoesIsThere() throws {
        let metrics = StandingMetrics()
        let gauges = Self.gauges(metrics, max: 6)
        let id = try Self.id(1, 1)
        let (first, second) = (UUID(), UUID())
        gauges.set(Self.figures(1, inFlight: 1), of: first, id, now: .uptimeNanoseconds(0))
        let removing = Threads.start { gauges.remove(first, of: id) }
        metrics.waitUntilItStands()
        gauges.set(Self.figures(2, inFlight: 3), of: second, id, now: .uptimeNanoseconds(2_000_000_000))
        metrics.goOn()
        try removing.value()
        let labels = [("tenant", "\(id.tenant)"), ("consumer", "c1")]
        #expect(Self.names(metrics.base) == ["\(id.tenant)/c1"])
        let gauge = try metrics.base.expectGauge(MetricName.consumerEventsInFlight.rawValue, labels)
        #expect(gauge.values == [3], "the one that was made again")
        gauges.remove(second, of: id)
        #expect(Self.names(metrics.base).isEmpty)
    }
}

/// A metrics backend that stands still when it is to forget a gauge for the first time.
private final class StandingMetrics: MetricsFactory {
    let base = TestMetrics()
    private let isFirst = Atomic(true)
    private let stands = DispatchSemaphore(value: 0)
    private let goesOn = DispatchSemaphore(value: 0)

    func waitUntilItStands() { stands.wait() }
    func goOn() { goesOn.signal() }

    func destroyRecorder(_ handler: any RecorderHandler) {
        if isFirst.exchange(false, ordering: .relaxed) {
            stands.signal()
            goesOn.wait()
        }
        base.destroyRecorder(handler)
    }

    func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler {
        base.makeCounter(label: label, dimensions: dimensions)
    }

    func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler {
        base.makeRecorder(label: label, dimensions: dimensions, aggregate: aggregate)
    }

    func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler {
        base.makeTimer(label: label, dimensions: dimensions)
    }

    func destroyCounter(_ handler: any CounterHandler) { base.destroyCounter(handler) }
    func destroyTimer(_ handler: any TimerHandler) { base.destroyTimer(handler) }
}
