import MartletModel
import MartletStorage
import MartletSubscriptions
import NIOCore
import Testing

@Suite struct SubscriptionMachineTests {
    private let tenant = Sample.tenant(1)
    private let start = NIODeadline.uptimeNanoseconds(1_000_000_000)

    private func head(_ position: UInt64) -> TenantHead {
        TenantHead(position: Position(position), recordedAt: Timestamp(microseconds: Int64(position)))
    }

    private func machine(
        after: UInt64 = 0, head: UInt64 = 0, credit: UInt64 = 1_000, filter: EventFilter = .all
    ) -> SubscriptionMachine {
        var limits = Limits()
        limits.pageBytesMax = 500
        limits.pageScanEventsMax = 100
        limits.heartbeatMillis = 5_000
        let request = SubscribeRequest(tenant: tenant, filter: filter)
        return SubscriptionMachine(
            start: ResolvedStart(after: Position(after), head: self.head(head)), creditBytes: credit,
            settings: SubscriptionMachine.Settings(request: request, limits: limits), now: start)
    }

    private func page(_ count: Int, bytes: Int, last: UInt64?, scannedTo: UInt64, isLast: Bool = false) -> EventPage {
        EventPage(
            entries: ByteBuffer(repeating: 1, count: bytes), count: count, lastPosition: last.map { Position($0) },
            scannedTo: Position(scannedTo), isLast: isLast)
    }

    private func signal(_ signal: SubscriptionMessage.Signal, head: UInt64) -> SubscriptionMachine.Action {
        .send(SubscriptionMessage(head: self.head(head), signal: signal))
    }

    private func events(_ count: Int, bytes: Int, head: UInt64) -> SubscriptionMachine.Action {
        .send(
            SubscriptionMessage(
                entries: ByteBuffer(repeating: 1, count: bytes), count: count, head: self.head(head)))
    }

    private let filter = Sample.filters[2]
    private let failure = MartletError(.unavailable, reason: .storageUnavailable, message: "gone", isRetryable: true)

    @Test func anEmptyTenantIsLiveAtOnce() {
        var machine = machine()
        #expect(machine.next(now: start) == signal(.started(after: .start), head: 0))
        #expect(machine.next(now: start) == .pull(after: .start, bytesMax: 500))
        #expect(machine.next(now: start) == .pull(after: .start, bytesMax: 500), "asking again changes nothing")
        machine.pulled(.atHead(.empty))
        #expect(machine.next(now: start) == signal(.caughtUp(.start), head: 0))
        #expect(machine.next(now: start) == .arm(after: .start))
        #expect(machine.next(now: start) == .rest)
    }

    /// What is to follow is not there: the past may have changed, which is found soon; if it has not, the subscription does
    /// not stand still for ever.
    @Test func eventsThatAreMissingAreWaitedForAWhile() {
        var machine = machine(after: 5, head: 9)
        var (now, reads) = (start, 0)
        var end: MartletError?
        while end == nil, now - start < .seconds(60) {
            switch machine.next(now: now) {
            case .pull: machine.pulled(.inStorage(to: Position(9), head: head(9), isBehind: false))
            case .read:
                machine.pageRead(page(0, bytes: 0, last: nil, scannedTo: 5, isLast: true), head: head(9), now: now)
                reads += 1
            case .end(let error): end = error
            case .rest: now = now + .milliseconds(100)
            case .send, .arm: continue
            }
        }
        #expect(
            now - start >= .seconds(10) && now - start < .seconds(16) && reads > 5, "\(now - start), \(reads) reads")
        #expect(end?.reason == .storageCorrupted && end?.isRetryable == false)
    }

    /// It may have come when the limits were larger. No credit would help: a client takes no such frame.
    @Test func anEventThatNoFrameHoldsEndsTheSubscription() {
        let room = Limits().frameBytesMax - Limits.frameEnvelopeBytes
        for (credit, bytes) in [(UInt64.max, room + 1), (1_000, room + 1), (.max, room)] {
            var machine = machine(after: 2, head: 9, credit: credit)
            #expect(machine.next(now: start) == signal(.started(after: Position(2)), head: 9))
            #expect(machine.next(now: start) == .pull(after: Position(2), bytesMax: 500))
            machine.pulled(.page(page(1, bytes: bytes, last: 3, scannedTo: 3), head: head(9)))
            guard bytes > room else {
                #expect(machine.next(now: start) == events(1, bytes: bytes, head: 9))
                continue
            }
            guard case .end(let error) = machine.next(now: start) else {
                Issue.record("the subscription goes on")
                return
            }
            #expect(error.reason == .limitExceeded && !error.isRetryable)
            #expect(error.message.contains("the event at position 3"))
        }
    }

    @Test func goesFromStorageToTheTailToLive() {
        var machine = machine(after: 2, head: 9)
        #expect(machine.next(now: start) == signal(.started(after: Position(2)), head: 9))
        #expect(machine.next(now: start) == .pull(after: Position(2), bytesMax: 500))
        machine.pulled(.inStorage(to: Position(7), head: head(9), isBehind: true))
        let range = PageRange(after: Position(2), to: Position(7))
        #expect(machine.next(now: start) == .read(range, bytesMax: 500))
        #expect(machine.next(now: start) == .rest)
        machine.pageRead(page(5, bytes: 300, last: 7, scannedTo: 7), head: head(10), now: start)
        #expect(machine.next(now: start) == events(5, bytes: 300, head: 10))
        #expect(machine.next(now: start) == .pull(after: Position(7), bytesMax: 500))
        machine.pulled(.page(page(3, bytes: 90, last: 10, scannedTo: 10), head: head(10)))
        #expect(machine.next(now: start) == events(3, bytes: 90, head: 10))
        #expect(machine.next(now: start) == signal(.caughtUp(Position(10)), head: 10))
        #expect(machine.next(now: start) == .arm(after: Position(10)), "the page reached the head")
        machine.woken()
        #expect(machine.next(now: start) == .pull(after: Position(10), bytesMax: 500))
    }

    /// A machine that is live at a position.
    private func live(at position: UInt64, credit: UInt64 = 1_000, filter: EventFilter = .all) -> SubscriptionMachine {
        var machine = machine(after: position, head: position, credit: credit, filter: filter)
        _ = machine.next(now: start)
        _ = machine.next(now: start)
        machine.pulled(.atHead(head(position)))
        #expect(machine.next(now: start) == signal(.caughtUp(Position(position)), head: position))
        #expect(machine.next(now: start) == .arm(after: Position(position)))
        return machine
    }

    @Test func tellsWhenItFellBehind() {
        var machine = live(at: 4)
        machine.woken()
        _ = machine.next(now: start)
        machine.pulled(.inStorage(to: Position(8), head: head(8), isBehind: true))
        #expect(machine.next(now: start) == signal(.fellBehind(Position(4)), head: 8))
        #expect(machine.next(now: start) == .read(PageRange(after: Position(4), to: Position(8)), bytesMax: 500))
        machine.pageRead(page(4, bytes: 40, last: 8, scannedTo: 8), head: head(8), now: start)
        #expect(machine.next(now: start) == events(4, bytes: 40, head: 8))
        _ = machine.next(now: start)
        machine.pulled(.atHead(head(8)))
        #expect(machine.next(now: start) == signal(.caughtUp(Position(8)), head: 8))
    }

    @Test func whatAnotherServerCommittedIsNoFallingBehind() {
        var machine = live(at: 4)
        machine.woken()
        _ = machine.next(now: start)
        machine.pulled(.inStorage(to: Position(5), head: head(5), isBehind: false))
        #expect(machine.next(now: start) == .read(PageRange(after: Position(4), to: Position(5)), bytesMax: 500))
        machine.pageRead(page(1, bytes: 40, last: 5, scannedTo: 5), head: head(5), now: start)
        #expect(machine.next(now: start) == events(1, bytes: 40, head: 5))
        _ = machine.next(now: start)
        machine.pulled(.atHead(head(5)))
        #expect(machine.next(now: start) == .arm(after: Position(5)))
    }

    @Test func asksForNoMoreThanTheCreditAllows() {
        var machine = live(at: 0, credit: 120)
        machine.woken()
        #expect(machine.next(now: start) == .pull(after: .start, bytesMax: 120))
        machine.pulled(.page(page(2, bytes: 100, last: 2, scannedTo: 2), head: head(3)))
        #expect(machine.next(now: start) == events(2, bytes: 100, head: 3))
        #expect(machine.next(now: start) == .pull(after: Position(2), bytesMax: 20))
        machine.pulled(.page(page(1, bytes: 50, last: 3, scannedTo: 3), head: head(3)))
        #expect(machine.next(now: start) == .rest, "50 bytes do not fit into 20 of credit")
        let silence = start + .seconds(5)
        #expect(machine.deadline == silence)
        #expect(
            machine.next(now: silence) == signal(.heartbeat(Position(2), waitingForCreditBytes: 50), head: 3))
        machine.creditAdded(29)
        #expect(machine.next(now: silence) == .rest)
        machine.creditAdded(1)
        #expect(machine.next(now: silence) == .pull(after: Position(2), bytesMax: 50))
        machine.pulled(.page(page(1, bytes: 50, last: 3, scannedTo: 3), head: head(3)))
        #expect(machine.next(now: silence) == events(1, bytes: 50, head: 3))
        #expect(machine.next(now: silence) == .arm(after: Position(3)))
        machine.woken()
        #expect(machine.next(now: silence) == .pull(after: Position(3), bytesMax: 1), "the size of the next is asked")
    }

    @Test func creditDoesNotOverflow() {
        var machine = live(at: 0, credit: .max)
        machine.creditAdded(.max)
        machine.woken()
        #expect(machine.next(now: start) == .pull(after: .start, bytesMax: 500))
    }

    @Test func aFilteredOversizedEventStillMovesThePosition() {
        var machine = live(at: 0, credit: 10, filter: filter)
        machine.woken()
        _ = machine.next(now: start)
        machine.pulled(.page(page(1, bytes: 50, last: 9, scannedTo: 9), head: head(9)))
        #expect(machine.next(now: start) == signal(.heartbeat(Position(8), waitingForCreditBytes: 50), head: 9))
        #expect(machine.next(now: start) == .rest)
        #expect(machine.deadline == start + .seconds(5), "the heartbeat has told the position")
        machine.creditAdded(100)
        #expect(machine.next(now: start) == .pull(after: Position(8), bytesMax: 110))
    }

    @Test func anEventLargerThanAllCreditSoFarIsToldOfAtOnceAndOnlyOnce() {
        var machine = live(at: 0, credit: 40)
        machine.woken()
        _ = machine.next(now: start)
        let larger = page(1, bytes: 50, last: 1, scannedTo: 1)
        machine.pulled(.page(larger, head: head(2)))
        #expect(machine.next(now: start) == signal(.heartbeat(.start, waitingForCreditBytes: 50), head: 2))
        #expect(machine.next(now: start) == .rest)
        machine.creditAdded(10)
        #expect(machine.next(now: start) == .pull(after: .start, bytesMax: 50))
        machine.pulled(.page(larger, head: head(2)))
        #expect(machine.next(now: start) == events(1, bytes: 50, head: 2))
        _ = machine.next(now: start)
        machine.pulled(.page(page(1, bytes: 50, last: 2, scannedTo: 2), head: head(2)))
        #expect(machine.next(now: start) == .rest, "a subscriber that had 50 bytes of credit gives them back by itself")
        machine.creditAdded(50)
        #expect(machine.next(now: start) == .pull(after: Position(1), bytesMax: 50))
    }

    @Test func checkpointsTellWhatNothingElseDoes() {
        var machine = live(at: 0, filter: filter)
        machine.woken()
        _ = machine.next(now: start)
        machine.pulled(.page(page(0, bytes: 0, last: nil, scannedTo: 100), head: head(210)))
        #expect(machine.next(now: start) == signal(.checkpoint(Position(100)), head: 210))
        _ = machine.next(now: start)
        machine.pulled(.page(page(1, bytes: 10, last: 150, scannedTo: 199), head: head(210)))
        #expect(machine.next(now: start) == events(1, bytes: 10, head: 210))
        _ = machine.next(now: start)
        machine.pulled(.page(page(0, bytes: 0, last: nil, scannedTo: 210), head: head(210)))
        #expect(machine.next(now: start) == .arm(after: Position(210)), "60 are too few for one")
        #expect(machine.deadline == start + .seconds(1))
        #expect(machine.next(now: start + .milliseconds(999)) == .rest)
        #expect(machine.next(now: start + .seconds(1)) == signal(.checkpoint(Position(210)), head: 210))
        #expect(machine.next(now: start + .seconds(1)) == .rest)
        #expect(machine.deadline == start + .seconds(6))
    }

    @Test func caughtUpTellsThePositionSoThatACheckpointNeedNot() {
        var machine = machine(head: 150, filter: filter)
        _ = machine.next(now: start)
        _ = machine.next(now: start)
        machine.pulled(.page(page(0, bytes: 0, last: nil, scannedTo: 150), head: head(150)))
        #expect(machine.next(now: start) == signal(.caughtUp(Position(150)), head: 150))
        #expect(machine.next(now: start) == .arm(after: Position(150)))
    }

    @Test func beatsWhenNothingElseIsSent() {
        var machine = live(at: 3)
        var now = start
        for _ in 0..<3 {
            #expect(machine.next(now: now) == .rest)
            #expect(machine.deadline == now + .seconds(5))
            now = now + .seconds(5)
            #expect(machine.next(now: now) == signal(.heartbeat(Position(3), waitingForCreditBytes: 0), head: 3))
        }
    }

    @Test func waitsStorageOut() {
        var machine = machine(head: 5)
        var now = start
        _ = machine.next(now: now)
        for delay in [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] as [Int64] {
            #expect(machine.next(now: now) == .pull(after: .start, bytesMax: 500))
            machine.pulled(.inStorage(to: Position(5), head: head(5), isBehind: false))
            #expect(machine.next(now: now) == .read(PageRange(after: .start, to: Position(5)), bytesMax: 500))
            machine.readFailed(failure, now: now)
            let due = now + .milliseconds(delay)
            #expect(machine.deadline <= due)
            while case .send(let message) = machine.next(now: due - .nanoseconds(1)) {
                #expect(message.count == 0, "a heartbeat")
            }
            #expect(machine.next(now: due - .nanoseconds(1)) == .rest)
            now = due
        }
        #expect(machine.next(now: now) == .pull(after: .start, bytesMax: 500))
        machine.pulled(.inStorage(to: Position(5), head: head(5), isBehind: false))
        _ = machine.next(now: now)
        machine.pageRead(page(5, bytes: 5, last: 5, scannedTo: 5), head: head(5), now: now)
        #expect(machine.next(now: now) == events(5, bytes: 5, head: 5))
    }

    @Test func endsWhereWaitingDoesNotHelp() {
        var machine = machine(head: 5)
        let error = MartletError(.dataLoss, reason: .storageCorrupted, message: "damaged")
        _ = machine.next(now: start)
        _ = machine.next(now: start)
        machine.pulled(.inStorage(to: Position(5), head: head(5), isBehind: false))
        _ = machine.next(now: start)
        machine.readFailed(error, now: start)
        #expect(machine.next(now: start) == .end(error))
        machine.creditAdded(5)
        machine.woken()
        #expect(machine.next(now: start + .hours(1)) == .rest)
    }

    @Test(
        arguments: [
            // Unfiltered: events 1...5 are asked for.
            (false, 4, 5, 5), (false, 6, 5, 5), (false, 0, nil, 5),
            // Filtered: more events than positions, a last one that is outside.
            (true, 6, 5, 5), (true, 1, 6, 5), (true, 1, 0, 5), (true, 1, nil, 5),
        ] as [(Bool, Int, UInt64?, UInt64)])
    func aPageWithAGapEndsTheSubscription(isFiltered: Bool, count: Int, last: UInt64?, scannedTo: UInt64) {
        var machine = machine(head: 5, filter: isFiltered ? filter : .all)
        _ = machine.next(now: start)
        _ = machine.next(now: start)
        machine.pulled(.inStorage(to: Position(5), head: head(5), isBehind: false))
        _ = machine.next(now: start)
        machine.pageRead(page(count, bytes: 5, last: last, scannedTo: scannedTo), head: head(5), now: start)
        guard case .end(let error) = machine.next(now: start) else { Issue.record("went on"); return }
        #expect(error.reason == .storageCorrupted && error.code == .dataLoss)
    }

    @Test func aPageThatGetsNowhereIsAskedForAgainLater() {
        var machine = machine(after: 3, head: 5)
        _ = machine.next(now: start)
        _ = machine.next(now: start)
        machine.pulled(.inStorage(to: Position(5), head: head(5), isBehind: false))
        _ = machine.next(now: start)
        machine.pageRead(page(0, bytes: 0, last: nil, scannedTo: 3, isLast: true), head: head(5), now: start)
        #expect(machine.next(now: start) == .rest)
        #expect(machine.next(now: start + .milliseconds(100)) == .pull(after: Position(3), bytesMax: 500))
    }
}
