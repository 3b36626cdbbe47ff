import MartletEventSourcing
import Testing

@Suite struct ScenarioTests {
    private let opened = Account.Event.opened(.init(owner: "Ada", currency: "EUR"))

    @Test func scenariosPass() throws {
        try Scenario<Account>.given().when(.open(owner: "Ada")).then(opened)
        try Scenario<Account>.given(opened).and(.deposited(.init(cents: 5))).when(.withdraw(5))
            .then(.withdrawn(.init(cents: 5)))
        try Scenario<Account>.given(opened).when { _ in [.closed] }.then(.closed)
        try Scenario<Account>.given(opened).when(.nothing).then()
        try Scenario<Account>.given(opened).when(.withdraw(5)).thenThrows(Account.Refusal.tooLittle(0))
        try Scenario<Account>.given(opened).when(.withdraw(5)).thenThrows(Account.Refusal.self)
        try Scenario<Account>.given(stored: "AccountOpened", version: 1, json: #"{"name":"Ada"}"#)
            .when(.deposit(5)).thenState { $0.owner == "Ada" && $0.cents == 5 }
    }

    @Test func scenariosSayWhatIsWrong() throws {
        func failure(_ body: () throws -> Void) throws -> String {
            try #require(throws: ScenarioFailure.self, performing: body).description
        }
        #expect(
            try failure { try Scenario<Account>.given(opened).when(.deposit(5)).then(.deposited(.init(cents: 6))) }
                == #"expected deposited {"cents":6}, but account decided deposited {"cents":5}"#)
        #expect(
            try failure { try Scenario<Account>.given().when(.deposit(5)).then(.deposited(.init(cents: 5))) }
                == "account refused the command: isNotOpen")
        #expect(
            try failure { try Scenario<Account>.given(opened).when(.deposit(5)).thenThrows(Account.Refusal.isOpen) }
                == #"expected isOpen, but account decided deposited {"cents":5}"#)
        #expect(
            try failure { try Scenario<Account>.given(opened).when(.nothing).thenState { $0.cents == 1 } }
                .contains("unexpected state"))
    }
}
