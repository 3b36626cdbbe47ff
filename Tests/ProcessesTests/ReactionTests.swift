import Accounts
import Foundation
import MartletClient
import MartletEventSourcing
import MartletModel
import MartletProcesses
import NIOCore
import Testing
import Transfers

/// What plans for one event come to together.
@Suite struct ReactionTests {
    private let first = UUID(high: 7, low: 1)
    private let second = UUID(high: 7, low: 2)
    private static let account = UUID(high: 7, low: 3)
    private static let inbox = AggregateName(type: AggregateType("inbox"), id: UUID(high: 7, low: 4))

    private func when(
        _ manager: Collections, cash: Int = 100
    ) throws -> ProcessScenario<Collections>.When {
        try ProcessScenario(manager)
            .given(Account.self, Self.account, .opened(.init(owner: "Ada")), .deposited(.init(cents: cash)))
            .when(Clearing.self, UUID(), .approved)
    }

    @Test func commandsSeeWhatIsPlannedBeforeThem() async throws {
        let account = Self.account
        let manager = Collections(instances: [first, second]) { _ in
            .init().execute(.withdraw(cents: 60), on: Account.self, account) { refusal in
                .init().record(.gaveUp(.init(reason: "\(refusal)")))
            }.record(.collected)
        }
        let after = try await when(manager)
            .then(
                .appends(Account.self, account, .withdrawn(.init(cents: 60))),
                .appends(Collection.self, first, .collected),
                .appends(Collection.self, second, .gaveUp(.init(reason: "tooLittle(balance: 40)"))))
        #expect(try after.state(of: Account.self, account).cents == 40)
        try await when(manager, cash: 120)
            .then(
                .appends(Account.self, account, .withdrawn(.init(cents: 60)), .withdrawn(.init(cents: 60))),
                .appends(Collection.self, first, .collected), .appends(Collection.self, second, .collected))
    }

    @Test func aRefusedPlanLeavesNothing() async throws {
        let account = Self.account
        let manager = Collections(instances: [first]) { _ in
            .init().record(.collected).setTimeOut("late", after: .seconds(1), .gaveUp(.init(reason: "late")))
                .execute(.withdraw(cents: 60), on: Account.self, account)
                .execute(.withdraw(cents: 60), on: Account.self, account) { _ in
                    .init().record(.gaveUp(.init(reason: "no money")))
                }
        }
        try await when(manager).then(.appends(Collection.self, first, .gaveUp(.init(reason: "no money"))))
    }

    @Test func refusalsThatLeadToThemselvesEnd() async throws {
        @Sendable func plan() -> Collections.Plan {
            .init().execute(.withdraw(cents: 1), on: Account.self, UUID(high: 7, low: 9)) { _ in plan() }
                .record(.collected)
        }
        try await when(Collections(instances: [first]) { _ in plan() })
            .thenThrows(PlanFailure(.park, "16 plans for refused commands led to a refused command again"))
    }

    @Test func plainEventsAndCommandsShareAPart() async throws {
        let account = AggregateName(type: Account.type, id: Self.account)
        let deposit = try EventCodec<Account>().encode(.deposited(.init(cents: 20)))
        let manager = Collections(instances: [first]) { _ in
            .init().append(deposit, to: account, expecting: .exact(Version(2)))
                .execute(.withdraw(cents: 120), on: Account.self, account.id).record(.collected)
        }
        try await when(manager)
            .then(
                .appends(
                    Account.self, account.id, .deposited(.init(cents: 20)), .withdrawn(.init(cents: 120))),
                .appends(Collection.self, first, .collected))
    }

    @Test func expectationsOfOneAggregateAreMerged() async throws {
        let note = NewEvent(type: EventType("Noted"), payload: ByteBuffer(string: "{}"))
        func plan(_ expected: ExpectedVersion...) -> Collections {
            Collections(instances: [first]) { _ in
                expected.reduce(.init().record(.collected)) { plan, expected in
                    var note = note
                    note.id = UUID()
                    return plan.append(note, to: Self.inbox, expecting: expected)
                }
            }
        }
        for expected in [[ExpectedVersion.any, .none], [.none, .exact(.none)], [.exact(.none), .any]] {
            try await when(plan(expected[0], expected[1]))
                .then(
                    .appends("Noted", json: "{}", to: Self.inbox), .appends("Noted", json: "{}", to: Self.inbox),
                    .appends(Collection.self, first, .collected))
        }
        try await when(plan(.none, .exists))
            .thenThrows(PlanFailure(.park, "plans for one event expect \(Self.inbox) to be at none and at exists"))
        await #expect(throws: ScenarioFailure.self) { try await when(plan(.exists)).then() }
    }

    @Test(arguments: ["", "a b", String(repeating: "x", count: 82)])
    func aNameThatCannotBeAKeyParksTheEvent(_ name: String) async throws {
        let manager = Collections(instances: [first]) { _ in .init().record(.collected).cancelTimeOut(name) }
        let key = "collection:\(first.uuidString.lowercased()):\(name)"
        try await when(manager)
            .thenThrows(
                PlanFailure(
                    .park,
                    "'\(key)' cannot name a schedule: a time-out's name has characters of [A-Za-z0-9_.:-], and with the "
                        + "type at most 90"))
    }

    @Test func theLastChangeOfATimeOutCounts() async throws {
        let manager = Collections(instances: [first]) { _ in
            .init().record(.collected).setTimeOut("late", after: .seconds(1), .gaveUp(.init(reason: "late")))
                .cancelTimeOut("late")
                .setTimeOut("late", at: Timestamp(microseconds: 1_767_225_602_000_000), .gaveUp(.init(reason: "later")))
        }
        let set = try await when(manager)
            .then(
                .appends(Collection.self, first, .collected),
                .setsTimeOut("late", of: first, after: .seconds(2), .gaveUp(.init(reason: "later"))))
        // A time-out is an event of the instance: this manager does not react to it.
        let late = try await set.whenTimePasses(.seconds(2)).then()
        #expect(try late.state(of: Collection.self, first).events == ["collected", "later"])
    }
}

private struct GaveUp: EventPayload {
    static let eventType: EventType = "gaveUp"
    var reason: String
}

private struct Collection: Aggregate {
    enum Event: Sendable {
        case collected
        case gaveUp(GaveUp)
    }

    static let type: AggregateType = "collection"
    static let schema = Schema<Collection>().event("collected", .collected).event(Event.gaveUp)

    private(set) var events: [String] = []

    init(id: UUID) {}
    mutating func apply(_ event: Event) {
        switch event {
        case .collected: events.append("collected")
        case .gaveUp(let payload): events.append(payload.reason)
        }
    }
}

/// Has the same plan for all instances when something is approved.
private struct Collections: ProcessManager {
    typealias State = Collection

    var instances: [UUID]
    var planned: @Sendable (Loaded<Collection>) -> Plan

    func correlate(_ event: ProcessEvent) -> [UUID] {
        event.recorded.aggregate.type == Clearing.type ? instances : []
    }

    func plan(_ event: ProcessEvent, for instance: Loaded<Collection>) -> Plan { planned(instance) }
}
