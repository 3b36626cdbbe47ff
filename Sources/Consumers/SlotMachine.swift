import DequeModule
import MartletCollections
public import MartletModel
import NIOCore

/// One slot of a consumer while one worker has it: which of its events are under way, which are settled, which keys are
/// blocked, and what is to be stored of that.
///
/// A pure machine: its owner reads the log and the clock, sends deliveries, brings what the worker answers, and stores
/// changes. A slot that goes to another worker, or to the same one again, gets a new machine from what is stored, under the
/// next epoch.
///
/// What holds at each moment:
///
/// - *Order.* An event is delivered only when all earlier ones of its key are settled, or under way before it.
/// - *Nothing is lost.* The floor is below every event that is neither settled nor of a key that is blocked from that event
///   or an earlier one; a change that moves the floor past a blocked event blocks its key too.
/// - *The floor comes first.* An event of a blocked key is delivered when the floor is at or above it. What a worker settles
///   by itself, in a read model or by an append, then never passes over an event that is still to be delivered.
/// - *One failure stops one key.* Later events of a blocked key are passed over, and are read again by key when it is tried.
public struct SlotMachine: ~Copyable {
    private struct Entry {
        let event: Event
        /// Of its delivery; 0 while it is not under way.
        var number: UInt64 = 0
        var isSettled = false

        init(_ event: Event) { self.event = event }

        /// Whether it is one of that key. Most keys differ in their last bytes.
        func isOf(_ key: ConsumerKey) -> Bool { event.key.bytes.last == key.bytes.last && event.key == key }
    }

    private enum Place {
        /// The entry's number, counted over the machine's life.
        case live(Int)
        case catchUp(ConsumerKey)
    }

    private let epoch: UInt64
    private let settings: SlotSettings
    private let keepsTime: Bool
    /// Events up to here may have been handled before.
    private let repeatedTo: Position

    /// What lies between the floor and the cursor, in position order.
    private var window: Deque<Entry> = []
    /// The number of the window's first entry.
    private var windowStart = 0
    /// The number of the entry that is delivered next, unless it is settled.
    private var nextLive = 0
    /// What the slot's events were read up to.
    private var cursor: Checkpoint
    private var floor: Checkpoint
    /// Those that are blocked. Of others nothing is kept but their events in the window, which are looked through when one
    /// fails.
    private var keys: [ConsumerKey: KeyState] = [:]

    private var lastNumber: UInt64 = 0
    private var underWay = NumberedQueue<Place>()
    /// None below it is under way.
    private var firstUnderWay: UInt64 = 1
    private var timeouts: DeliveryTimeouts

    /// Keys that are being tried, in order.
    private var catchingUp: [ConsumerKey] = []
    private var catchUpUnderWay = 0
    /// No blocked key that is not being tried is due before that by itself; nil where none ever is.
    private var nextDue: Timestamp?
    /// Keys that are blocked, and not stored as blocked. Nothing more is delivered meanwhile: an append that reacts to an event
    /// moves the stored floor, and must not move it over what is passed over of these.
    private var unstoredBlocks: Set<ConsumerKey> = []
    private var stored: Checkpoint
    private var changedKeys: Set<ConsumerKey> = []
    private var saving: SlotChange?
    private var isDraining = false
    /// Something was settled that is not stored: worth a change of its own.
    private var hasSettled = false
    private var counts = Counts()

    /// Why nothing is delivered any more; nil while it is.
    public private(set) var stop: Stop?

    /// The machine of a slot that a worker gets under that epoch.
    /// - Parameters:
    ///   - repeatedTo: what an earlier worker may have got, the head when its lease ended or later.
    ///   - progress: what is stored of the slot.
    ///   - keepsTime: of the worker (``MartletModel/ConsumeRequest/keepsTime``).
    public init(
        epoch: UInt64, progress: SlotProgress, repeatedTo: Position, settings: SlotSettings, keepsTime: Bool = false
    ) {
        self.keepsTime = keepsTime
        self.epoch = epoch
        self.settings = settings
        timeouts = DeliveryTimeouts(settings.acknowledgementTimeout)
        self.repeatedTo = repeatedTo
        floor = progress.floor
        cursor = progress.floor
        stored = progress.floor
        for (key, blocked) in progress.blocked {
            keys[key] = KeyState(blocked: blocked, passedTo: max(progress.floor.position, blocked.first.position))
        }
        nextDue = progress.blocked.values.compactMap(\.due).min()
    }

    // MARK: The log

    /// What the slot's events were read up to.
    public var readTo: Checkpoint { cursor }

    /// Whether one event more would be delivered, or passed over, at once.
    public var hasRoom: Bool {
        wantsEvents != nil && unstoredBlocks.isEmpty && underWay.count < settings.inFlightMax
            && nextLive >= windowStart + window.count
    }

    /// Where the slot's events are to be read on; nil while none are wanted.
    public var wantsEvents: Position? {
        stop == nil && !isDraining && window.count < settings.windowEventsMax ? cursor.position : nil
    }

    /// Takes in what was read after ``wantsEvents``.
    /// - Parameters:
    ///   - events: those of the slot, in position order.
    ///   - scannedTo: what was looked at; events up to it that are not among `events` are not the slot's.
    public mutating func take(_ events: [Event], scannedTo: Checkpoint) {
        for event in events { take(event) }
        cursor = scannedTo
        settle()
    }

    private mutating func take(_ event: Event) {
        var entry = Entry(event)
        if !keys.isEmpty, let state = keys[event.key] {
            // What is stored of a key may be above the floor, and be passed over already.
            keys[event.key]?.passedTo = max(state.passedTo, event.place.position)
            entry.isSettled = true
        }
        window.append(entry)
    }

    /// Takes in the next event, and delivers it at once; nil where it is passed over.
    /// - Precondition: ``hasRoom``.
    public mutating func deliver(next event: Event, now: Moment) -> Delivery? {
        take(event)
        cursor = event.place
        nextLive = windowStart + window.count
        guard !window[window.count - 1].isSettled else {
            settle()
            return nil
        }
        let delivery = deliver(event, 1, at: .live(nextLive - 1), now: now)
        window[window.count - 1].number = delivery.number
        return delivery
    }

    /// Events of a blocked key that are to be read, so that it can be tried; nil while none are.
    public var wantsKey: KeyRange? {
        guard stop == nil, !isDraining else { return nil }
        for key in catchingUp {
            guard let state = keys[key], let catchUp = state.catchUp, catchUp.wantsMore(to: state.passedTo) else {
                continue
            }
            return KeyRange(key: key, after: catchUp.readTo, to: state.passedTo)
        }
        return nil
    }

    /// Takes in what was read of ``wantsKey``; an answer that has come too late changes nothing.
    /// - Parameters:
    ///   - events: those of the key, in position order.
    ///   - scannedTo: what was looked at.
    public mutating func take(_ events: [Event], of range: KeyRange, scannedTo: Position) {
        guard keys[range.key]?.catchUp?.readTo == range.after else { return }
        keys[range.key]?.catchUp?.take(events, readTo: scannedTo)
        advance(range.key)
    }

    /// What is to be read of ``wantsKey`` cannot be: its key is blocked until somebody asks for it.
    public mutating func giveUp(_ range: KeyRange, reason: String) {
        guard let catchUp = keys[range.key]?.catchUp, catchUp.readTo == range.after else { return }
        for number in catchUp.numbersUnderWay { _ = underWay.remove(number) }
        catchUpUnderWay -= catchUp.numbersUnderWay.count
        catchingUp.removeAll { $0 == range.key }
        keys[range.key]?.catchUp = nil
        keys[range.key]?.blocked.until = .asked
        counts.keysParked += 1
        keys[range.key]?.blocked.setReason(reason)
        changedKeys.insert(range.key)
    }

    // MARK: Deliveries

    /// The event that ``retries(now:countMax:)`` delivers next; nil where there is none.
    public var nextRetry: Event? {
        guard stop == nil, !isDraining, unstoredBlocks.isEmpty, underWay.count < settings.inFlightMax,
            catchUpUnderWay < settings.retriedInFlightMax
        else { return nil }
        for key in catchingUp {
            if let (event, _) = keys[key]?.catchUp?.next(upTo: floor.position) { return event }
        }
        return nil
    }

    /// Whether events of the key are being tried again.
    public func isTried(_ key: ConsumerKey) -> Bool { keys[key]?.catchUp != nil }

    /// What is to be sent of keys that are tried again, at most so many.
    public mutating func retries(now: Moment, countMax: Int = .max) -> [Delivery] {
        guard stop == nil, !isDraining, unstoredBlocks.isEmpty else { return [] }
        var deliveries: [Delivery] = []
        for key in catchingUp {
            while deliveries.count < countMax, underWay.count < settings.inFlightMax,
                catchUpUnderWay < settings.retriedInFlightMax,
                let (event, attempt) = keys[key]?.catchUp?.next(upTo: floor.position)
            {
                let delivery = deliver(event, attempt, at: .catchUp(key), now: now)
                keys[key]?.catchUp?.deliver(event, number: delivery.number)
                catchUpUnderWay += 1
                deliveries.append(delivery)
            }
        }
        return deliveries
    }

    /// What is to be sent of events that follow those that were sent before.
    public mutating func live(now: Moment) -> [Delivery] {
        guard stop == nil, !isDraining, unstoredBlocks.isEmpty else { return [] }
        var deliveries: [Delivery] = []
        nextLive = max(nextLive, windowStart)
        while underWay.count < settings.inFlightMax, nextLive < windowStart + window.count {
            let index = nextLive - windowStart
            if !window[index].isSettled {
                let delivery = deliver(window[index].event, 1, at: .live(nextLive), now: now)
                window[index].number = delivery.number
                deliveries.append(delivery)
            }
            nextLive += 1
        }
        return deliveries
    }

    private mutating func deliver(_ event: Event, _ attempt: UInt32, at place: Place, now: Moment) -> Delivery {
        lastNumber += 1
        underWay.append(place, number: lastNumber)
        if !keepsTime { timeouts.add(lastNumber, now: now.uptime) }
        // The worker may have handled it all the same.
        let takenBackTo = if case .catchUp(let key) = place { keys[key]?.repeatedTo ?? .start } else { Position.start }
        return Delivery(
            number: lastNumber, event: event, attempt: attempt,
            mayBeRepeated: attempt > 1 || event.place.position <= max(repeatedTo, takenBackTo),
            isKeyBlocked: isBlocked(event.key))
    }

    /// Whether the key is blocked, or may still be stored as blocked. Nearly always there are no such keys: none is hashed.
    private func isBlocked(_ key: ConsumerKey) -> Bool {
        !keys.isEmpty && keys[key] != nil || !changedKeys.isEmpty && changedKeys.contains(key)
            || saving?.blocked.isEmpty == false && saving?.blocked[key] != nil
    }

    /// The worker has handled a delivery.
    public mutating func acknowledge(_ number: UInt64) -> Answer {
        guard number >= 1, number <= lastNumber else { return .neverDelivered }
        guard let place = underWay.remove(number) else { return .late }
        settle(number, at: place)
        settle()
        return .taken
    }

    /// The worker could not handle a delivery. Deliveries of its key that are under way are taken back: what the worker says
    /// of them comes too late.
    /// - Parameter reason: in the worker's words.
    public mutating func reject(_ number: UInt64, _ rejection: Rejection, reason: String, now: Moment) -> Answer {
        guard number >= 1, number <= lastNumber else { return .neverDelivered }
        guard let place = underWay[number] else { return .late }
        var failed: (event: Event, attempt: UInt32)?
        switch place {
        case .live(let entry): failed = (window[entry - windowStart].event, 1)
        case .catchUp(let key): failed = keys[key]?.catchUp?.delivered(number)
        }
        guard let (event, attempt) = failed else { return .late }
        let isFull = keys[event.key] == nil && keys.count >= settings.blockedKeysMax
        if rejection == .stop || isFull {
            if stop == nil {
                stop = isFull && rejection != .stop ? .blockedKeysFull : .asked(reason: BlockedKey.cut(reason))
            }
            _ = underWay.remove(number)
            if case .catchUp = place { catchUpUnderWay -= 1 }
            return .taken
        }
        block(event.key, failed: event, attempt: attempt, rejection, reason, now)
        settle()
        return .taken
    }

    /// Deals with acknowledgements that have not come in time: such a delivery counts as rejected.
    public mutating func tick(now: Moment) {
        while let last = timeouts.nextDue(now: now.uptime) {
            while firstUnderWay <= last {
                let answer = reject(firstUnderWay, .retry(after: nil), reason: "not acknowledged in time", now: now)
                if answer == .taken { counts.timedOut += 1 }
                firstUnderWay += 1
            }
        }
    }

    // MARK: Blocked keys

    /// Whether any key is blocked.
    public var hasBlockedKeys: Bool { !keys.isEmpty }

    /// Begins to try those keys again whose time has come, as far as there is room: see ``wantsKey``.
    ///
    /// What an operator has retried or skipped is stored as a key whose time has come, and its slot begins again from that
    /// under a higher epoch.
    public mutating func beginRetries(now: Moment) {
        guard stop == nil, !isDraining, catchingUp.count < settings.retriedKeysMax, let nextDue, nextDue <= now.time
        else { return }
        let waiting = keys.compactMap { key, state in
            state.catchUp == nil ? state.blocked.due.map { (key: key, due: $0) } : nil
        }.sorted { $0.due < $1.due }
        let begun = waiting.prefix(settings.retriedKeysMax - catchingUp.count).prefix { $0.due <= now.time }
        for (key, _) in begun { begin(key) }
        self.nextDue = waiting.dropFirst(begun.count).first?.due
    }

    private mutating func begin(_ key: ConsumerKey) {
        guard let blocked = keys[key]?.blocked, keys[key]?.catchUp == nil else { return }
        let first = blocked.first.position
        keys[key]?.catchUp =
            blocked.isFirstHandled
            ? KeyCatchUp(after: first, tries: 0)
            : KeyCatchUp(after: Position(first.rawValue - 1), tries: blocked.tries)
        catchingUp.append(key)
        advance(key)
    }

    /// Blocks a key from its first event that is not settled.
    private mutating func block(
        _ key: ConsumerKey, failed event: Event, attempt: UInt32, _ rejection: Rejection, _ reason: String,
        _ now: Moment
    ) {
        let known = keys[key]
        // What is under way is taken back, and what is behind it is passed over.
        var first = event
        var passedTo = known?.passedTo ?? .start
        var repeatedTo = known?.repeatedTo ?? .start
        if let catchUp = known?.catchUp {
            first = catchUp.firstUnsettled ?? event
            repeatedTo = max(repeatedTo, catchUp.deliveredTo)
            for number in catchUp.numbersUnderWay { _ = underWay.remove(number) }
            catchUpUnderWay -= catchUp.numbersUnderWay.count
            catchingUp.removeAll { $0 == key }
        } else {
            // The earliest is there: the one that failed.
            for index in window.indices.reversed() where window[index].isOf(key) {
                if window[index].number > 0 { repeatedTo = max(repeatedTo, window[index].event.place.position) }
                guard !window[index].isSettled else { continue }
                first = window[index].event
                _ = underWay.remove(window[index].number)
                window[index].isSettled = true
                passedTo = max(passedTo, first.place.position)
            }
        }
        let tries = first == event ? attempt : 1
        let since = known?.blocked.first == first.place ? known?.blocked.since : nil
        let blocked = BlockedKey(
            first: first.place, until: settings.until(rejection, tries: tries, now: now.time), reason: reason,
            tries: tries, since: since ?? now.time)
        keys[key] = KeyState(blocked: blocked, passedTo: passedTo, repeatedTo: repeatedTo)
        if let due = blocked.due { nextDue = min(nextDue ?? due, due) } else { counts.keysParked += 1 }
        if known == nil { unstoredBlocks.insert(key) }
        changedKeys.insert(key)
    }

    // MARK: What is settled

    private mutating func settle(_ number: UInt64, at place: Place) {
        switch place {
        case .live(let entry):
            window[entry - windowStart].isSettled = true
        case .catchUp(let key):
            catchUpUnderWay -= 1
            keys[key]?.catchUp?.settle(number)
            advance(key)
        }
    }

    /// Moves the beginning of a blocked key that is being tried, or ends its being blocked.
    private mutating func advance(_ key: ConsumerKey) {
        guard let state = keys[key], let catchUp = state.catchUp else { return }
        let blocked = state.blocked
        if let first = catchUp.firstUnsettled {
            guard first.place != blocked.first else { return }
            keys[key]?.blocked.first = first.place
            keys[key]?.blocked.isFirstHandled = false
            keys[key]?.blocked.tries = 0
        } else if catchUp.readTo >= state.passedTo, floor.position >= state.passedTo {
            // Where the floor is below, what is handled of the key would come again with the events that follow.
            keys[key] = nil
            catchingUp.removeAll { $0 == key }
            unstoredBlocks.remove(key)
        } else {
            guard let last = catchUp.lastHandled, last != blocked.first || !blocked.isFirstHandled else { return }
            keys[key]?.blocked.first = last
            keys[key]?.blocked.isFirstHandled = true
            keys[key]?.blocked.tries = 0
        }
        changedKeys.insert(key)
    }

    /// Moves the floor to before the first event that is not settled.
    private mutating func settle() {
        while let first = window.first, first.isSettled {
            floor = first.event.place
            window.removeFirst()
            windowStart += 1
            hasSettled = true
        }
        if window.isEmpty { floor = cursor }
        for key in catchingUp { advance(key) }
    }

    // MARK: What is stored

    /// Whether what has changed is to be stored soon. Where the slot only read on, over events of others, that can wait.
    public var isWorthSaving: Bool {
        saving == nil && stop != .fenced && (hasSettled || isDraining || !changedKeys.isEmpty)
    }

    /// How many positions the floor is above the one that is stored, or on its way there.
    public var unsavedPositions: UInt64 { floor.position.rawValue - (saving?.to ?? stored).position.rawValue }

    /// What is to be stored now; nil where nothing has changed, or a change is being stored.
    public mutating func nextChange() -> SlotChange? {
        guard saving == nil, stop != .fenced, floor != stored || !changedKeys.isEmpty else { return nil }
        var blocked: [ConsumerKey: BlockedKey?] = [:]
        for key in changedKeys { blocked[key] = .some(keys[key]?.blocked) }
        let change = SlotChange(epoch: epoch, from: stored, to: floor, blocked: blocked)
        changedKeys = []
        hasSettled = false
        saving = change
        return change
    }

    /// The change is stored.
    /// - Returns: the floor that is stored now.
    public mutating func saved() -> Checkpoint {
        guard let change = saving.take() else { return stored }
        for case (let key, .some(_)) in change.blocked { unstoredBlocks.remove(key) }
        stored = change.to
        return stored
    }

    /// The change is not stored, or nobody knows: it will be part of the next one.
    public mutating func notSaved() {
        guard let change = saving.take() else { return }
        changedKeys.formUnion(change.blocked.keys)
        hasSettled = true
    }

    /// Another epoch is in force: nothing of this machine's counts any more.
    public mutating func fence() {
        stop = .fenced
        saving = nil
        underWay = NumberedQueue()
    }

    /// Delivers nothing more, so that the slot can go to another worker.
    public mutating func drain() { isDraining = true }

    /// Whether nothing is under way any more, and all of it is stored.
    public var isDrained: Bool { underWay.isEmpty && saving == nil && floor == stored && changedKeys.isEmpty }

    // MARK: How it is

    /// What is stored, once all that has happened is.
    public var progress: SlotProgress { SlotProgress(floor: floor, blocked: keys.mapValues(\.blocked)) }

    /// About how many entries it holds: events between its floor and what was read, and keys.
    public var entryCount: Int { window.count + keys.count }

    /// Whether a delivery is under way: neither settled nor taken back.
    public func isUnderWay(_ number: UInt64) -> Bool { underWay[number] != nil }

    /// How many events are under way.
    public var underWayCount: Int { underWay.count }

    /// How many keys are blocked.
    public var blockedKeyCount: Int { keys.count }

    /// What has happened since it was asked last.
    public mutating func takeCounts() -> Counts {
        defer { counts = Counts() }
        return counts
    }

    /// The event that holds the floor back: the oldest that is not settled.
    public var oldest: Event? { window.first?.event }
}
