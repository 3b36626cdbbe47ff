import MartletModel
import MartletSession
import Testing

/// Calls about schedules are answered by their own kind, and by one message.
@Suite struct ScheduleSessionTests {
    private let change = CallRequest.changeSchedules(ChangeSchedulesRequest(tenant: Sample.tenant, []))
    private let list = CallRequest.listSchedules(ListSchedulesRequest(tenant: Sample.tenant))

    private func session(_ request: CallRequest) -> ClientSession {
        var session = ClientSession(welcomeMillis: 1_000, keepaliveMillis: 500, now: Sample.millis(0))
        _ = session.receive(ServerFrame(.connection, .welcome(Sample.welcome())), now: Sample.millis(0))
        _ = session.start(request)
        return session
    }

    @Test func eachIsAnsweredByItsKindOnce() {
        let outcomes = CallMessage.schedulesChanged([.set])
        for (request, answer, other) in [(change, outcomes, .schedules([])), (list, .schedules([]), outcomes)]
            as [(CallRequest, CallMessage, CallMessage)]
        {
            var answered = session(request)
            let frame = ServerFrame(CallID(1), .message(answer))
            #expect(answered.receive(frame, now: Sample.millis(1)) == .answer(CallID(1), answer))
            guard case .fail = answered.receive(frame, now: Sample.millis(2)) else {
                Issue.record("a second answer to \(request)")
                continue
            }
            var mixedUp = session(request)
            let wrong = ServerFrame(CallID(1), .message(other))
            guard case .fail(let error) = mixedUp.receive(wrong, now: Sample.millis(1)) else {
                Issue.record("\(other) answers \(request)")
                continue
            }
            #expect(error.reason == .badFrame)
        }
    }
}
