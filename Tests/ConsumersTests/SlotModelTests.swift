import FoundationEssentials
import MartletConsumers
import MartletModel
import MartletTesting
import NIOCore
import Testing

/// A slot through random days: workers that acknowledge in any order, fail, fall silent and crash; changes that are lost;
/// keys that operators retry and skip. What was handled is held against the rules at each step.
@Suite struct SlotModelTests {
    @Test(arguments: 0..<TestRounds.count(80, long: 1_000))
    func everyKeyIsHandledInOrderAndWhole(_ round: Int) throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        var world = World(seed: seed)
        for _ in 0..<400 { try world.step() }
        try world.finish()
    }

    /// Each event is reacted to once, by an append that settles it in what is stored before the machine hears of it.
    @Test(arguments: 0..<TestRounds.count(80, long: 1_000))
    func everyEventIsReactedToOnce(_ round: Int) throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        var world = World(seed: seed, reacts: true)
        for _ in 0..<400 { try world.step() }
        try world.finish()
    }

    /// The rules find what they are for.
    @Test(arguments: World.Bug.allCases)
    func aPlantedBugIsFound(_ bug: World.Bug) {
        let isFound = (0..<200).contains { seed in
            var world = World(seed: UInt64(seed), bug: bug)
            do {
                for _ in 0..<400 { try world.step() }
                try world.finish()
                return false
            } catch { return true }
        }
        #expect(isFound, "no rule noticed \(bug)")
    }
}

/// A log, what is stored of a slot, its machine, and a worker.
struct World: ~Copyable {
    enum Bug: CaseIterable {
        /// A crash loses what blocks keys.
        case blockedKeysAreForgotten
        /// The floor is stored one event too far.
        case theFloorRunsAhead
        /// Reading by key leaves an event out.
        case aPassedOverEventIsLost
        /// A blocked key's later event is delivered.
        case aKeyIsTakenForFree
    }

    struct Broken: Error, CustomStringConvertible { let description: String }

    private var random: SeededGenerator
    private let bug: Bug?
    /// The worker reacts by appends, to one event after the other as they were delivered.
    private let reacts: Bool
    private var log: [SlotMachine.Event] = []
    private var stored = SlotProgress()
    private var epoch: UInt64 = 1
    private var machine: SlotMachine
    private var saving: SlotChange?
    private var seconds: Int64 = 0
    /// With the worker, and not answered.
    private var held: [SlotMachine.Delivery] = []
    private var settled: Set<UInt64> = []
    /// Positions that some worker has got.
    private var delivered: Set<UInt64> = []
    /// Left out for an operator.
    private var skipped: Set<UInt64> = []
    /// Of keys that the worker has rejected: later events are passed over until that one comes again.
    private var failed: [ConsumerKey: Position] = [:]
    /// The worker has rejected an event, and goes on when the floor that it hears of has come there.
    private var waitsFor: Position?
    /// The last floor that the worker was told of.
    private var committed = Checkpoint.start

    init(seed: UInt64, bug: Bug? = nil, reacts: Bool = false) {
        random = SeededGenerator(seed: seed)
        self.bug = bug
        self.reacts = reacts
        machine = SlotMachine(epoch: 1, progress: SlotProgress(), repeatedTo: .start, settings: Self.settings)
    }

    private static var settings: SlotSettings {
        var settings = SlotSettings()
        settings.windowEventsMax = 24
        settings.inFlightMax = 10
        settings.blockedKeysMax = 4
        settings.retriedKeysMax = 2
        settings.triesMax = 3
        return settings
    }

    private var now: SlotMachine.Moment {
        SlotMachine.Moment(
            uptime: .uptimeNanoseconds(UInt64(seconds + 1) * 1_000_000_000),
            time: Timestamp(microseconds: seconds * 1_000_000))
    }

    private func check(_ isSo: Bool, _ what: @autoclosure () -> String) throws {
        if !isSo { throw Broken(description: "\(what()), seed \(random.seed)") }
    }

    mutating func step() throws {
        switch Int.random(in: 0..<20, using: &random) {
        case 0..<4: append()
        case 4..<8: read()
        case 8..<11: try deliver()
        case 11..<14 where reacts: try react()
        case 14 where reacts: for _ in 0..<8 { try react() }
        case 15 where reacts: rejectFirst()
        case 11..<14: try acknowledge(isCumulative: false)
        case 14: try acknowledge(isCumulative: true)
        case 15: reject()
        case 16:
            seconds += Int64.random(in: 0...3, using: &random)
            machine.tick(now: now)
        case 17: save(isLost: Int.random(in: 0..<4, using: &random) == 0)
        case 18: ask()
        default: if Int.random(in: 0..<8, using: &random) == 0 { crash() }
        }
        if machine.stop != nil { crash() }
        try checkFloor()
    }

    /// All that is blocked is tried until it is handled.
    mutating func finish() throws {
        for _ in 0..<20_000 {
            let progress = machine.progress
            if progress.floor.position.rawValue == log.count, progress.blocked.isEmpty { break }
            if machine.progress.blocked.values.contains(where: { $0.until == .asked }) {
                save(isLost: false)
                for key in stored.blocked.keys { unblock(key, isSkipped: false) }
            }
            if machine.stop != nil { crash() }
            read()
            try deliver()
            while reacts, !held.isEmpty, waitsFor == nil { try react() }
            // In order, so that nothing is left out.
            for delivery in held where !reacts {
                try handle(delivery) { machine, number in machine.acknowledge(number) }
            }
            if !reacts { held = [] }
            save(isLost: false)
            machine.tick(now: now)
            seconds += 1
            try checkFloor()
        }
        try check(settled.count == log.count, "\(log.count - settled.count) of \(log.count) events were never handled")
        try check(machine.progress.blocked.isEmpty, "keys are blocked without an end")
        try check(machine.progress.floor.position == Position(UInt64(log.count)), "the floor does not reach the head")
    }

    private mutating func append() {
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            let position = UInt64(log.count + 1)
            log.append(
                SlotMachine.Event(
                    place: Checkpoint(position: Position(position), eventID: UUID(high: 1, low: position)),
                    key: ConsumerKey(bytes: [UInt8.random(in: 0..<7, using: &random)])))
        }
    }

    private func events(after: Position, to: Int) -> [SlotMachine.Event] {
        Array(log[min(Int(after.rawValue), to)..<to])
    }

    private mutating func read() {
        if let after = machine.wantsEvents {
            let to = min(log.count, Int(after.rawValue) + Int.random(in: 1...6, using: &random))
            let some = events(after: after, to: to)
            if let last = some.last {
                var taken = some
                if bug == .aKeyIsTakenForFree {
                    taken = some.map { event in
                        machine.progress.blocked[event.key] == nil
                            ? event : SlotMachine.Event(place: event.place, key: ConsumerKey(bytes: [99]))
                    }
                }
                machine.take(taken, scannedTo: last.place)
            }
        }
        if let range = machine.wantsKey {
            let to = min(Int(range.to.rawValue), Int(range.after.rawValue) + Int.random(in: 1...9, using: &random))
            var some = events(after: range.after, to: to).filter { $0.key == range.key }
            if bug == .aPassedOverEventIsLost, some.count > 1 { some.removeFirst() }
            machine.take(some, of: range, scannedTo: Position(UInt64(to)))
        }
    }

    private mutating func deliver() throws {
        for delivery in machine.deliveries(now: now) {
            try check(
                !skipped.contains(delivery.event.place.position.rawValue),
                "\(delivery.event.place.position) came though it was skipped")
            // An earlier event of its key is settled, or with the worker.
            let earlier = log.prefix(Int(delivery.event.place.position.rawValue) - 1)
            let key = log[Int(delivery.event.place.position.rawValue) - 1].key
            for event in earlier where event.key == key && !settled.contains(event.place.position.rawValue) {
                try check(
                    held.contains { $0.event.place == event.place },
                    "\(delivery.event.place.position) came before \(event.place.position) of its key")
            }
            let isNew = delivered.insert(delivery.event.place.position.rawValue).inserted
            try check(
                isNew || delivery.mayBeRepeated, "\(delivery.event.place.position) came again, unmarked")
            held.append(delivery)
        }
        try check(machine.underWayCount <= Self.settings.inFlightMax, "\(machine.underWayCount) under way")
    }

    /// What a worker does with a delivery: in the order of its key, and not what was taken back.
    private mutating func handle(
        _ delivery: SlotMachine.Delivery, _ answer: (inout SlotMachine, UInt64) -> SlotMachine.Answer
    ) throws {
        switch answer(&machine, delivery.number) {
        case .taken: settled.insert(delivery.event.place.position.rawValue)
        case .late: break
        case .neverDelivered: try check(false, "delivery \(delivery.number) is not known")
        }
    }

    private mutating func acknowledge(isCumulative: Bool) throws {
        guard !held.isEmpty else { return }
        let index = Int.random(in: 0..<held.count, using: &random)
        guard isCumulative else {
            // The first of its key, as a worker handles them.
            let key = held[index].event.key
            guard let first = held.firstIndex(where: { $0.event.key == key }) else { return }
            return try handle(held.remove(at: first)) { machine, number in machine.acknowledge(number) }
        }
        let number = held[index].number
        for delivery in held where delivery.number <= number {
            try handle(delivery) { machine, number in machine.acknowledge(number) }
        }
        held.removeAll { $0.number <= number }
    }

    private mutating func reject() {
        guard let delivery = held.randomElement(using: &random) else { return }
        let how: SlotMachine.Rejection
        switch Int.random(in: 0..<8, using: &random) {
        case 0: how = .stop
        case 1..<4: how = .park
        default: how = .retry(after: Bool.random(using: &random) ? .seconds(1) : nil)
        }
        _ = machine.reject(delivery.number, how, reason: "as told", now: now)
        // The worker lets go of all of the key.
        held.removeAll { $0.event.key == delivery.event.key }
    }

    private mutating func save(isLost: Bool) {
        guard saving == nil, let change = machine.nextChange() else { return }
        guard !isLost else { return machine.notSaved() }
        let before = stored.floor
        if change.to.position > before.position || !reacts { stored.floor = change.to }
        if bug == .theFloorRunsAhead, Int(change.to.position.rawValue) < log.count {
            stored.floor = log[Int(change.to.position.rawValue)].place
        }
        for (key, blocked) in change.blocked {
            stored.blocked[key] = blocked.map { stored.merged($0, of: key, before: before, change) }
        }
        hear(machine.saved())
    }

    // MARK: A worker that reacts by appends

    private mutating func react() throws {
        guard waitsFor == nil, !held.isEmpty else { return }
        let delivery = held.removeFirst()
        let (place, key) = (delivery.event.place, delivery.event.key)
        if let position = failed[key], place.position > position { return }
        failed[key] = nil
        if var blocked = stored.blocked[key] {
            // Taken back: it comes again.
            guard delivery.isKeyBlocked else { return }
            if blocked.first.position < place.position || (blocked.first == place && !blocked.isFirstHandled) {
                try append(reactionTo: delivery)
                (blocked.first, blocked.isFirstHandled, blocked.tries) = (place, true, 0)
                stored.blocked[key] = blocked
            }
        } else if place.position > stored.floor.position {
            try append(reactionTo: delivery)
        }
        try check(
            settled.contains(place.position.rawValue), "\(place.position) counts as settled, and was not reacted to")
        if place.position > stored.floor.position { stored.floor = place }
        // Some acknowledgements do not arrive before the time is over.
        if Int.random(in: 0..<8, using: &random) > 0 { _ = machine.acknowledge(delivery.number) }
    }

    private mutating func append(reactionTo delivery: SlotMachine.Delivery) throws {
        let position = delivery.event.place.position
        try check(settled.insert(position.rawValue).inserted, "a second reaction to \(position)")
        for event in log.prefix(Int(position.rawValue) - 1) where event.key == delivery.event.key {
            try check(
                settled.contains(event.place.position.rawValue),
                "\(position) was reacted to before \(event.place.position) of its key")
        }
    }

    private mutating func rejectFirst() {
        guard waitsFor == nil, let delivery = held.first else { return }
        let (position, key) = (delivery.event.place.position, delivery.event.key)
        held.removeFirst()
        if let first = failed[key], position > first { return }
        failed[key] = position
        waitsFor = position
        _ = machine.reject(delivery.number, .retry(after: .seconds(1)), reason: "as told", now: now)
        hear(committed)
    }

    private mutating func hear(_ floor: Checkpoint) {
        committed = floor
        if let position = waitsFor, committed.position >= position { waitsFor = nil }
    }

    private mutating func ask() {
        guard let key = stored.blocked.keys.randomElement(using: &random) else { return }
        unblock(key, isSkipped: Int.random(in: 0..<3, using: &random) == 0)
    }

    /// An operator has a key tried again, without its first event where that is skipped: in what is stored, from which the
    /// slot begins again.
    private mutating func unblock(_ key: ConsumerKey, isSkipped: Bool) {
        guard let progress = stored.unblocked(key, isFirstHandled: isSkipped), let blocked = stored.blocked[key] else {
            return
        }
        stored = progress
        if isSkipped, !blocked.isFirstHandled {
            settled.insert(blocked.first.position.rawValue)
            skipped.insert(blocked.first.position.rawValue)
        }
        crash()
    }

    private mutating func crash() {
        epoch += 1
        if bug == .blockedKeysAreForgotten { stored.blocked = [:] }
        machine = SlotMachine(
            epoch: epoch, progress: stored, repeatedTo: Position(UInt64(log.count)), settings: Self.settings)
        (held, failed, waitsFor, committed) = ([], [:], nil, stored.floor)
    }

    /// Below the floor that is stored, all is handled, or of a key that is blocked from there or before.
    private func checkFloor() throws {
        for event in log.prefix(Int(stored.floor.position.rawValue))
        where !settled.contains(event.place.position.rawValue) {
            let first = stored.blocked[event.key]?.first.position
            try check(
                first.map { $0 <= event.place.position } == true,
                "\(event.place.position) is below the floor \(stored.floor.position), and neither handled nor blocked")
        }
    }
}

extension SlotProgress {
    /// What is stored of a blocked key: appends may have settled more of it than the machine knew.
    fileprivate func merged(
        _ new: BlockedKey, of key: ConsumerKey, before floor: Checkpoint, _ change: SlotChange
    ) -> BlockedKey {
        if let old = blocked[key] {
            let isBehind =
                new.first.position < old.first.position || (new.first == old.first && old.isFirstHandled)
            return isBehind && !(new.first == old.first && new.isFirstHandled) ? old : new
        }
        guard new.first.position > change.from.position, new.first.position <= floor.position else { return new }
        var new = new
        (new.first, new.isFirstHandled, new.tries) = (floor, true, 0)
        return new
    }
}
