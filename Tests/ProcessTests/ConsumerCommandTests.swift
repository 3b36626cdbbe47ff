import Foundation
import MartletClient
import MartletModel
import MartletTesting
import MartletTLSOpenSSL
import Testing

/// The consumers commands, as a user types them.
@Suite(.timeLimit(.minutes(2))) struct ConsumerCommandTests {
    private let tenant = UUID()

    private func withServer(
        _ body: (ServerProcess, (String) async throws -> Binary.Outcome) async throws -> Void
    ) async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/m.db")
        let settings = try server.environment(tenant: tenant)
        try await body(server) { line in
            try await Binary.run(line.split(separator: " ").map(String.init), environment: settings)
        }
        #expect(try await server.stop() == 0, "\(server.logged)")
    }

    private func withClient(
        of server: ServerProcess, _ body: (MartletClient) async throws -> Void
    ) async throws {
        let certificates = try TestCertificates.shared.get()
        let configuration = ClientConfiguration(
            port: server.port,
            tls: TLSClientConfiguration(caFile: certificates.file("ca.pem"), serverName: "127.0.0.1"))
        try await MartletClient.withClient(configuration, body)
    }

    private func append(_ count: Int, to server: ServerProcess) async throws {
        let settings = try server.environment(tenant: tenant)
        let id = "11111111-1111-4111-8111-11111111111"
        for number in 0..<count {
            let outcome = try await Binary.run(
                ["append", "--type", "order", "--id", "\(id)\(number % 2)"], input: #"{"type":"Placed","payload":1}"#,
                environment: settings)
            try #require(outcome.code == 0, "\(outcome.errors)")
        }
    }

    @Test func aConsumerIsPutShownPausedResetAndDeleted() async throws {
        try await withServer { server, martlet in
            try await append(3, to: server)
            let put = try await martlet("consumers put balances --type order --slots 4 --tries-max 2")
            #expect(put.output == #"{"revision":1,"new":true}"# + "\n", "\(put.errors)")
            // What is omitted stays.
            #expect(try await martlet("consumers put balances --in-flight-max 9").output.contains(#""revision":2"#))
            #expect(try await martlet("consumers put balances").output == #"{"revision":2,"new":false}"# + "\n")
            let list = try await martlet("consumers list")
            #expect(list.lines.count == 1 && list.output.hasPrefix(#"{"consumer":"balances","revision":2,"#))
            #expect(
                list.output.contains(#""types":["order"],"event_types":[],"ids":[],"key":"aggregate","slots":4,"#)
                    && list.output.contains(#""in_flight_max":9,"#) && list.output.contains(#""tries_max":2,"#),
                "\(list.output)")

            let shown = try await martlet("consumers get balances")
            #expect(
                shown.output.contains(
                    #""head":3,"checkpoint":0,"settled_to":0,"positions_behind":3,"oldest_unsettled":{"position":1,"#),
                "\(shown.output)\(shown.errors)")
            #expect(
                shown.output.contains(
                    #""blocked_keys":0,"last_failure":null,"stopped_slots":[],"workers":[],"slots":[],"definition":{"#))

            #expect(try await martlet("consumers pause balances").output == #"{"revision":3,"paused":true}"# + "\n")
            #expect(try await martlet("consumers get balances").output.contains(#""paused":true"#))
            // Only while it is paused: the keys are divided anew.
            #expect(try await martlet("consumers put balances --slots 8 --order-by tag:region").code == 0)
            #expect(try await martlet("consumers resume balances").output == #"{"revision":5,"paused":false}"# + "\n")
            let busy = try await martlet("consumers put balances --slots 4")
            #expect(busy.code == 5 && busy.errors.contains("CONSUMER_IN_USE"), "\(busy.errors)")

            let preview = try await martlet("consumers reset balances --to head --preview")
            #expect(preview.output == #"{"after":3,"before":0,"positions_again":0,"preview":true}"# + "\n")
            #expect(try await martlet("consumers get balances").output.contains(#""checkpoint":0,"#))
            #expect(try await martlet("consumers reset balances --to head").output.contains(#""preview":false"#))
            #expect(
                try await martlet("consumers get balances").output.contains(
                    #""checkpoint":3,"settled_to":3,"positions_behind":0,"oldest_unsettled":null"#))
            let again = try await martlet("consumers reset balances --to 1")
            #expect(again.output == #"{"after":1,"before":3,"positions_again":2,"preview":false}"# + "\n")

            #expect(try await martlet("consumers delete balances").output == #"{"deleted":1}"# + "\n")
            #expect(try await martlet("consumers list").output.isEmpty)
        }
    }

    @Test func whatIsWrongIsNamed() async throws {
        try await withServer { _, martlet in
            for line in [
                "get nobody", "delete nobody", "reset nobody --to start", "pause nobody", "resume nobody",
                "blocked nobody", "retry nobody --all", "skip nobody a:x --position 1",
                "wait nobody --position 0", "put nobody --expect 3",
            ] {
                let outcome = try await martlet("consumers \(line)")
                #expect(
                    outcome.code == 5 && outcome.errors.contains("CONSUMER_NOT_FOUND"), "\(line): \(outcome.errors)")
            }
            for (line, complaint) in [
                ("get no/body", "'no/body' is not a consumer's name"), ("put x --slots 1025", "from 1 to 1024"),
                ("put x --order-by region", "tag:NAME"), ("put x --all --type order", "--all"),
                ("put x --from soon", "--from 'soon'"), ("reset x --to soon", "--to 'soon'"), ("retry x", "--all"),
                ("retry x --all a:x", "--all"), ("skip x --position 1", "name one blocked key"),
                ("skip x a:x --position 0", "start at 1"), ("wait x --timeout 0", "--timeout"),
            ] {
                let outcome = try await martlet("consumers \(line)")
                #expect(outcome.code == 2 && outcome.errors.contains(complaint), "\(line): \(outcome.errors)")
            }
            #expect(try await martlet("consumers put x --expect 0").code == 0)
            let conflict = try await martlet("consumers put x --slots 3 --expect 0")
            #expect(conflict.code == 5 && conflict.errors.contains("CONSUMER_EXISTS"), "\(conflict.errors)")
        }
    }

    @Test func aStoppedSlotIsShownUntilItGoesOn() async throws {
        try await withServer { server, martlet in
            try await append(1, to: server)
            #expect(try await martlet("consumers put balances --slots 1").code == 0)
            try await withClient(of: server) { client in
                let name = try #require(ConsumerName("balances"))
                let worker = try #require(WorkerName("w-1"))
                let consumption = client.consume(
                    ConsumeRequest(ConsumerID(tenant: TenantID(tenant), name: name), worker: worker))
                var hasStopped = false
                for try await item in consumption {
                    if case .events(let events) = item {
                        // After the reset, it comes again.
                        if hasStopped { break }
                        consumption.reject(events[0].delivery, .stop, reason: "the table\n\"mails\" is gone")
                    }
                    guard case .stopped = item else { continue }
                    hasStopped = true
                    let shown = try await martlet("consumers get balances")
                    #expect(
                        shown.output.contains(
                            #""last_failure":null,"stopped_slots":[{"slot":0,"reason":"the table\n\"mails\" is gone"}],"#
                        ),
                        "\(shown.output)\(shown.errors)")
                    #expect(try await martlet("consumers reset balances --to start").code == 0)
                    #expect(try await martlet("consumers get balances").output.contains(#""stopped_slots":[],"#))
                }
                #expect(hasStopped)
            }
        }
    }

    @Test func blockedKeysAreShownRetriedAndSkipped() async throws {
        try await withServer { server, martlet in
            try await append(4, to: server)
            #expect(try await martlet("consumers put balances --slots 1").code == 0)
            let late = try await martlet("consumers wait balances --timeout 0.2")
            #expect(late.code == 1 && late.errors.contains("has not come to position 4 within 0.2 s"), "\(late.errors)")
            try await withClient(of: server) { client in
                try await withThrowingTaskGroup(of: Void.self) { group in
                    let name = try #require(ConsumerName("balances"))
                    let worker = try #require(WorkerName("w-1"))
                    let id = ConsumerID(tenant: TenantID(tenant), name: name)
                    group.addTask {
                        // The first event fails always.
                        let consumption = client.consume(ConsumeRequest(id, worker: worker))
                        for try await item in consumption {
                            guard case .events(let events) = item else { continue }
                            for event in events {
                                if event.event.position == Position(1) {
                                    consumption.reject(event.delivery, .park, reason: "try \(event.attempt)")
                                } else {
                                    consumption.acknowledge(event.delivery)
                                }
                            }
                        }
                    }
                    let reached = try await martlet("consumers wait balances")
                    #expect(reached.output == #"{"reached":4}"# + "\n", "\(reached.errors)")
                    let key = "a:order/11111111-1111-4111-8111-111111111110"
                    let blocked = try await martlet("consumers blocked balances")
                    #expect(
                        blocked.output.hasPrefix(
                            #"{"slot":0,"key":"\#(key)","position":1,"first_handled":false,"parked":true,"#
                                + #""retry_at":null,"tries":1,"since":""#), "\(blocked.output)")
                    #expect(blocked.output.hasSuffix(#""reason":"try 1"}"# + "\n") && blocked.lines.count == 1)
                    #expect(try await martlet("consumers blocked balances --max 0").output.isEmpty)
                    let shown = try await martlet("consumers get balances").output
                    let line = blocked.output.dropLast()
                    #expect(shown.contains(#""blocked_keys":1,"last_failure":\#(line),"stopped_slots":[],"workers":"#))
                    #expect(shown.contains(#""workers":["w-1"],"slots":[{"slot":0,"epoch":"#))
                    #expect(shown.contains(#""worker":"w-1"}]"#), "\(shown)")

                    let other = try await martlet("consumers retry balances a:order/x")
                    #expect(other.code == 5 && other.errors.contains("'a:order/x' is not blocked"), "\(other.errors)")
                    #expect(try await martlet("consumers retry balances --all --slot 3").output == "{\"retried\":0}\n")
                    #expect(try await martlet("consumers retry balances \(key)").output == "{\"retried\":1}\n")
                    // It fails again.
                    while try await !martlet("consumers blocked balances").output.contains("try 2") {}
                    let wrong = try await martlet("consumers skip balances \(key) --position 3")
                    #expect(wrong.code == 5 && wrong.errors.contains("is not at position 3"), "\(wrong.errors)")
                    let skipped = try await martlet("consumers skip balances \(key) --position 1")
                    #expect(skipped.output == "{\"skipped\":1}\n", "\(skipped.errors)")
                    while try await !martlet("consumers blocked balances").output.isEmpty {}
                    group.cancelAll()
                    do { try await group.waitForAll() } catch let error as MartletError {
                        #expect(error.reason == .cancelled)
                    }
                }
            }
        }
    }

    /// Each event is handled once by each group, or the command fails.
    @Test func groupsAreComparedToASubscriber() async throws {
        try await withServer { _, martlet in
            let outcome = try await martlet("bench consume --events 3000 --keys 150 --rounds 1 --workers 1,3")
            #expect(outcome.code == 0, "\(outcome.errors)")
            let lines = outcome.output.split(separator: "\n")
            for (line, name) in zip(lines, ["subscriber", "group of 1", "group of 3"]) {
                #expect(line.hasPrefix(#"{"bench":"\#(name)","events":3000,"keys":150"#), "\(line)")
            }
            #expect(lines.count == 3)
            let refused = try await martlet("bench consume --workers 0")
            #expect(refused.code == 2 && refused.errors.contains("1 to 1,000"), "\(refused)")
        }
    }
}
