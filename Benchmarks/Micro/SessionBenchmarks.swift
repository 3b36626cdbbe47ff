import Benchmark
import MartletModel
import MartletSession

/// What a frame means to a connection: a request comes in, and its call ends.
func sessionBenchmarks() {
    Benchmark("session-receive-and-finish", configuration: .micro()) { benchmark in
        do {
            var session = ServerSession(limits: Samples.limits, now: Samples.uptime)
            _ = session.receive(ClientFrame(.connection, .hello(Hello(clientName: "micro"))), now: Samples.uptime)
            let request = CallRequest.append(try Samples.append(1))
            benchmark.measure(5_000) { index in
                let id = CallID(UInt64(index + 1))
                blackHole(session.receive(ClientFrame(id, .request(request)), now: Samples.uptime))
                blackHole(session.finish(id))
            }
        } catch { benchmark.error("\(error)") }
    }
}
