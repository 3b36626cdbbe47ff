import Benchmark

/// What the plugin runs: Benchmarks/Micro/README.md says how.
let benchmarks: @Sendable () -> Void = {
    codecBenchmarks()
    sessionBenchmarks()
    decisionBenchmarks()
    hubBenchmarks()
    upcastBenchmarks()
    sqliteBenchmarks()
}
