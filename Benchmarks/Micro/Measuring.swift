import Benchmark
import CAllocationCounter

extension BenchmarkMetric {
    /// Nanoseconds of CPU that one operation takes on the thread that carries it out.
    static let cpu = custom("cpuNanosPerOperation", useScalingFactor: false)
    /// Blocks of memory that one operation asks for, rounded.
    static let allocations = custom("allocationsPerOperation", useScalingFactor: false)
}

extension Benchmark.Configuration {
    /// One sample is a loop of many operations. CPU time may differ by three quarters, because a machine that does other
    /// things at the same time gives no better figure.
    /// - Parameter allocationsSlack: by how much allocations may differ, where what is measured does not ask for memory
    ///   in the same way each time.
    static func micro(seconds: Double = 1, allocationsSlack: Int = 0) -> Benchmark.Configuration {
        Benchmark.Configuration(
            metrics: [.cpu, .allocations], warmupIterations: 2, maxDuration: .seconds(seconds), maxIterations: 200,
            thresholds: [
                .cpu: BenchmarkThresholds(relative: [.p90: 75]),
                .allocations: BenchmarkThresholds(absolute: [.p90: allocationsSlack]),
            ])
    }
}

extension Benchmark {
    /// Measures so many operations as one sample.
    func measure(_ operations: Int, _ operation: (Int) throws -> Void) rethrows {
        let allocations = martlet_allocations()
        let nanos = martlet_thread_cpu_nanos()
        for index in 0..<operations { try operation(index) }
        let spent = martlet_thread_cpu_nanos() - nanos
        let allocated = martlet_allocations() - allocations
        measurement(.cpu, Int(spent) / operations)
        measurement(.allocations, (Int(allocated) + operations / 2) / operations)
    }

    /// A benchmark whose state is made anew for each sample. The name is one of a file too: no blanks, no commas.
    static func micro<State>(
        _ name: String, seconds: Double = 1, allocationsSlack: Int = 0, operations: Int,
        _ state: @escaping () throws -> State,
        _ operation: @escaping (inout State, Int) throws -> Void
    ) {
        Benchmark(name, configuration: .micro(seconds: seconds, allocationsSlack: allocationsSlack)) { benchmark in
            do {
                var state = try state()
                try benchmark.measure(operations) { index in try operation(&state, index) }
            } catch { benchmark.error("\(name): \(error)") }
        }
    }
}
