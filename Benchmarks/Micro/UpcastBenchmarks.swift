import Benchmark
import MartletModel
import MartletUpcasting
import NIOCore

private let steps = #"""
    {"upcasters":[
      {"event":"E","from":1,"operations":[{"rename":{"path":"/order_id","to":"orderId"}}]},
      {"event":"E","from":2,"operations":[{"convert":{"path":"/placed","to":"rfc3339","from":"epoch-seconds"}}]},
      {"event":"E","from":3,"operations":[{"map":{"path":"/status","table":{"open":"OPEN","shut":"CLOSED"}}}]},
      {"event":"E","from":4,"operations":[{"move":{"from":"/total","to":"/amount/value"}}]},
      {"event":"E","from":5,"operations":[{"default":{"path":"/channel","value":"web"}}]}
    ]}
    """#

/// Five steps, each of another kind, on a payload of 256 bytes.
func upcastBenchmarks() {
    Benchmark.micro(
        "upcast-five-steps-of-256-bytes", operations: 1_000,
        {
            let type: EventType = "E"
            let set = try UpcasterSet(definition: ByteBuffer(string: steps))
            return (set: set, type: type, payload: ByteBuffer(string: Samples.payload), output: ByteBuffer())
        },
        { state, _ in
            state.output.clear()
            let outcome = state.set.upcast(
                event: state.type, schemaVersion: 1, contentType: NewEvent.json, payload: state.payload,
                outputBytesMax: 1 << 20, to: &state.output)
            guard case .upcast = outcome else { throw Samples.Failure("not upcast: \(outcome)") }
        })
}
