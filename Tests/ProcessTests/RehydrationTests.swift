import Foundation
import MartletTesting
import Testing

/// Upcasters, snapshots and policies by the commands, as a user types them.
@Suite struct RehydrationTests {
    private let order = ["--type", "order", "--id", "11111111-1111-4111-8111-111111111111"]
    private let steps = """
        upcasters:
          - event: Placed
            from: 1
            operations:
              - rename: {path: /n, to: count, required: true}
          - event: Placed
            from: 2
            operations:
              - type: Ordered
              - set: {path: /new, value: true}
        """
    private let generations =
        #"{"type":"Placed","payload":{"n": 1, "big": 12345678901234567890.10}}"# + "\n"
        + #"{"type":"Placed","schema_version":2,"payload":{"count": 2}}"# + "\n"
        + #"{"type":"Ordered","schema_version":3,"payload":{"count": 3, "new": true}}"#

    private struct Bench {
        let settings: [String: String]
        let database: String

        func martlet(_ arguments: [String], _ input: String = "") async throws -> Binary.Outcome {
            try await Binary.run(arguments, input: input, environment: settings)
        }

        /// A digest of every row that holds events, as the file has them.
        func digest() async throws -> String {
            let script =
                "import hashlib, sqlite3, sys\n"
                + "rows = sqlite3.connect(sys.argv[1]).execute('SELECT * FROM blocks ORDER BY 1').fetchall()\n"
                + "print(sum(row[2] for row in rows), hashlib.sha256(repr(rows).encode()).hexdigest())"
            let outcome = try await Binary.run(["python3", "-c", script, database], path: "/usr/bin/env")
            #expect(outcome.code == 0, "\(outcome.errors)")
            return outcome.output
        }
    }

    private func withBench(_ body: (Bench) async throws -> Void) async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        try await body(Bench(settings: try server.environment(tenant: UUID()), database: folder.path + "/m.db"))
        #expect(try await server.stop() == 0, "\(server.logged)")
    }

    @Test func threeGenerationsArriveAsOneAndNothingIsRewritten() async throws {
        try await withBench { bench in
            #expect(try await bench.martlet(["append"] + order + ["--expect", "none"], generations).code == 0)
            let before = try await bench.digest()
            let stored = try await bench.martlet(["load"] + order).output
            let check = try await bench.martlet(["upcasters", "check", "-"], steps)
            #expect(
                check.code == 0 && check.output.contains(#""events":2,"pass":2,"unchanged":0,"fail":0"#), "\(check)")
            let applied = try await bench.martlet(["upcasters", "apply", "-"], steps)
            #expect(
                applied.code == 0 && applied.output.contains(#"{"steps":2,"changed":true,"revision":1}"#), "\(applied)")
            #expect(try await bench.martlet(["upcasters", "apply", "-"], steps).output.contains(#""changed":false"#))
            let loaded = try await bench.martlet(["load"] + order)
            #expect(
                loaded.lines.count == 3
                    && loaded.lines.allSatisfy { $0.contains(#""type":"Ordered","schema_version":3"#) })
            #expect(loaded.lines[0].contains(#""stored_schema_version":1,"stored_type":"Placed""#))
            #expect(loaded.lines[0].contains(#""payload":{"count":1,"big":12345678901234567890.10,"new":true}"#))
            #expect(try await bench.martlet(["read", "--event-type", "Ordered"]).output == loaded.output)
            #expect(try await bench.martlet(["read", "--event-type", "Placed"]).lines.isEmpty)
            #expect(try await bench.martlet(["subscribe", "--count", "3"]).output == loaded.output)
            let upcast = try await bench.martlet(["export", "--upcast"])
            #expect(upcast.lines.dropLast().allSatisfy { $0.contains("Ordered") })
            #expect(try await bench.martlet(["load"] + order + ["--raw"]).output == stored)
            #expect(try await bench.martlet(["export"]).output.contains(#""type":"Placed","schema_version":1"#))
            let stopped = try await bench.martlet(["load"] + order + ["--stop-at", "Placed=2"])
            #expect(stopped.lines.filter { $0.contains(#""type":"Placed","schema_version":2"#) }.count == 2)
            let after = try await bench.digest()
            #expect(after == before && after.hasPrefix("3 "), "not a byte of what is stored has changed")
        }
    }

    @Test func whatFailsIsSaidAndNothingIsLost() async throws {
        try await withBench { bench in
            _ = try await bench.martlet(["append"] + order, #"{"type":"Placed","payload":{}}"#)
            let check = try await bench.martlet(["upcasters", "check", "-"], steps)
            #expect(check.code == 5 && check.output.contains(#""fail":1"#) && check.errors.contains("UPCAST_FAILED"))
            #expect(try await bench.martlet(["load"] + order).output.contains("Placed"), "a check changes nothing")
            #expect(try await bench.martlet(["upcasters", "apply", "--force", "-"], steps).code == 0)
            let failed = try await bench.martlet(["load"] + order)
            #expect(failed.code == 5 && failed.errors.contains("position 1") && failed.errors.contains("/n"))
            let marked = try await bench.martlet(["load"] + order + ["--on-upcast-failure", "raw"])
            #expect(marked.code == 0 && marked.output.contains("upcast_failure"))
            #expect(try await bench.martlet(["status"]).output.contains(#""upcast_failures":2"#))
            let bad = try await bench.martlet(
                ["upcasters", "apply", "-"], #"{"upcasters":[{"event":"A","from":1,"operations":[{"nope":{}}]}]}"#)
            #expect(bad.code != 0 && bad.errors.contains("upcasters[0].operations[0]"), "\(bad)")
            #expect(try await bench.martlet(["upcasters", "remove", "--event", "Placed"]).code == 0)
            #expect(try await bench.martlet(["load"] + order).code == 0)
        }
    }

    @Test func policiesSnapshotsAndDiff() async throws {
        try await withBench { bench in
            let policies = #"{"policies":[{"aggregate_type":"order","every_events":3}]}"#
            #expect(try await bench.martlet(["policies", "set", "-"], policies).code == 0)
            #expect(try await bench.martlet(["policies", "get"]).output == policies + "\n")
            let appended = try await bench.martlet(["append"] + order, generations)
            #expect(appended.output.contains(#""snapshot_due":true"#), "\(appended)")
            #expect(try await bench.martlet(["snapshots", "list"] + order).lines.isEmpty)
            let diff = try await bench.martlet(["diff"] + order + ["--from", "1", "--to", "3"])
            #expect(diff.code == 0 && diff.lines.count == 3 && diff.lines[2].contains(#""events":2"#), "\(diff)")
            let loaded = try await bench.martlet(["load"] + order + ["--snapshot"])
            #expect(loaded.lines.count == 4 && loaded.lines[0] == #"{"snapshot":null,"snapshots_skipped":0}"#)
        }
    }
}
