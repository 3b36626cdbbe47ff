import MartletClient
import MartletModel
import NIOCore

/// One subscriber of a run: checks that positions only rise, without a gap where nothing is filtered out, and tells the
/// board what came when.
struct Subscriber: Sendable {
    /// How it ended.
    enum End: Hashable, Sendable {
        /// It was told to stop.
        case stopped
        /// It has come to where it was to go.
        case reached
        /// Something was not right.
        case failed(String)
    }

    private static let pauseBeforeReconnect = Duration.milliseconds(200)

    let index: Int
    let client: MartletClient
    let request: SubscribeRequest
    let windowBytes: Int
    let board: DeliveryTracker
    /// It is done there; nil: it goes on until it is cancelled.
    var until: UInt64?

    /// Follows the tenant from `start` on.
    func run(from start: Position) async -> End {
        var position = start.rawValue
        var isLive = false
        while true {
            do throws(MartletError) {
                try await follow(&position, &isLive)
                return .reached
            } catch {
                if Task.isCancelled { return .stopped }
                guard error.isRetryable else { return .failed("subscriber \(index) at position \(position): \(error)") }
                board.broke(error.reason)
            }
            do { try await Task.sleep(for: Self.pauseBeforeReconnect) } catch { return .stopped }
        }
    }

    private func follow(_ position: inout UInt64, _ isLive: inout Bool) async throws(MartletError) {
        var request = request
        request.start = .after(Position(position))
        let subscription = try await client.subscribeEncoded(request, windowBytes: windowBytes)
        while true {
            let message = try await subscription.next()
            if message.entries.readableBytes > 0 {
                let now = Moment.now()
                let page = try Self.check(message.entries, after: position, filter: request.filter)
                position = page.last
                board.delivered(page, to: index, at: now)
            }
            switch message.signal {
            case .caughtUp(let passed):
                try pass(passed, &position)
                if !isLive { board.wentLive() }
                isLive = true
            case .checkpoint(let passed), .fellBehind(let passed), .heartbeat(let passed, _):
                try pass(passed, &position)
            case .started, .upcastersChanged, nil: break
            }
            if let until, position >= until { return }
        }
    }

    /// The positions of a delivery.
    /// - Throws: `BAD_ANSWER` where they are not those that must come after `position`.
    static func check(
        _ entries: ByteBuffer, after position: UInt64, filter: EventFilter
    ) throws(MartletError) -> PagePositions {
        guard let page = PagePositions(entries) else {
            throw .badAnswer("a delivery contains bytes that are not events")
        }
        let isNext = filter.isEmpty ? page.first == position + 1 : page.first > position
        guard isNext, page.isAscending, page.isWithoutGap || !filter.isEmpty else {
            throw .badAnswer("positions \(page.first) to \(page.last), \(page.count) events, came after \(position)")
        }
        return page
    }

    /// The server says that there is nothing for this subscriber up to there.
    private func pass(_ passed: Position, _ position: inout UInt64) throws(MartletError) {
        guard passed.rawValue > position else { return }
        guard !request.filter.isEmpty else {
            throw .badAnswer("the server skipped positions \(position + 1) to \(passed)")
        }
        position = passed.rawValue
        board.passed(position, by: index)
    }
}

/// All subscribers of a run.
struct SubscriberFleet: Sendable {
    /// Without a delivery for so long, who still lacks something is given up.
    static let stallSecondsMax = 30.0
    private static let pollInterval = Duration.milliseconds(5)

    let subscribers: [Subscriber]
    let board: DeliveryTracker

    /// Runs `body` while all of them follow the tenant.
    /// - Returns: what `body` returned, and what was not right with subscribers.
    func following<Result: Sendable>(
        from start: Position, _ body: () async throws -> Result
    ) async throws -> (Result, [String]) {
        try await withThrowingTaskGroup(of: Subscriber.End.self) { group in
            for subscriber in subscribers {
                group.addTask(executorPreference: subscriber.client.taskExecutor) {
                    let end = await subscriber.run(from: start)
                    if case .failed = end { board.subscriberFailed() }
                    return end
                }
            }
            defer { group.cancelAll() }
            let result = try await body()
            group.cancelAll()
            var failures: [String] = []
            for try await end in group {
                if case .failed(let why) = end { failures.append(why) }
            }
            return (result, failures.sorted())
        }
    }

    /// Waits until all are live.
    /// - Throws: ``BenchFailure`` where that takes too long.
    func live() async throws {
        let isLive = try await wait { board.liveCount + board.failedCount >= subscribers.count }
        guard isLive, board.failedCount == 0 else {
            throw BenchFailure(
                "\(board.liveCount) of \(subscribers.count) subscribers went live, \(board.failedCount) were refused: "
                    + "check the server's log, or give fewer --subscribers")
        }
    }

    /// Waits while deliveries come until `isDone`.
    /// - Returns: whether it is done.
    func wait(_ isDone: () -> Bool) async throws -> Bool {
        var seen: UInt64 = 0
        var seenAt = Moment.now()
        while !isDone() {
            if board.failedCount == subscribers.count { return false }
            try await Task.sleep(for: Self.pollInterval)
            let now = Moment.now()
            let total = board.deliveredCount + UInt64(board.liveCount)
            if total != seen {
                (seen, seenAt) = (total, now)
            } else if now.seconds(since: seenAt) > Self.stallSecondsMax {
                return false
            }
        }
        return true
    }
}
