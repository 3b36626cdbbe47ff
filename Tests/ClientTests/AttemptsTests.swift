import MartletModel
import NIOCore
import Testing

@testable import MartletClient

@Suite struct AttemptsTests {
    private let start = NIODeadline.uptimeNanoseconds(1_000_000_000)

    private func attempts(
        budget: Duration? = .seconds(10), deadline: Duration? = nil, writes: Bool = true
    ) -> Attempts {
        Attempts(
            backoff: Backoff(initial: .milliseconds(100), max: .seconds(1)), budget: budget,
            deadline: deadline.map { start + TimeAmount(clamping: $0) }, writes: writes, now: start)
    }

    private func failure(_ reason: Reason, isRetryable: Bool = true, mayHaveRun: Bool = false) -> CallFailure {
        CallFailure(error: Sample.error(reason, isRetryable: isRetryable), mayHaveRun: mayHaveRun)
    }

    @Test func backoffDoublesUpToItsBound() {
        let backoff = Backoff(initial: .milliseconds(50), max: .seconds(5), multiplier: 2)
        let bounds = [1, 2, 3, 7, 8, 1_000].map { backoff.bound(afterFailures: $0) }
        #expect(
            bounds == [
                .seconds(0.05), .seconds(0.1), .seconds(0.2), .seconds(3.2), .seconds(5), .seconds(5),
            ])
        #expect(backoff.delay(afterFailures: 3, random: 0) == .zero)
        #expect(backoff.delay(afterFailures: 3, random: 0.5) == .milliseconds(100))
    }

    @Test func waitsLongerEachTime() {
        var attempts = attempts()
        let delays = (0..<3).map { _ in
            attempts.fail(failure(.appendQueueFull), now: start, random: 0.5)
        }
        #expect(
            delays == [
                .retry(after: .milliseconds(50)), .retry(after: .milliseconds(100)), .retry(after: .milliseconds(200)),
            ])
        attempts.succeed(now: start)
        #expect(
            attempts.fail(failure(.appendQueueFull), now: start, random: 0.5) == .retry(after: .milliseconds(50)))
    }

    @Test func theConnectionWaitsForItself() {
        var attempts = attempts()
        let failure = CallFailure(error: Sample.error(.connectionLost), isConnecting: true)
        #expect(attempts.fail(failure, now: start, random: 0.9) == .retry(after: .zero))
    }

    @Test func aDefiniteAnswerIsFinal() {
        var attempts = attempts()
        _ = attempts.fail(failure(.connectionLost, mayHaveRun: true), now: start, random: 0)
        let conflict = failure(.versionConflict, isRetryable: false)
        #expect(attempts.fail(conflict, now: start, random: 0) == .giveUp(conflict.error))
    }

    @Test func theBudgetEndsIt() {
        var attempts = attempts(budget: .seconds(10))
        let late = start + .seconds(10)
        let refused = failure(.appendQueueFull)
        #expect(attempts.fail(refused, now: late, random: 0) == .giveUp(refused.error))
        var forever = self.attempts(budget: nil)
        #expect(forever.fail(refused, now: start + .hours(9_000), random: 0) == .retry(after: .zero))
    }

    @Test func anAppendThatMayBeStoredSaysSo() {
        for (writes, expected) in [(true, Reason.outcomeUnknown), (false, .storageUnavailable)] {
            var attempts = attempts(writes: writes)
            _ = attempts.fail(failure(.connectionLost, mayHaveRun: true), now: start, random: 0)
            guard
                case .giveUp(let error) = attempts.fail(
                    failure(.storageUnavailable), now: start + .seconds(10), random: 0)
            else {
                Issue.record("it goes on")
                return
            }
            #expect(error.reason == expected)
            #expect(error.isRetryable)
        }
    }

    @Test func theDeadlineEndsIt() {
        var attempts = attempts(deadline: .seconds(1))
        guard case .giveUp(let error) = attempts.fail(failure(.appendQueueFull), now: start + .seconds(1), random: 0)
        else {
            Issue.record("it goes on")
            return
        }
        #expect(error.reason == .deadlineExceeded)
        // No wait that would end after the deadline.
        var close = self.attempts(deadline: .milliseconds(40))
        let refused = failure(.appendQueueFull)
        #expect(close.fail(refused, now: start, random: 0.5) == .giveUp(refused.error))
    }
}
