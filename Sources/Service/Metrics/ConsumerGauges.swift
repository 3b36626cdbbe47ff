import FoundationEssentials
import MartletModel
import Metrics
import NIOConcurrencyHelpers
import NIOCore

/// How the consumers are that workers on this server work on, as gauges with the names of tenant and consumer.
///
/// Peers choose these names, so the number of series is bounded: so many consumers have gauges of their own, from when the
/// first worker comes until the last one leaves; a tenant takes no more places than it leaves free. All others share one
/// set, the rest, and one of them gets a place that becomes free.
///
/// The metrics backend is never called under the lock, and by one thread at a time: what makes gauges and what removes them
/// must not overtake each other.
final class ConsumerGauges: Sendable {
    /// Gauges are set so often at most.
    static let interval = TimeAmount.seconds(1)

    private struct Consumer {
        var workers: [UUID: ConsumerFigures] = [:]
        /// It has gauges of its own.
        var isNamed = false

        var figures: ConsumerFigures { workers.values.reduce(into: ConsumerFigures()) { $0.add($1) } }
    }

    /// What is to be told to the metrics backend.
    private struct Work {
        /// Consumers whose gauges go.
        var gone: [ConsumerID] = []
        /// All that are there; nil while it is not time for that.
        var figures: (named: [(ConsumerID, ConsumerFigures)], rest: ConsumerFigures, restCount: Int)?
    }

    private struct State {
        var consumers: [ConsumerID: Consumer] = [:]
        /// Consumers with gauges of their own, by tenant.
        var named: [TenantID: Int] = [:]
        var namedCount = 0
        var gone: [ConsumerID] = []
        var lastSet: NIODeadline?
        var isDue = false
        /// Nil while somebody uses it.
        var table: Table?
    }

    /// The gauges that the metrics backend has.
    private struct Table {
        let metrics: any MetricsFactory
        let restCount: Gauge
        var named: [ConsumerID: ConsumerSeries] = [:]
        var rest: ConsumerSeries?

        init(_ metrics: any MetricsFactory) {
            self.metrics = metrics
            restCount = metrics.gauge(.consumersInRest)
        }

        mutating func carryOut(_ work: Work) {
            for id in work.gone { named.removeValue(forKey: id)?.destroy() }
            guard let figures = work.figures else { return }
            for (id, figures) in figures.named {
                let series = named[id] ?? ConsumerSeries(of: id, metrics)
                named[id] = series
                series.record(figures)
            }
            restCount.record(figures.restCount)
            guard figures.restCount > 0 else {
                rest?.destroy()
                return rest = nil
            }
            let series = rest ?? ConsumerSeries(of: nil, metrics)
            rest = series
            series.record(figures.rest)
        }
    }

    private let seriesMax: Int
    private let state: NIOLockedValueBox<State>

    init(_ limits: Limits, _ metrics: any MetricsFactory) {
        seriesMax = limits.consumerSeriesMax
        state = NIOLockedValueBox(State(table: Table(metrics)))
    }

    /// How a worker's part of a consumer is now; the first time, the worker has come.
    func set(_ figures: ConsumerFigures, of session: UUID, _ id: ConsumerID, now: NIODeadline) {
        state.withLockedValue { state in
            if state.consumers[id] == nil {
                state.consumers[id] = Consumer()
                name(id, &state)
            }
            state.consumers[id]?.workers[session] = figures
            if state.lastSet.map({ now >= $0 + Self.interval }) ?? true {
                state.lastSet = now
                state.isDue = true
            }
        }
        tell()
    }

    /// A worker has left.
    func remove(_ session: UUID, of id: ConsumerID) {
        state.withLockedValue { state in
            guard state.consumers[id]?.workers.removeValue(forKey: session) != nil,
                let consumer = state.consumers[id], consumer.workers.isEmpty
            else { return }
            state.consumers[id] = nil
            if consumer.isNamed {
                state.gone.append(id)
                state.namedCount -= 1
                let left = (state.named[id.tenant] ?? 1) - 1
                state.named[id.tenant] = left == 0 ? nil : left
            }
            // Otherwise the next worker that tells of itself brings the rest up to date.
            if state.consumers.isEmpty { state.isDue = true }
        }
        tell()
    }

    /// Gives a consumer gauges of its own, if there is a place for it.
    private func name(_ id: ConsumerID, _ state: inout State) {
        let own = state.named[id.tenant] ?? 0
        guard own < seriesMax - state.namedCount else { return }
        state.consumers[id]?.isNamed = true
        state.named[id.tenant] = own + 1
        state.namedCount += 1
    }

    private func tell() {
        while let (table, work) = state.withLockedValue({ takeWork(&$0) }) {
            var table = table
            table.carryOut(work)
            state.withLockedValue { $0.table = table }
        }
    }

    private func takeWork(_ state: inout State) -> (Table, Work)? {
        guard state.isDue || !state.gone.isEmpty, let table = state.table.take() else { return nil }
        var work = Work(gone: state.gone)
        state.gone = []
        guard state.isDue else { return (table, work) }
        state.isDue = false
        var named: [(ConsumerID, ConsumerFigures)] = []
        var (rest, restCount) = (ConsumerFigures(), 0)
        for id in state.consumers.keys {
            if state.consumers[id]?.isNamed == false { name(id, &state) }
            guard let consumer = state.consumers[id] else { continue }
            if consumer.isNamed {
                named.append((id, consumer.figures))
            } else {
                rest.add(consumer.figures)
                restCount += 1
            }
        }
        work.figures = (named, rest, restCount)
        return (table, work)
    }
}
