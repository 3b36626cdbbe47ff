import Accounts
import Martlet
import Testing

@Suite struct AccountTests {
    private let opened = Account.Event.opened(.init(owner: "Ada"))

    @Test func moneyMoves() throws {
        try Scenario<Account>.given(opened).when(.deposit(cents: 500)).then(.deposited(.init(cents: 500)))
        try Scenario<Account>.given(opened, .deposited(.init(cents: 500))).when(.withdraw(cents: 200))
            .thenState { $0.cents == 300 }
    }

    @Test func whatCannotBeIsRefused() throws {
        try Scenario<Account>.given().when(.deposit(cents: 1)).thenThrows(Account.Refusal.isNotOpen)
        try Scenario<Account>.given(opened).when(.open(owner: "Bob")).thenThrows(Account.Refusal.isOpenAlready)
        try Scenario<Account>.given(opened).when(.withdraw(cents: 1)).thenThrows(Account.Refusal.tooLittle(balance: 0))
    }

    @Test func theFirstGenerationCounts() throws {
        try Scenario<Account>.given(opened).and(stored: "Deposited", version: 1, json: #"{"amount":1234}"#)
            .when(.withdraw(cents: 234)).thenState { $0.cents == 1_000 }
    }
}
