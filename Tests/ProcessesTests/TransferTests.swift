import Accounts
import Foundation
import MartletEventSourcing
import MartletModel
import MartletProcesses
import MartletTesting
import Testing
import Transfers

/// The transfers of the bank, given, when and then; and the page that shows them.
@Suite struct TransferTests {
    /// What Docs/PROCESSES.md shows is compiled and run here.
    @Test func thePageShowsWhatIsRunHere() throws {
        var source = ""
        for file in [
            "Examples/Bank/Sources/Transfers/Transfer.swift", "Tests/ProcessesTests/TransferTests.swift",
            "Tests/ProcessesTests/RunnerTests.swift",
        ] {
            source += try String(contentsOfFile: "\(MartletTesting.Repository.root)/\(file)", encoding: .utf8)
        }
        // The example has its targets use each other; a program of one target needs none of this.
        source.replace("package ", with: "")
        let blocks = try ManualPage("PROCESSES").text.components(separatedBy: "```swift\n").dropFirst()
        #expect(blocks.count == 5)
        for block in blocks {
            let example = ManualPage.words(of: block.components(separatedBy: "```")[0])
            #expect(ManualPage.words(of: source).contains(example), "\(example)")
        }
    }

    private let id = UUID()
    private let ada = UUID()
    private let bob = UUID()

    private func posting(_ cents: Int) -> Deposited { Deposited(cents: cents, transfer: id) }

    private func accounts(_ cents: Int) throws -> ProcessScenario<Transfers> {
        try ProcessScenario(Transfers()).given(
            Account.self, ada, .opened(.init(owner: "Ada")), .deposited(.init(cents: cents))
        )
        .given(Account.self, bob, .opened(.init(owner: "Bob")))
    }

    /// The money has left Ada's account.
    private func withdrawn() async throws -> ProcessScenario<Transfers> {
        try await accounts(500).when(Transfer.self, id, .requested(.init(from: ada, to: bob, cents: 200)))
            .then(
                .appends(Account.self, ada, .withdrawn(.init(cents: 200, transfer: id))),
                .appends(Clearing.self, id, .asked(.init(cents: 200))),
                .appends(Transfer.self, id, .withdrawn),
                .setsTimeOut("approval", of: id, after: .seconds(60), .overdue))
    }

    @Test func anApprovedTransferIsCompleted() async throws {
        let completed = try await withdrawn().when(Clearing.self, id, .approved)
            .then(
                .appends(Account.self, bob, .deposited(posting(200))), .appends(Transfer.self, id, .completed),
                .cancelsTimeOut("approval", of: id))
        #expect(try completed.state(of: Account.self, bob).cents == 200)
        try await completed.whenTimePasses(.seconds(60)).then()
        try await completed.when(Clearing.self, id, .approved).then()
    }

    @Test func aRejectionThePageShows() async throws {
        try await ProcessScenario(Transfers())
            .given(Account.self, ada, .opened(.init(owner: "Ada")), .deposited(.init(cents: 100)))
            .when(Transfer.self, id, .requested(.init(from: ada, to: bob, cents: 200)))
            .then(.appends(Transfer.self, id, .rejected(.init(reason: "tooLittle(balance: 100)"))))
    }

    @Test func aClosedAccountGivesTheMoneyBack() async throws {
        try await withdrawn().given(Account.self, bob, .closed).when(Clearing.self, id, .approved)
            .then(
                .appends(Account.self, ada, .deposited(posting(200))),
                .appends(Transfer.self, id, .refunded(.init(reason: "isNotOpen"))), .cancelsTimeOut("approval", of: id))
    }

    @Test func aTimeOutThePageShows() async throws {
        let waiting = try await withdrawn().whenTimePasses(.seconds(59)).then()
        let refunded = try await waiting.whenTimePasses(.seconds(1))
            .then(
                .appends(Account.self, ada, .deposited(posting(200))),
                .appends(Transfer.self, id, .refunded(.init(reason: "it was not approved in time"))),
                .cancelsTimeOut("approval", of: id))
        // An approval that comes too late changes nothing.
        try await refunded.when(Clearing.self, id, .approved).then()
    }

    @Test func scenariosSayWhatIsWrong() async throws {
        let failure = await #expect(throws: ScenarioFailure.self) {
            try await accounts(500).when(Transfer.self, id, .requested(.init(from: ada, to: bob, cents: 200))).then()
        }
        let text = try #require(failure?.description)
        #expect(text.hasPrefix("expected nothing, but the process does account/"))
        #expect(text.contains("transfer/\(id.uuidString.lowercased()): withdrawn {}"))
        await #expect(throws: ScenarioFailure.self) { try await withdrawn().when(Clearing.self, id, .approved).then() }
    }
}
