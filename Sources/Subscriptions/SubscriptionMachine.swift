import DequeModule
public import FoundationEssentials
import MartletDelivery
public import MartletModel
public import MartletStorage
public import NIOCore

/// One subscription, without its I/O: what it sends, and where it gets that from.
///
/// The driver asks ``next(now:)`` what to do until the answer is to rest, and tells the machine what came of it.
/// The machine queues no events: it asks for no more than the credit allows and sends what comes before it asks
/// again. An event that the credit is too small for is let go, and asked for again when there is more.
///
/// Live or not, the same steps follow each other: the tail is asked for what comes after the position; it has
/// it, or says that storage has, or that there is nothing yet. So a hand-over between the two that could lose or
/// repeat something does not exist.
public struct SubscriptionMachine: ~Copyable, Sendable {
    /// What the driver is to do.
    public enum Action: Hashable, Sendable {
        /// Send this, then ask again.
        case send(SubscriptionMessage)
        /// Pull the tail and answer with ``SubscriptionMachine/pulled(_:)``. Asked again without an answer, the
        /// machine says the same. The event at that position has that id; nil where it is not known.
        case pull(after: Position, following: UUID? = nil, bytesMax: Int)
        /// Read storage and answer with ``SubscriptionMachine/pageRead(_:head:now:)`` or
        /// ``SubscriptionMachine/readFailed(_:now:)``; until then rest.
        case read(PageRange<Position>, bytesMax: Int)
        /// Wait for the head to move beyond a position, and call ``SubscriptionMachine/woken()`` when it has.
        case arm(after: Position)
        /// Nothing, until something comes in or the time is ``SubscriptionMachine/deadline``.
        case rest
        /// It is over; said once.
        case end(MartletError)
    }

    /// What a subscription goes by.
    public struct Settings: Hashable, Sendable {
        /// Whether it has a filter.
        public var isFiltered: Bool
        /// At most this many bytes of events per message, or one event if that is larger.
        public var pageBytesMax: Int
        /// What a message has to keep to.
        private(set) var answerSize: AnswerSize
        /// After this many events without a match, a checkpoint is sent at once.
        public var checkpointEvents: UInt64
        /// Silence after which a heartbeat comes.
        public var heartbeat: TimeAmount

        /// The settings of a request.
        public init(request: SubscribeRequest, limits: Limits) {
            isFiltered = !request.filter.isEmpty
            pageBytesMax = limits.pageBytesMax
            answerSize = AnswerSize(limits)
            checkpointEvents = UInt64(clamping: limits.pageScanEventsMax)
            let millis = request.heartbeatMillis.map { max(Int64($0), Int64(limits.heartbeatMillisMin)) }
            heartbeat = .milliseconds(millis ?? Int64(limits.heartbeatMillis))
        }
    }

    private enum Phase {
        /// The tail is to be asked.
        case looking
        /// Storage is to be read, up to there.
        case behind(to: Position)
        /// Storage is being read, or events are on their way through upcasters.
        case reading(PageRange<Position>)
        /// Storage failed and will be tried again.
        case retrying(at: NIODeadline)
        /// The next event needs this many bytes of credit.
        case starved(bytes: UInt64)
        /// Nothing follows: the wake-up is to be armed.
        case atHead
        /// Nothing follows yet.
        case armed
        case failed(MartletError)
        case ended
    }

    private static let checkpointInterval = TimeAmount.seconds(1)
    private static let retryDelayMin = TimeAmount.milliseconds(100)
    private static let retryDelayMax = TimeAmount.seconds(5)
    /// For so long, events that are to follow may not be there: where the past has changed, the feed has found that by then.
    private static let missingMax = TimeAmount.seconds(10)

    private let settings: Settings
    private var phase = Phase.looking
    /// Everything up to and with it was delivered or did not match.
    private(set) var position: Position
    /// Id of the event at ``position``; nil where it is not known.
    private(set) var positionEventID: UUID?
    /// The position that the subscriber knows of.
    private var told: Position
    private var head: TenantHead
    private var creditBytes: UInt64
    /// The most credit that the subscriber ever left here, or was asked for: for an event up to that size more comes
    /// by itself.
    private var roomBytes: UInt64
    private(set) var isLive = false
    /// Another event is at ``position`` than the one that came from there.
    private var isInDoubt = false
    /// A start, a change of upcasters, events, a signal: few, as each is sent before more is asked for.
    private var outbox: Deque<SubscriptionMessage> = []
    private var lastSent: NIODeadline
    private var retryDelay = Self.retryDelayMin
    /// Since when storage has had none of the events that are to follow.
    private var missingSince: NIODeadline?

    /// A subscription at its start.
    public init(start: ResolvedStart, creditBytes: UInt64, settings: Settings, now: NIODeadline) {
        self.settings = settings
        self.creditBytes = creditBytes
        roomBytes = creditBytes
        position = start.after
        positionEventID = start.afterEventID
        told = start.after
        head = start.head
        lastSent = now
        say(.started(after: start.after))
    }

    /// Up to where all has been sent, and the id of the event there as far as it is known; nil while something waits to be sent.
    public var sentTo: Checkpoint? {
        outbox.isEmpty ? Checkpoint(position: position, eventID: positionEventID) : nil
    }

    /// When ``next(now:)`` is to be asked though nothing came in; it holds while the machine rests.
    public var deadline: NIODeadline {
        var deadline = lastSent + settings.heartbeat
        if position > told { deadline = min(deadline, lastSent + Self.checkpointInterval) }
        if case .retrying(let at) = phase { deadline = min(deadline, at) }
        return deadline
    }

    /// What is to be sent at once, whatever the channel takes: the page that was read, and what comes with it. Nil where that
    /// is nothing.
    mutating func message(now: NIODeadline) -> Action? { outbox.popFirst().map { send($0, now: now) } }

    /// What is to be done now, if the channel takes so many bytes of events as one message.
    public mutating func next(now: NIODeadline, roomBytes: Int = .max) -> Action {
        if let message = outbox.popFirst() { return send(message, now: now) }
        let bytesMax = max(1, min(settings.pageBytesMax, roomBytes, Int(clamping: creditBytes)))
        switch phase {
        case .looking: return .pull(after: position, following: positionEventID, bytesMax: bytesMax)
        case .behind(let to):
            let range = PageRange(after: position, to: to)
            phase = .reading(range)
            return .read(range, bytesMax: bytesMax)
        case .atHead:
            phase = .armed
            return .arm(after: position)
        case .retrying(let at) where now >= at:
            phase = .looking
            return .pull(after: position, following: positionEventID, bytesMax: bytesMax)
        case .failed(let error):
            phase = .ended
            return .end(error)
        case .ended: return .rest
        case .reading, .retrying, .starved, .armed:
            if now >= lastSent + settings.heartbeat {
                say(.heartbeat(position, waitingForCreditBytes: missingCredit))
            } else if position > told, now >= lastSent + Self.checkpointInterval {
                say(.checkpoint(position))
            }
            return outbox.popFirst().map { send($0, now: now) } ?? .rest
        }
    }

    /// The tenant's upcasters changed: what is delivered from here on is upcast by the new ones.
    public mutating func upcastersChanged(revision: UInt64) { say(.upcastersChanged(position, revision: revision)) }

    /// The tail has events that take time to be delivered; until
    /// ``pageRead(_:head:now:)``, ``readFailed(_:now:)`` or ``pageDropped()`` the machine rests.
    public mutating func deliveryBegan(to: Position, head: TenantHead) {
        guard case .looking = phase else { return }
        headMoved(to: head)
        phase = .reading(PageRange(after: position, to: to))
    }

    /// The page that was waited for is of no use any more: the machine looks again.
    public mutating func pageDropped() { if case .reading = phase { phase = .looking } }

    /// The subscriber grants more.
    public mutating func creditAdded(_ bytes: UInt64) {
        let (sum, overflow) = creditBytes.addingReportingOverflow(bytes)
        creditBytes = overflow ? .max : sum
        roomBytes = max(roomBytes, creditBytes)
        if case .starved(let needed) = phase, needed <= creditBytes { phase = .looking }
    }

    /// The storage has come back with another past, and nothing changed up to a position: there is nothing to go on from
    /// beyond it.
    mutating func historyChanged(comparable: Position, head: TenantHead) {
        // Where the event at its own position is gone, it does not go on, whatever is comparable.
        let comparable = isInDoubt && position <= comparable ? .start : comparable
        if position > comparable { phase = .failed(.historyChanged(comparableTo: comparable)) }
        self.head = head
    }

    /// The event at its position is not there any more: the machine looks again in a while, when more is known.
    mutating func doubted(now: NIODeadline) {
        isInDoubt = true
        retry(now: now)
    }

    /// What the tail had.
    public mutating func pulled(_ pull: FeedPull) {
        guard case .looking = phase else { return }
        switch pull {
        case .atHead(let head):
            headMoved(to: head)
            phase = .atHead
            becomeLive()
        case .inStorage(let to, let head, let isBehind):
            headMoved(to: head)
            phase = .behind(to: to)
            if isLive, isBehind {
                isLive = false
                say(.fellBehind(position))
            }
        case .historyChanged, .inDoubt: return
        case .page(let page, let head):
            headMoved(to: head)
            if let fault = take(page) {
                phase = .failed(fault)
            } else if position >= head.position {
                // What follows, if anything does by now, is found when the wake-up is armed.
                phase = .atHead
                becomeLive()
            }
            checkpointIfDue()
        }
    }

    /// What storage had, or what became of what the tail had. `head` is the head known now.
    public mutating func pageRead(_ page: EventPage, head: TenantHead, now: NIODeadline) {
        guard case .reading(let range) = phase else { return }
        headMoved(to: head)
        guard page.scannedTo > range.after else {
            // A head that storage does not know (any more): nothing to go by, and nothing to be lost by waiting a while.
            let since = missingSince ?? now
            missingSince = since
            guard now - since < Self.missingMax else { return phase = .failed(missing(from: range.after)) }
            return retry(now: now)
        }
        missingSince = nil
        retryDelay = Self.retryDelayMin
        phase = .looking
        if let fault = take(page) { phase = .failed(fault) }
        checkpointIfDue()
    }

    /// Storage could not be read, or an event not be upcast: what may pass is tried again, ever more slowly, up to each five seconds.
    public mutating func readFailed(_ error: MartletError, now: NIODeadline) {
        guard case .reading = phase else { return }
        if error.isRetryable { retry(now: now) } else { phase = .failed(error) }
    }

    /// The head moved beyond the position that was armed, or had done so before.
    public mutating func woken() {
        if case .armed = phase { phase = .looking }
    }

    /// The head known now; messages carry it.
    public mutating func headMoved(to head: TenantHead) {
        if head.position > self.head.position { self.head = head }
    }

    /// Credit that the next event needs while there is less.
    private var missingCredit: UInt64 {
        if case .starved(let bytes) = phase { bytes } else { 0 }
    }

    private mutating func retry(now: NIODeadline) {
        phase = .retrying(at: now + retryDelay)
        retryDelay = min(retryDelay * 2, Self.retryDelayMax)
    }

    private func missing(from position: Position) -> MartletError {
        MartletError(
            .dataLoss, reason: .storageCorrupted,
            message: "the tenant's head is \(head.position), but the storage has no event after position \(position): "
                + "run martlet doctor --deep")
    }

    private mutating func becomeLive() {
        guard !isLive else { return }
        isLive = true
        say(.caughtUp(position))
    }

    /// Tells a filtered subscriber how far a long search has come.
    private mutating func checkpointIfDue() {
        if position.rawValue - told.rawValue >= settings.checkpointEvents { say(.checkpoint(position)) }
    }

    /// Every signal tells the position.
    private mutating func say(_ signal: SubscriptionMessage.Signal) {
        told = position
        outbox.append(SubscriptionMessage(head: head, signal: signal))
    }

    /// Takes the events that follow the position; called while looking.
    /// - Returns: what is wrong with the page: it would leave a gap or repeat something, or no frame holds it.
    private mutating func take(_ page: EventPage) -> MartletError? {
        let scanned = page.scannedTo.rawValue - min(position.rawValue, page.scannedTo.rawValue)
        let isWhole = settings.isFiltered ? UInt64(page.count) <= scanned : UInt64(page.count) == scanned
        guard isWhole, page.count == 0 || page.lastPosition.map({ $0 > position && $0 <= page.scannedTo }) == true
        else {
            return MartletError(
                .dataLoss, reason: .storageCorrupted,
                message: "a page of \(page.count) events cannot contain everything after position \(position) "
                    + "up to \(page.scannedTo): check the storage")
        }
        // However much credit the subscriber grants: it must not be asked for more.
        let fault = settings.answerSize.fault(ofPageUpTo: page.lastPosition, bytes: page.entries.readableBytes)
        if let fault { return fault }
        let bytes = UInt64(page.entries.readableBytes)
        guard bytes <= creditBytes else {
            // One event, larger than what was asked for: all before it did not match.
            if page.count == 1, let last = page.lastPosition, last != position.next {
                position = Position(last.rawValue - 1)
                positionEventID = nil
            }
            phase = .starved(bytes: bytes)
            if bytes > roomBytes {
                // No credit that the subscriber gives back by itself will do: it must know at once.
                roomBytes = bytes
                say(.heartbeat(position, waitingForCreditBytes: bytes))
            }
            return nil
        }
        if page.count > 0 {
            creditBytes -= bytes
            outbox.append(SubscriptionMessage(entries: page.entries, count: page.count, head: head))
            if let last = page.lastPosition { told = last }
        }
        position = page.scannedTo
        positionEventID = page.endEventID
        return nil
    }

    private mutating func send(_ message: SubscriptionMessage, now: NIODeadline) -> Action {
        lastSent = now
        // What it says of now is said as it is now.
        var message = message
        message.head = head
        if case .heartbeat(let position, _)? = message.signal {
            message.signal = .heartbeat(position, waitingForCreditBytes: missingCredit)
        }
        return .send(message)
    }
}
