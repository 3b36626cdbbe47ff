import MartletClient
public import MartletModel
import NIOConcurrencyHelpers

/// A handler did not return when its task was cancelled. Swift cannot stop it: its transaction stays open, and so keeps its
/// locks, until it returns or the process ends.
public struct StuckHandler: Error, Hashable, CustomStringConvertible {
    /// The tenant whose event it was given.
    public var tenant: TenantID
    /// The event that it was given.
    public var position: Position
    /// The event's key, which is parked.
    public var key: ConsumerKey
    /// The event's slot.
    public var slot: Int
    /// How long it had been at work.
    public var time: Duration

    /// What has happened, and what to do.
    public var description: String {
        """
        the handler of the event at position \(position), key \(key), slot \(slot) of tenant \(tenant), has not returned \
        after \(time.inSeconds), although it was cancelled: the key is parked, and this runner gives up its slots. The handler \
        keeps its transaction open until it returns: end the process
        """
    }
}

/// Looks after the handlers of one runner: cancels those that take too long, and notices those that go on nevertheless.
final class HandlerTimer: Sendable {
    /// A transaction's handlers, one of which may be at work.
    fileprivate struct Work {
        let tenant: TenantID
        var event: ConsumedEvent?
        var since = ContinuousClock.now
        var isOverdue = false
        let cancel: AsyncStream<Never>.Continuation
    }

    private let timeout: Duration
    private let grace: Duration
    private let works = NIOLockedValueBox<(last: Int, open: [Int: Work])>((0, [:]))

    /// A timer that has nothing to look after yet.
    /// - Parameters:
    ///   - timeout: for how long a handler may be at work; taken as 1 ms to 1 day.
    ///   - grace: how long it has, once it is cancelled, to return; the same.
    init(timeout: Duration, grace: Duration) {
        self.timeout = min(.seconds(86_400), max(.milliseconds(1), timeout))
        self.grace = min(.seconds(86_400), max(.milliseconds(1), grace))
    }

    /// Runs the handlers of a transaction, in a task that can be cancelled.
    /// - Parameters:
    ///   - tenant: the tenant whose events they are.
    ///   - body: gets what each handler is to be run by.
    func run<Result: Sendable>(
        of tenant: TenantID, _ body: @escaping @Sendable (HandlerTime) async throws -> Result
    ) async throws -> Result {
        let (isOver, cancel) = AsyncStream<Never>.makeStream()
        let id = works.withLockedValue { works in
            works.last += 1
            works.open[works.last] = Work(tenant: tenant, cancel: cancel)
            return works.last
        }
        defer { works.withLockedValue { _ = $0.open.removeValue(forKey: id) } }
        return try await withThrowingTaskGroup(of: Result?.self) { group in
            defer { group.cancelAll() }
            group.addTask { try await body(HandlerTime(timer: self, id: id)) }
            group.addTask {
                for await _ in isOver {}
                return nil
            }
            while let end = try await group.next() {
                if let end { return end }
                // Too long. What the handler makes of it is still to come.
                group.cancelAll()
            }
            throw CancellationError()
        }
    }

    fileprivate func begin(_ event: ConsumedEvent, _ id: Int) {
        works.withLockedValue { works in
            works.open[id]?.event = event
            works.open[id]?.since = .now
        }
    }

    /// - Throws: ``HandlerFailure`` where it took too long, whatever it has made of being cancelled.
    fileprivate func end(_ id: Int) throws {
        let late = works.withLockedValue { works -> ConsumedEvent? in
            defer { works.open[id]?.event = nil }
            return works.open[id]?.isOverdue == true ? works.open[id]?.event : nil
        }
        guard let late else { return }
        throw HandlerFailure(
            failure: ProjectionFailure(.retry(after: nil), "no answer from the handler within \(timeout.inSeconds)"),
            tooLong: late.event.position)
    }

    /// Looks after the handlers until one of them is stuck, or the task is cancelled.
    /// - Returns: the event whose handler is stuck, whose it is, and for how long the handler has been at work.
    func watch() async throws -> (event: ConsumedEvent, tenant: TenantID, time: Duration) {
        // Often enough for short times; for long ones a second more or less does not matter.
        let pause = min(.seconds(1), max(.milliseconds(1), min(timeout, grace) / 10))
        while true {
            try await Task.sleep(for: pause)
            let now = ContinuousClock.now
            var cancelled: [AsyncStream<Never>.Continuation] = []
            let stuck = works.withLockedValue { works -> (ConsumedEvent, TenantID, Duration)? in
                for (id, work) in works.open {
                    guard let event = work.event else { continue }
                    let time = now - work.since
                    if time >= timeout + grace { return (event, work.tenant, time) }
                    guard time >= timeout, !work.isOverdue else { continue }
                    works.open[id]?.isOverdue = true
                    cancelled.append(work.cancel)
                }
                return nil
            }
            for one in cancelled { one.finish() }
            if let stuck { return stuck }
        }
    }
}

/// What a transaction has its handlers run by, one after the other.
struct HandlerTime: Sendable {
    fileprivate let timer: HandlerTimer
    fileprivate let id: Int

    /// Runs the handler of an event.
    /// - Throws: ``HandlerFailure`` where it took too long; what `handler` throws.
    func handle(_ event: ConsumedEvent, _ handler: () async throws -> Void) async throws {
        timer.begin(event, id)
        do { try await handler() } catch {
            // It may well have failed by being cancelled.
            try timer.end(id)
            throw error
        }
        try timer.end(id)
    }
}

extension Duration {
    /// `30 s`, `0.25 s`.
    fileprivate var inSeconds: String {
        let millis = Int64(self / .milliseconds(1))
        return millis % 1_000 == 0 ? "\(millis / 1_000) s" : "\(Double(millis) / 1_000) s"
    }
}
