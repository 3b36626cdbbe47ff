import Foundation
import MartletTesting
import Testing

/// Lines of events, as append and import read them and export writes them: nothing in them is dropped in silence.
@Suite struct TransferCommandTests {
    private static let id = "11111111-1111-4111-8111-111111111111"
    private static let order = ["--type", "order", "--id", id]

    private func withServer(
        _ body: ([String: String], TemporaryFolder) async throws -> Void
    ) async throws {
        let folder = try TemporaryFolder()
        let server = try await ServerProcess(storage: "sqlite:\(folder.path)/data/m.db")
        try await body(try server.environment(tenant: UUID()), folder)
        #expect(try await server.stop() == 0, "\(server.logged)")
    }

    private static func line(_ number: Int, _ aggregate: Int = 0) -> String {
        #"{"aggregate_type":"order","aggregate_id":"00000000-0000-4000-8000-00000000000\#(aggregate)","#
            + #""id":"10000000-0000-4000-8000-\#(String(format: "%012d", number))","type":"Placed","#
            + #""schema_version":1,"metadata":{"user_id":"u"},"payload":{"n":\#(number)}}"#
    }

    private static func write(_ lines: [String], to file: String) throws {
        try (lines.joined(separator: "\n") + "\n").write(toFile: file, atomically: true, encoding: .utf8)
    }

    /// A second line that is wrong, and what is said about it.
    private static let wrong: [(line: String, words: [String])] = [
        (#"{"type":"E","payload":1,"metadta":{}}"#, [#""metadta""#, #"did you mean "metadata"?"#]),
        (#"{"type":"E","payload":1,"Payload":2}"#, [#""Payload""#, #"did you mean "payload"?"#]),
        (#"{"type":"E","payload":1,"colour":"red"}"#, [#""colour""#, "known: aggregate_id, "]),
        (#"{"type":"E","payload":1,"type":"F"}"#, [#""type" is there twice"#]),
        (#"{"type":"E","payload":1,"payload_base64":"AA=="}"#, ["exclude each other"]),
        (#"{"type":"E","payload":1,"metadata":{"userid":"u"}}"#, [#""userid""#, #"did you mean "user_id"?"#, "tags"]),
        (#"{"type":"E","payload":1,"metadata":{"user_id":"u","user_id":"v"}}"#, [#""user_id" is there twice"#]),
        (#"{"type":"E","payload":1,"metadata":{"tags":{"a":"1","a":"2"}}}"#, [#""a" is there twice"#]),
        (#"{"type":"E","payload":1,"version":"2"}"#, [#""version" is not a number from 1"#]),
        (#"{"type":"E","payload":1,"schema_version":0}"#, [#""schema_version" is not a number from 1 to 4294967295"#]),
        (#"{"type":"E","payload":1,"aggregate_id":"11111111-1111-4111-8111-111111111111"}"#, ["aggregate_type"]),
        (
            #"{"type":"E","payload":1,"aggregate_type":"order","aggregate_id":"22222222-2222-4222-8222-222222222222"}"#,
            ["names another aggregate than --type and --id"]
        ),
        (#"{"type":"E","payload":1,"expect":3}"#, [#""expect""#, "--expect"]),
    ]

    @Test(arguments: wrong)
    func appendRefusesWhatItWouldDrop(_ line: String, _ words: [String]) async throws {
        try await withServer { settings, _ in
            let refused = try await Binary.run(
                ["append"] + Self.order, input: #"{"type":"E","payload":1}"# + "\n" + line, environment: settings)
            #expect(refused.code == 2 && refused.output.isEmpty, "\(refused)")
            for word in ["line 2: "] + words { #expect(refused.errors.contains(word), "\(word): \(refused.errors)") }
            #expect(try await Binary.run(["head"], environment: settings).output.contains(#""position":0"#))
        }
    }

    @Test func appendTakesWhatLoadPrints() async throws {
        try await withServer { settings, _ in
            #expect(
                try await Binary.run(
                    ["append"] + Self.order, input: #"{"type":"E","payload":1}"#, environment: settings
                ).code == 0)
            let loaded = try await Binary.run(["load"] + Self.order, environment: settings)
            let again = try await Binary.run(["append"] + Self.order, input: loaded.output, environment: settings)
            #expect(again.output.contains(#""replayed":true"#), "\(again)")
        }
    }

    @Test func linesOfSeveralAggregatesAreOneAppend() async throws {
        try await withServer { settings, _ in
            func append(_ lines: [String], _ more: [String] = []) async throws -> Binary.Outcome {
                try await Binary.run(["append"] + more, input: lines.joined(separator: "\n"), environment: settings)
            }
            let one = #""aggregate_type":"order","aggregate_id":"\#(Self.id)""#
            let two = #""aggregate_type":"stock","aggregate_key":"shelf/3""#
            let first = try await append([
                #"{\#(one),"type":"Placed","payload":1,"expect":"none"}"#,
                #"{\#(two),"type":"Taken","payload":2,"expect":0}"#, #"{\#(one),"type":"Paid","payload":3}"#,
            ])
            #expect(first.code == 0, "\(first.errors)")
            let parts = first.output.matches(of: #/"first_version":1,"last_version":(\d)/#).map(\.output.1)
            #expect(parts == ["2", "1"] && first.output.contains(#""first_position":1,"last_position":3"#), "\(first)")
            let loaded = try await Binary.run(
                ["load", "--type", "stock", "--aggregate-key", "shelf/3"], environment: settings)
            #expect(loaded.lines.count == 1 && loaded.output.contains(#""tags":{"aggregate_key":"shelf/3"}"#))
            // One of them conflicts: nothing is stored.
            let conflict = try await append([
                #"{\#(one),"type":"Sent","payload":1,"expect":2}"#, #"{\#(two),"type":"Taken","payload":2,"expect":7}"#,
            ])
            #expect(conflict.code == 3, "\(conflict)")
            #expect(try await append([#"{\#(one),"type":"A","payload":1}"#], ["--expect", "9"]).code == 3)
            let twice = try await append([
                #"{\#(one),"type":"A","payload":1}"#, #"{\#(one),"type":"B","payload":1,"expect":3}"#,
            ])
            #expect(twice.code == 2 && twice.errors.contains("line 2: "), "\(twice)")
            let nameless = try await append([#"{"type":"A","payload":1}"#])
            #expect(nameless.code == 2 && nameless.errors.contains("names no aggregate"), "\(nameless)")
            #expect(try await append([#"{"type":"A","payload":1}"#], ["--id", Self.id]).code == 2)
            #expect(try await Binary.run(["head"], environment: settings).output.contains(#""position":3"#))
        }
    }

    @Test func aFileIsCheckedBeforeAnyOfItIsStored() async throws {
        try await withServer { settings, folder in
            let file = folder.path + "/events.jsonl"
            var lines = (1...1_200).map { Self.line($0, $0 % 3) }
            lines[1_100] = lines[1_100].replacing("metadata", with: "metadta")
            try Self.write(lines, to: file)
            let refused = try await Binary.run(["import", file], environment: settings)
            #expect(refused.code == 1, "\(refused)")
            for word in [file, "line 1101", "metadta", #"did you mean "metadata"?"#, "Nothing was imported"] {
                #expect(refused.errors.contains(word), "\(word): \(refused.errors)")
            }
            #expect(try await Binary.run(["head"], environment: settings).output.contains(#""position":0"#))
            // What can be read only once is checked as it comes, and says how far it came.
            let piped = try await Binary.run(
                ["import", "-"], input: lines.joined(separator: "\n"), environment: settings)
            #expect(piped.code == 1 && piped.errors.contains("standard input, line 1101"), "\(piped)")
            #expect(piped.errors.contains("1098 events were imported, 0 were there already"), "\(piped.errors)")
            lines[1_100] = lines[1_100].replacing("metadta", with: "metadata")
            let whole = try await Binary.run(
                ["import", "-"], input: lines.joined(separator: "\n"), environment: settings)
            #expect(whole.output == #"{"imported":102,"already_there":1098,"head":1200}"# + "\n", "\(whole)")
            #expect(whole.errors.contains("there is no manifest"))
        }
    }

    /// What of a stored line is changed before the import is started again.
    private static let changes: [(of: String, to: String, words: String)] = [
        (#""payload":{"n":3}"#, #""payload":{"n":4}"#, "its payload differs"),
        (#""user_id":"u""#, #""user_id":"v""#, "its metadata differ"),
        (#""type":"Placed""#, #""type":"Paid""#, "its type is Placed, not Paid"),
        (#""schema_version":1"#, #""schema_version":2"#, "its schema version is 1, not 2"),
        (#""aggregate_type":"order""#, #""aggregate_type":"stock""#, "its aggregate is order/"),
        (#"000000000003","type"#, #"000000000009","type"#, "id 10000000-"),
    ]

    @Test(arguments: changes)
    func aResumedImportComparesWhatIsThere(_ old: String, _ new: String, _ words: String) async throws {
        try await withServer { settings, folder in
            let file = folder.path + "/events.jsonl"
            var lines = (1...5).map { Self.line($0) }
            try Self.write(lines, to: file)
            #expect(try await Binary.run(["import", file], environment: settings).code == 0)
            lines[2] = lines[2].replacing(old, with: new)
            lines.append(Self.line(6))
            try Self.write(lines, to: file)
            let refused = try await Binary.run(["import", file], environment: settings)
            #expect(refused.code == 1, "\(refused)")
            for word in ["line 3", "position 3", words] {
                #expect(refused.errors.contains(word), "\(word): \(refused.errors)")
            }
            #expect(try await Binary.run(["head"], environment: settings).output.contains(#""position":5"#))
        }
    }

    @Test func aTenantWithMoreThanTheFileIsRefused() async throws {
        try await withServer { settings, folder in
            let file = folder.path + "/events.jsonl"
            try Self.write((1...5).map { Self.line($0) }, to: file)
            #expect(try await Binary.run(["import", file], environment: settings).code == 0)
            try Self.write((1...4).map { Self.line($0) }, to: file)
            let refused = try await Binary.run(["import", file], environment: settings)
            #expect(refused.code == 1 && refused.errors.contains("has 5 events") && refused.errors.contains("only 4"))
        }
    }

    @Test func aManifestTellsWhetherAFileIsWhole() async throws {
        try await withServer { settings, folder in
            let file = folder.path + "/events.jsonl"
            func run(_ command: [String], _ tenant: String? = nil) async throws -> Binary.Outcome {
                var environment = settings
                if let tenant { environment["MARTLET_TENANT"] = tenant }
                return try await Binary.run(command, environment: environment)
            }
            func load(_ lines: [Substring]) async throws -> Binary.Outcome {
                try Self.write(lines.map(String.init), to: file)
                return try await run(["import", file], UUID().uuidString)
            }
            try Self.write((1...40).map { Self.line($0, $0 % 3) }, to: file)
            #expect(try await run(["import", file]).code == 0)
            let lines = try await run(["export"]).lines
            let manifest = try #require(lines.last)
            #expect(lines.count == 41 && manifest.contains(#"{"manifest":{"after":0,"events":40,"head":40,"sha256":""#))
            let whole = try await load(lines)
            #expect(whole.output == #"{"imported":40,"already_there":0,"head":40,"verified":true}"# + "\n", "\(whole)")
            #expect(whole.errors.isEmpty, "\(whole)")

            // A line that is missing, changed, moved or there twice.
            var (missing, changed, moved, doubled) = (lines, lines, lines, lines)
            missing.remove(at: 20)
            changed[20] = Substring(changed[20].replacing(#"{"n":21}"#, with: #"{"n":22}"#))
            moved.swapAt(3, 4)
            doubled.insert(lines[7], at: 7)
            for (name, damaged) in [("missing", missing), ("changed", changed), ("moved", moved), ("doubled", doubled)]
            {
                let refused = try await load(damaged)
                #expect(refused.code == 1 && refused.output.isEmpty, "\(name): \(refused)")
                for word in ["manifest", "Nothing was imported"] {
                    #expect(refused.errors.contains(word), "\(name): \(refused.errors)")
                }
            }
            let torn = try await load(Array(lines.dropLast()))
            #expect(torn.code == 0 && torn.errors.contains("there is no manifest"), "\(torn)")

            // An export that was interrupted and gone on with, and one that was taken up later.
            let rest = try await run(["export", "--after", "30"]).lines
            #expect(rest.count == 11 && rest[10].contains(#""after":30,"events":10,"head":40"#), "\(rest)")
            let resumed = try await load(lines[..<30] + rest)
            #expect(resumed.output == #"{"imported":40,"already_there":0,"head":40}"# + "\n", "\(resumed)")
            #expect(resumed.errors.contains("30 of 40 lines have no manifest"), "\(resumed)")
            var spoiled = rest
            spoiled[2] = Substring(spoiled[2].replacing(#"{"n":33}"#, with: #"{"n":34}"#))
            #expect(try await load(lines[..<30] + spoiled).code == 1)
            try Self.write((1...50).map { Self.line($0, $0 % 3) }, to: file)
            #expect(try await run(["import", file]).code == 0)
            let later = try await load(lines + (try await run(["export", "--after", "40"]).lines))
            #expect(later.output == #"{"imported":50,"already_there":0,"head":50,"verified":true}"# + "\n", "\(later)")
        }
    }

    @Test func aFolderIsNoFile() async throws {
        try await withServer { settings, folder in
            for command in [["import", folder.path], ["append"] + Self.order + [folder.path]] {
                let refused = try await Binary.run(command, environment: settings)
                #expect(refused.code == 2, "\(refused)")
                #expect(refused.errors.contains("cannot read \(folder.path): check that it is a file"), "\(refused)")
                #expect(!refused.errors.contains("Domain"), "\(refused)")
            }
        }
    }

    @Test func outputThatCannotBeWrittenIsAnError() async throws {
        try await withServer { settings, folder in
            let file = folder.path + "/events.jsonl"
            try Self.write((1...40).map { Self.line($0, $0 % 3) }, to: file)
            #expect(try await Binary.run(["import", file], environment: settings).code == 0)
            for command in ["export", "read", "head", "status", "--help", "--version", "load --help"] {
                let full = try await Binary.run(
                    ["-c", "exec \(Binary.path) \(command) > /dev/full"], environment: settings, path: "/bin/sh")
                #expect(full.code == 1 && full.errors.contains("No space left on device"), "\(command): \(full)")
            }
            let export = try await Binary.run(
                ["-c", "exec \(Binary.path) export > /dev/full"], environment: settings, path: "/bin/sh")
            #expect(export.errors.contains("0 events were written") && export.errors.contains("--after 0"))
        }
    }

    @Test(arguments: ["--json", "--html"])
    func benchOpensItsFilesFirst(_ option: String) async throws {
        try await withServer { settings, folder in
            let missing = folder.path + "/none/report"
            let refused = try await Binary.run(
                ["bench", "append", "--seconds", "600", option, missing], environment: settings, seconds: 20)
            #expect(refused.code == 2, "\(refused)")
            #expect(refused.errors.contains("\(option) \(missing)") && refused.errors.contains("No such file"))
            #expect(try await Binary.run(["head"], environment: settings).output.contains(#""position":0"#))
            // A run that fails leaves what was there, and nothing where nothing was.
            let (old, new) = (folder.path + "/old", folder.path + "/new")
            try "old".write(toFile: old, atomically: true, encoding: .utf8)
            for file in [old, new] {
                let failed = try await Binary.run(
                    ["bench", "append", "--seconds", "0.2", "--warmup", "0", option, file],
                    environment: settings.merging(["MARTLET_SERVER": "127.0.0.1:1"]) { $1 })
                #expect(failed.code != 0)
            }
            #expect(try String(contentsOfFile: old, encoding: .utf8) == "old")
            #expect(!FileManager.default.fileExists(atPath: new))
            let run = try await Binary.run(
                ["bench", "append", "--seconds", "0.2", "--warmup", "0", option, old], environment: settings)
            #expect(run.code == 0, "\(run.errors)")
            #expect(try String(contentsOfFile: old, encoding: .utf8).count > 100)
        }
    }

    @Test func applyTriesUpcastersOnWhatIsStored() async throws {
        try await withServer { settings, _ in
            func martlet(_ arguments: [String], _ input: String = "") async throws -> Binary.Outcome {
                try await Binary.run(arguments, input: input, environment: settings)
            }
            let events = [#"{"type":"Placed","payload":{"item":"a"}}"#, #"{"type":"Placed","payload":{"things":1}}"#]
            #expect(try await martlet(["append"] + Self.order, events.joined(separator: "\n")).code == 0)
            let steps =
                #"{"upcasters":[{"event":"Placed","from":1,"operations":[{"rename":{"path":"/item","to":"thing","required":true}}]}]}"#
            let refused = try await martlet(["upcasters", "apply", "-"], steps)
            #expect(refused.code == 5, "\(refused)")
            #expect(refused.errors.contains("1 of 2 stored events would not be upcast"), "\(refused)")
            #expect(refused.output.contains(#"{"failure":{"position":2"#), "\(refused)")
            #expect(try await martlet(["upcasters", "list"]).output.isEmpty)
            let forced = try await martlet(["upcasters", "apply", "--force", "-"], steps)
            #expect(forced.code == 0 && forced.output.contains(#""changed":true"#), "\(forced)")
        }
    }
}
