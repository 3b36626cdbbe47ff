import Foundation
import MartletModel
import MartletTesting
import Testing

/// The schedules commands, as a user types them.
@Suite(.timeLimit(.minutes(2))) struct ScheduleCommandTests {
    private let tenant = UUID()
    private let order = "order/11111111-1111-4111-8111-111111111111"

    private func withServer(
        _ body: (_ martlet: (String) async throws -> Binary.Outcome) async throws -> Void
    ) async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        let settings = try server.environment(tenant: tenant)
        try await body { line in
            try await Binary.run(line.split(separator: " ").map(String.init), input: "3", environment: settings)
        }
        #expect(try await server.stop() == 0, "\(server.logged)")
    }

    @Test func aScheduleIsSetListedMovedAndCancelled() async throws {
        try await withServer { martlet in
            let id = "0196f3a0-7c5e-7c5e-8c5e-7c5e0196f3a0"
            let options = "--aggregate \(order) --type Overdue --event-id \(id) --late-at-most 90s"
            let set = try await martlet("schedules set dunning --at 9999-01-01T00:00:00Z \(options) --payload {}")
            #expect(
                set.output
                    == #"{"key":"dunning","outcome":"set","due":"9999-01-01T00:00:00.000000Z","event_id":"\#(id)"}"#
                    + "\n", "\(set.errors)")
            let list = try await martlet("schedules list")
            #expect(
                list.output
                    == #"{"key":"dunning","due":"9999-01-01T00:00:00.000000Z","aggregate_type":"order","#
                    + #""aggregate_id":"11111111-1111-4111-8111-111111111111","event_id":"\#(id)","#
                    + #""event_type":"Overdue","payload_bytes":2,"late_at_most_millis":90000,"parked":null}"# + "\n",
                "\(list.errors)")
            #expect(try await martlet("schedules list --parked").output.isEmpty)
            #expect(try await martlet("schedules list --max 0").output.isEmpty)
            let moved = try await martlet("schedules set dunning --in 12h \(options)")
            #expect(moved.output.hasPrefix(#"{"key":"dunning","outcome":"moved","due":""#), "\(moved.errors)")
            let cancelled = try await martlet("schedules cancel dunning other")
            #expect(
                cancelled.output == #"{"key":"dunning","outcome":"cancelled"}"# + "\n"
                    + #"{"key":"other","outcome":"absent"}"# + "\n", "\(cancelled.errors)")
            #expect(try await martlet("schedules list").output.isEmpty)
        }
    }

    @Test func anEventIsAppendedWhenItsTimeHasCome() async throws {
        try await withServer { martlet in
            let set = try await martlet("schedules set dunning --in 50ms --aggregate \(order) --type Overdue")
            #expect(set.code == 0, "\(set.errors)")
            var read = try await martlet("read")
            while read.output.isEmpty { read = try await martlet("read") }
            #expect(read.lines.count == 1 && read.output.contains(#""type":"Overdue","#), "\(read.output)")
            // The payload came from standard input.
            #expect(read.output.hasSuffix(#""payload":3}"# + "\n"), "\(read.output)")
            #expect(try await martlet("schedules list").output.isEmpty)
            #expect(try await martlet("schedules cancel dunning").output.contains(#""outcome":"absent""#))
        }
    }

    @Test func aScheduleThatIsTooLateIsParked() async throws {
        try await withServer { martlet in
            let line = "schedules set a --at 2020-01-01T00:00:00Z --aggregate \(order) --type Overdue --payload 1"
            #expect(try await martlet("\(line) --late-at-most 1d").code == 0)
            var parked = try await martlet("schedules list --parked")
            while parked.output.isEmpty { parked = try await martlet("schedules list --parked") }
            #expect(parked.lines.count == 1 && !parked.output.contains(#""parked":null"#), "\(parked.output)")
            #expect(try await martlet("read").output.isEmpty)
            #expect(try await martlet(line).output.contains(#""outcome":"moved""#))
            while try await martlet("read").output.isEmpty {}
        }
    }
}

/// What is wrong with the schedules commands themselves needs no server.
@Suite(.timeLimit(.minutes(1))) struct ScheduleUsageTests {
    @Test func whatIsWrongIsNamed() async throws {
        let environment = ["MARTLET_TENANT": UUID().uuidString, "MARTLET_SERVER": "127.0.0.1:1"]
        let event = "--aggregate order/11111111-1111-4111-8111-111111111111 --type Overdue"
        let many = (0...ScheduleChange.countMax).map { "k\($0)" }.joined(separator: " ")
        for (line, complaint) in [
            ("set a \(event)", "give either --at or --in"),
            ("set a --at 2026-01-31T12:00:00Z --in 1s \(event)", "give either --at or --in"),
            ("set a --at soon \(event)", "--at 'soon' is not a time in RFC 3339"),
            ("set a --in 5 \(event)", "--in '5' is not a duration, as in 500ms"),
            ("set a --in 1.5h \(event)", "--in '1.5h' is not a duration"),
            ("set a --in h \(event)", "--in 'h' is not a duration"),
            ("set a --in 99999999999d \(event)", "--in '99999999999d' is too long"),
            ("set a --in 9999999999999999d \(event)", "--in '9999999999999999d' is too long"),
            ("set a --in 1s --late-at-most 0s \(event)", "--late-at-most must be at least 1ms"),
            ("set a --in 1s --event-id x \(event)", "--event-id 'x' is not a UUID"),
            ("set a/b --in 1s \(event)", "'a/b' is not a schedule's key"),
            ("set a --in 1s --aggregate order --type Overdue", "--aggregate 'order' is not TYPE/UUID"),
            ("set a --in 1s --aggregate order/7 --type Overdue", "--aggregate '7' is not a UUID"),
            ("cancel a/b", "'a/b' is not a schedule's key"), ("cancel \(many)", "101 keys: at most 100 at once"),
        ] {
            let words = ["schedules"] + line.split(separator: " ").map(String.init)
            let outcome = try await Binary.run(words, environment: environment)
            #expect(outcome.code == 2 && outcome.errors.contains(complaint), "\(line): \(outcome.errors)")
        }
    }
}
