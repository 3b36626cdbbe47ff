import DequeModule
import MartletModel
import MartletRecordCodec
import MartletSubscriptions
import MartletTenants
import NIOCore

/// Reads a tenant's events once for workers on one event loop. Used on it.
///
/// Each member goes through the pages at its own pace, and a page stays until all have left it. When a few hold back the
/// others, or are held back by them, these few go on with another reading.
final class SharedReading {
    private struct Page {
        var events: SlottedEntries
        /// What was looked at with it.
        var end: Checkpoint
        var version: UpcastersVersion
        /// Members that have not left it.
        var readerCount: Int
    }

    /// So long, about, a member waits for more while others hold the pages.
    private static let patience = TimeAmount.milliseconds(20)
    /// While much is to be read, what has come is shown after so long at the latest: members do more at once.
    private static let showingDelay = TimeAmount.milliseconds(10)
    /// So many pages are there at most for several members, each of which could hold one.
    private static let pagesMax = 16
    /// So many are there at most, however little they hold.
    private static let pageCountMax = 256
    /// So many members are told in one turn of the event loop.
    private static let tellingMax = 64

    let key: ReadingKey
    private let service: EventService
    private let eventLoop: any EventLoop
    private unowned let readings: ConsumerReadings
    private let owner: FairPool.Holder
    private var driver: SubscriptionDriver?
    private var pages: Deque<Page> = []
    /// The number of the first page.
    private var firstNumber = 0
    /// What follows this position is there, as far as it was read.
    private var after: Position
    /// So far it was read.
    private var end: Position
    private var heldBytes = 0
    private var members: [SlotRun] = []
    private var isEnded = false
    /// Members see pages before this one.
    private var shownEnd = 0
    private var shownBytes = 0
    private var showing: Scheduled<Void>?
    private var splitting: Scheduled<Void>?

    init(
        after position: Position, by key: ReadingKey, _ service: EventService, on eventLoop: any EventLoop,
        among readings: ConsumerReadings
    ) {
        self.key = key
        self.service = service
        self.eventLoop = eventLoop
        self.readings = readings
        owner = .tenant(key.tenant)
        after = position
        end = position
    }

    var memberCount: Int { members.count }

    // MARK: Who takes part

    /// Whether it has what follows a position, read of the past that is in force and delivered as it would be now.
    func covers(_ position: Position) -> Bool {
        guard !isEnded, after <= position, position <= end else { return false }
        guard position < end else { return true }
        guard let (version, isInForce) = driver?.deliversUnder, isInForce else { return false }
        return pages.allSatisfy { $0.version == version }
    }

    /// Takes part from a position on that is covered.
    func join(_ run: SlotRun) {
        run.memberIndex = members.count
        members.append(run)
        var index = 0
        while index < pages.count, pages[index].end.position <= run.position { index += 1 }
        run.pageNumber = firstNumber + index
        for index in index..<pages.count { pages[index].readerCount += 1 }
        if driver == nil { start() } else { read() }
    }

    /// Takes part no longer.
    func leave(_ run: SlotRun) {
        guard members.indices.contains(run.memberIndex), members[run.memberIndex] === run else { return }
        let last = members.removeLast()
        if last !== run {
            last.memberIndex = run.memberIndex
            members[run.memberIndex] = last
        }
        for index in max(0, run.pageNumber - firstNumber)..<pages.count { pages[index].readerCount -= 1 }
        dropPages()
        if members.isEmpty { stop() }
    }

    // MARK: Pages

    /// The events of a page; nil where it is not there yet, or not shown, or its past may be over.
    func events(ofPage number: Int) -> SlottedEntries? {
        let index = number - firstNumber
        guard number < shownEnd, pages.indices.contains(index), let driver else { return nil }
        guard driver.isOfPastInForce else {
            // It looks now, however full it is, and ends if what it has read is no longer there.
            driver.setWritable(true)
            showLater()
            return nil
        }
        return pages[index].events
    }

    /// A member leaves its page.
    /// - Returns: what was looked at with it.
    func leavePage(_ run: SlotRun) -> Checkpoint? {
        let index = run.pageNumber - firstNumber
        guard pages.indices.contains(index) else { return nil }
        let end = pages[index].end
        pages[index].readerCount -= 1
        run.pageNumber += 1
        dropPages()
        return end
    }

    private func dropPages() {
        while let page = pages.first, page.readerCount == 0 {
            pages.removeFirst()
            firstNumber += 1
            after = page.end.position
            heldBytes -= page.events.heldBytes
            if firstNumber <= shownEnd { shownBytes -= page.events.heldBytes }
            service.pools.calls.give(page.events.heldBytes, for: owner)
        }
        if pages.isEmpty { after = end }
        read()
    }

    // MARK: Reading

    private var bytesMax: Int { service.limits.pageBytesMax * min(Self.pagesMax, max(1, members.count)) }

    private var isFull: Bool { heldBytes >= bytesMax || pages.count >= Self.pageCountMax }

    /// Reads on where there is room.
    private func read() { driver?.setWritable(!isFull) }

    private func start() {
        let request = SubscribeRequest(
            tenant: key.tenant, start: .after(after), filter: key.filter, heartbeatMillis: .max,
            upcasting: UpcastingOptions(isRaw: key.isRaw, onFailure: .raw))
        let room = AnswerRoom(
            pool: service.pools.outbound, window: ReadWindow(), tenant: key.tenant, eventLoop: eventLoop)
        let counters = service.counters
        let driver = SubscriptionDriver(
            request: request, creditBytes: .max, eventLoop: eventLoop, hub: service.hub, reads: service.reads,
            room: room, limits: service.limits, onUpcastFailures: { counters.failUpcasts($0) },
            emit: { [weak self] in self?.take($0) }, onEnd: { [weak self] in self?.end($0) })
        self.driver = driver
        driver.start()
    }

    private func take(_ message: SubscriptionMessage) {
        guard let driver, !isEnded else { return }
        let entries = message.entries.withoutLooseMemory()
        var end = driver.sentTo
        if end?.eventID == nil { end = nil }
        guard entries.readableBytes > 0 || end.map({ $0.position > self.end }) == true else {
            // Nothing follows what is not shown yet.
            if showing != nil, driver.isLive { showNow() }
            return
        }
        do throws(RecordFault) {
            let events = try SlottedEntries(entries, by: key.keyRule, slotCount: key.slotCount)
            guard let end = end ?? events.last else { return }
            guard service.pools.calls.take(events.heldBytes, for: owner) else { return self.end(nil) }
            heldBytes += events.heldBytes
            pages.append(
                Page(events: events, end: end, version: driver.deliversUnder.version, readerCount: members.count))
            self.end = end.position
        } catch { return self.end(.unreadableRecord) }
        read()
        show()
    }

    // MARK: What members see

    /// Shows at once what is new; where much more is to be read, half of what may be there at a time.
    private func show() {
        if driver?.isLive == true || isFull || (heldBytes - shownBytes) * 2 >= bytesMax { return showNow() }
        showLater()
    }

    private func showLater() {
        guard showing == nil else { return }
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        showing = eventLoop.scheduleTask(in: Self.showingDelay) { bound.value.showNow() }
    }

    private func showNow() {
        showing?.cancel()
        showing = nil
        guard !isEnded else { return }
        (shownEnd, shownBytes) = (firstNumber + pages.count, heldBytes)
        tell(members[...])
    }

    private func tell(_ told: ArraySlice<SlotRun>) {
        for run in told.prefix(Self.tellingMax) { run.onPage() }
        let rest = told.dropFirst(Self.tellingMax)
        guard !rest.isEmpty else { return }
        let bound = NIOLoopBound((self, rest), eventLoop: eventLoop)
        eventLoop.execute { bound.value.0.tell(bound.value.1) }
    }

    // MARK: Pace

    /// A member has taken all that is there, and waits for more.
    func waits(_ run: SlotRun) {
        guard splitting == nil, isFull, members.count > 1 else { return }
        let bound = NIOLoopBound(self, eventLoop: eventLoop)
        splitting = eventLoop.scheduleTask(in: Self.patience) { bound.value.split() }
    }

    /// Where some members hold the first page, and others wait for more, the fewer of them go on with another reading.
    private func split() {
        splitting = nil
        guard !isEnded, isFull else { return }
        let holding = members.filter { $0.pageNumber == firstNumber }
        let waiting = members.filter { $0.pageNumber == firstNumber + pages.count }
        let going = holding.count <= waiting.count ? holding : waiting
        guard going.count < members.count, let first = going.map(\.position).min() else { return }
        let other = readings.reading(after: first, by: key, service, on: eventLoop, besides: self)
        for run in going { run.goOn(with: other) }
    }

    // MARK: The end

    private func stop() {
        guard !isEnded else { return }
        isEnded = true
        readings.remove(self)
        driver?.cancel()
        driver = nil
        showing?.cancel()
        splitting?.cancel()
        pages = []
        service.pools.calls.give(heldBytes, for: owner)
        heldBytes = 0
    }

    /// It is over, for that reason; nil where there was no room for what came.
    private func end(_ error: MartletError?) {
        guard !isEnded else { return }
        let members = members
        self.members = []
        stop()
        for run in members { run.readingEnded(error) }
    }
}

extension ByteBuffer {
    /// The same bytes, where they are cut out of something more than twice as large: a slice keeps all of that in memory.
    func withoutLooseMemory() -> ByteBuffer {
        storageCapacity > 2 * readableBytes ? ByteBuffer(bytes: readableBytesView) : self
    }
}
