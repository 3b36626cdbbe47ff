import MartletModel
import MartletUpcasting
import NIOCore
import Testing

/// What upcasting costs; a figure to print, not one to hold.
@Suite("Cost", .serialized)
struct CostTests {
    static let payload =
        #"{"order_id":"7f1c2c58-94a5-4f9b-9a55-2f0b7d2f8a11","customer":"Ada King","total":129.90,"currency":"eur","#
        + #""placed":1769857200,"status":"open","lines":[{"sku":"A-100","qty":"2"},{"sku":"B-7","qty":"1"}],"note":"#
        + #""leave at the door, please","flags":"gift,rush"}"#

    static let steps = #"""
        {"upcasters":[
          {"event":"E","from":1,"operations":[{"rename":{"path":"/order_id","to":"orderId"}}]},
          {"event":"E","from":2,"operations":[{"convert":{"path":"/placed","to":"rfc3339","from":"epoch-seconds"}}]},
          {"event":"E","from":3,"operations":[{"map":{"path":"/status","table":{"open":"OPEN","shut":"CLOSED"}}}]},
          {"event":"E","from":4,"operations":[{"move":{"from":"/total","to":"/amount/value"}}]},
          {"event":"E","from":5,"operations":[{"default":{"path":"/channel","value":"web"}}]}
        ]}
        """#

    static let renames = #"""
        {"upcasters":[
          {"event":"E","from":1,"operations":[{"rename":{"path":"/order_id","to":"a"}}]},
          {"event":"E","from":2,"operations":[{"rename":{"path":"/customer","to":"b"}}]},
          {"event":"E","from":3,"operations":[{"rename":{"path":"/total","to":"c"}}]},
          {"event":"E","from":4,"operations":[{"rename":{"path":"/currency","to":"d"}}]},
          {"event":"E","from":5,"operations":[{"rename":{"path":"/placed","to":"e"}}]}
        ]}
        """#

    static let stars = #"""
        {"upcasters":[{"event":"E","from":1,"operations":[{"convert":{"path":"/lines/*/qty","to":"integer"}}]}]}
        """#

    private func nanoseconds(_ count: Int, _ body: () throws -> Void) rethrows -> Int {
        let clock = ContinuousClock()
        var best = Double.infinity
        for _ in 0..<5 {
            let start = clock.now
            for _ in 0..<count { try body() }
            best = min(best, (clock.now - start) / .nanoseconds(1) / Double(count))
        }
        return Int(best)
    }

    @Test func fiveStepsOnAPayloadOf256Bytes() throws {
        #if DEBUG
            let count = 1_000
        #else
            let count = 100_000
        #endif
        let payload = ByteBuffer(string: Self.payload)
        let type = try Sample.event("E")
        let other = try Sample.event("Other")
        var output = ByteBuffer()
        print("cost: payload of \(payload.readableBytes) bytes")
        let check = try nanoseconds(count) {
            try unsafe payload.withUnsafeReadableBytes { _ = try unsafe JSONText.check($0) }
        }
        print("cost: checking the JSON alone: \(check) ns")
        for (name, document) in [
            ("five mixed steps", Self.steps), ("five renames", Self.renames), ("one *", Self.stars),
        ] {
            let set = try Sample.set(document)
            let spent = nanoseconds(count) {
                output.clear()
                _ = set.upcast(
                    event: type, schemaVersion: 1, contentType: Sample.json, payload: payload, outputBytesMax: 1 << 20,
                    to: &output)
            }
            print("cost: \(name): \(spent) ns an event")
            let idle = nanoseconds(count) { _ = set.concerns(event: other, schemaVersion: 1) }
            print("cost: an event of another type: \(idle) ns")
        }
        #expect(payload.readableBytes == 256)
    }
}
