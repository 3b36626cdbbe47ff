import ArgumentParser
import MartletClient
import MartletModel

struct ConsumersCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "consumers",
        abstract: "Manage the consumers of a tenant: named places in its events that the server keeps.",
        subcommands: [
            ConsumersPut.self, ConsumersGet.self, ConsumersList.self, ConsumersDelete.self, ConsumersReset.self,
            ConsumersPause.self, ConsumersResume.self, ConsumersBlocked.self, ConsumersRetry.self,
            ConsumersSkip.self, ConsumersWait.self,
        ])
}

struct ConsumersPut: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "put", abstract: "Make a consumer, or change its definition; it keeps its place.",
        discussion: """
            Options that are omitted keep what the consumer has. To change --order-by or --slots, pause it first, and retry \
            or skip its blocked keys. Prints the definition's revision.
            """)

    @OptionGroup var consumer: ConsumerOptions
    @OptionGroup var options: DefinitionOptions

    @Option(help: ArgumentHelp("Where it begins, if it is new.", valueName: "start|head|position|time"))
    var from = "start"

    @Flag(help: "Deliver nothing until it is resumed.")
    var paused = false

    @Option(
        help: ArgumentHelp("Only if its definition has this revision; 0: only if it is new.", valueName: "revision"))
    var expect: UInt64?

    mutating func run() async throws {
        let id = try consumer.id()
        let start = try subscriptionStart(from, "--from")
        let (options, paused, expect) = (options, paused, expect)
        // What is wrong with the options themselves needs no server.
        _ = try options.applied(to: ConsumerDefinition())
        let receipt = try await consumer.withClient { client in
            try await DefinitionChange.make(client, id, start: start, expect: expect) { definition in
                var definition = try options.applied(to: definition)
                if paused { definition.isPaused = true }
                return definition
            }
        }
        Terminal.write(line: #"{"revision":\#(receipt.revision),"new":\#(receipt.isNew)}"#)
    }
}

struct ConsumersGet: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "get",
        abstract: "Print how a consumer is: how far it has come, what failed last, who works on it, its definition.",
        discussion: """
            "positions_behind" counts all positions after "settled_to", events that the consumer passes over among \
            them. "oldest_unsettled" is the first of its events that is not settled. "last_failure" is the key that was \
            blocked last, as the blocked command prints it. "stopped_slots" has at most 100 slots, and only those whose \
            worker is connected to the server that answers: other servers' stops are not known there.
            """)

    @OptionGroup var consumer: ConsumerOptions

    mutating func run() async throws {
        let id = try consumer.id()
        let (description, status) = try await consumer.withClient { client in
            (try await client.consumer(id), try await client.status())
        }
        Terminal.write(line: ConsumerLine.line(description, now: status.serverTime))
    }
}

struct ConsumersList: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Print one line per consumer of the tenant.")

    @OptionGroup var tenant: TenantOptions

    mutating func run() async throws {
        let tenantID = try tenant.tenantID()
        for listed in try await tenant.server.withClient({ try await $0.consumers(of: tenantID) }) {
            Terminal.write(line: ConsumerLine.line(listed))
        }
    }
}

struct ConsumersDelete: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete", abstract: "Delete a consumer with its place and its blocked keys.")

    @OptionGroup var consumer: ConsumerOptions

    mutating func run() async throws {
        let id = try consumer.id()
        try await consumer.withClient { try await $0.deleteConsumer(id) }
        Terminal.write(line: #"{"deleted":1}"#)
    }
}

struct ConsumersReset: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "reset", abstract: "Have a consumer begin again from another place, with no key blocked.",
        discussion: """
            Prints after which position it begins, how far it had come, and how many positions come again. Slots that \
            were stopped go on.
            """)

    @OptionGroup var consumer: ConsumerOptions

    @Option(help: ArgumentHelp("Where it begins.", valueName: "start|head|position|time"))
    var to: String

    @Flag(help: "Change nothing, only print what would come again.")
    var preview = false

    mutating func run() async throws {
        let request = ResetConsumerRequest(
            try consumer.id(), start: try subscriptionStart(to, "--to"), isPreview: preview)
        let receipt = try await consumer.withClient { try await $0.resetConsumer(request) }
        Terminal.write(
            line: #"{"after":\#(receipt.after),"before":\#(receipt.before),"#
                + #""positions_again":\#(receipt.positionsAgain),"preview":\#(preview)}"#)
    }
}

struct ConsumersPause: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause", abstract: "Deliver nothing more to a consumer's workers.",
        discussion: "Prints the definition's revision.")

    @OptionGroup var consumer: ConsumerOptions

    mutating func run() async throws { try await DefinitionChange.setPaused(true, consumer) }
}

struct ConsumersResume: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume", abstract: "Deliver again to a consumer's workers.",
        discussion: "Prints the definition's revision.")

    @OptionGroup var consumer: ConsumerOptions

    mutating func run() async throws { try await DefinitionChange.setPaused(false, consumer) }
}

struct ConsumersBlocked: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "blocked",
        abstract: "Print one line per blocked key of a consumer: its first event failed, and later ones wait.",
        discussion: "Keys that are not parked are tried again by themselves, at \"retry_at\".")

    @OptionGroup var consumer: ConsumerOptions

    @Option(help: ArgumentHelp("Print at most this many keys.", valueName: "count"))
    var max: UInt32?

    mutating func run() async throws {
        let id = try consumer.id()
        let countMax = max.map { Int($0) } ?? .max
        try await consumer.withClient { client in
            var left = countMax
            var after: KeyPlace?
            while left > 0 {
                let page = try await client.blockedKeys(ListBlockedKeysRequest(id, after: after))
                for listed in page.prefix(left) { Terminal.write(line: ConsumerLine.line(listed)) }
                left -= Swift.min(left, page.count)
                guard page.count >= ListBlockedKeysRequest.countMax, let last = page.last else { return }
                after = last.place
            }
        }
    }
}

struct ConsumersRetry: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "retry", abstract: "Try blocked keys of a consumer again now.",
        discussion: "Prints how many keys are tried again.")

    @OptionGroup var consumer: ConsumerOptions
    @OptionGroup var keys: KeysOptions

    @Flag(help: "All blocked keys, or all of --slot.")
    var all = false

    mutating func run() async throws {
        guard all == keys.keys.isEmpty else { throw UsageError("name blocked keys, or give --all") }
        let (id, keys) = (try consumer.id(), keys)
        let count = try await consumer.withClient { client in
            let found = try await keys.find(id, client)
            return try await KeysOptions.unblock(found.map { .init($0.place) }, id, client)
        }
        Terminal.write(line: #"{"retried":\#(count)}"#)
    }
}

struct ConsumersSkip: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "skip", abstract: "Count a blocked key's first event as settled; the key goes on behind it.",
        discussion: """
            The position is the one that blocked prints: if another event is the key's first by now, nothing is \
            skipped. Prints how many events were skipped.
            """)

    @OptionGroup var consumer: ConsumerOptions
    @OptionGroup var keys: KeysOptions

    @Option(help: ArgumentHelp("Position of the event.", valueName: "position"))
    var position: UInt64

    mutating func run() async throws {
        guard keys.keys.count == 1 else { throw UsageError("name one blocked key") }
        guard position > 0 else { throw UsageError("--position 0: positions start at 1") }
        let (id, keys, position) = (try consumer.id(), keys, Position(position))
        let count = try await consumer.withClient { client in
            let found = try await keys.find(id, client)
            return try await KeysOptions.unblock(found.map { .init($0.place, skipping: position) }, id, client)
        }
        guard count > 0 else {
            throw CommandRefusal("the first event of key '\(keys.keys[0])' is not at position \(position)")
        }
        Terminal.write(line: #"{"skipped":\#(count)}"#)
    }
}

struct ConsumersWait: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "wait", abstract: "Wait until a consumer has come to a position.",
        discussion: """
            Up to there, each of its events is settled or belongs to a blocked key. Prints how far it has come; exits \
            with 1 where it does not come so far in time.
            """)

    @OptionGroup var consumer: ConsumerOptions

    @Option(help: ArgumentHelp("The position; the tenant's head of now if omitted.", valueName: "position"))
    var position: UInt64?

    @Option(help: ArgumentHelp("Wait no longer than this.", valueName: "seconds"))
    var timeout: Double = 30

    mutating func run() async throws {
        guard timeout > 0, timeout <= 1_000_000 else {
            throw UsageError("--timeout must be above 0 and at most 1000000 seconds")
        }
        let (id, position, timeout) = (try consumer.id(), position, timeout)
        let reached = try await consumer.withClient { client in
            var target = position.map { Position($0) } ?? .start
            if position == nil { target = try await client.head(of: id.tenant).position }
            do throws(MartletError) {
                return try await client.awaitConsumer(id, position: target, timeout: .seconds(timeout))
            } catch {
                guard error.code == .deadlineExceeded else { throw error }
                throw CommandFailure("consumer \(id.name) has not come to position \(target) within \(timeout) s")
            }
        }
        Terminal.write(line: #"{"reached":\#(reached)}"#)
    }
}

/// Changes a consumer's definition under its revision.
enum DefinitionChange {
    private static let attemptsMax = 5

    /// Changes a definition; starts again where someone else changed it meanwhile.
    /// - Parameter expect: the revision that it must have; 0 for a new one; nil for any.
    static func make(
        _ client: MartletClient, _ id: ConsumerID, start: SubscriptionStart? = nil, expect: UInt64? = nil,
        _ change: (ConsumerDefinition) throws -> ConsumerDefinition
    ) async throws -> PutConsumerReceipt {
        var attempt = 1
        while true {
            do {
                return try await makeOnce(client, id, start: start, expect: expect, change)
            } catch let error as MartletError {
                // Another's change, or our own first try whose answer was lost: the next look tells.
                let isConflict = error.reason == .consumerRevisionConflict || error.reason == .consumerExists
                guard isConflict, expect == nil, attempt < attemptsMax else { throw error }
                attempt += 1
            }
        }
    }

    private static func makeOnce(
        _ client: MartletClient, _ id: ConsumerID, start: SubscriptionStart?, expect: UInt64?,
        _ change: (ConsumerDefinition) throws -> ConsumerDefinition
    ) async throws -> PutConsumerReceipt {
        var definition = ConsumerDefinition()
        var expected = ExpectedDefinition.none
        if expect != 0 {
            do throws(MartletError) {
                let present = try await client.consumer(id)
                definition = present.definition
                expected = .revision(expect ?? present.revision)
            } catch {
                guard error.reason == .consumerNotFound, start != nil, expect == nil else { throw error }
            }
        }
        return try await client.putConsumer(
            PutConsumerRequest(id, change(definition), start: start ?? .after(.start), expected: expected))
    }

    static func setPaused(_ isPaused: Bool, _ consumer: ConsumerOptions) async throws {
        let id = try consumer.id()
        let receipt = try await consumer.withClient { client in
            try await make(client, id) { definition in
                var definition = definition
                definition.isPaused = isPaused
                return definition
            }
        }
        Terminal.write(line: #"{"revision":\#(receipt.revision),"paused":\#(isPaused)}"#)
    }
}
