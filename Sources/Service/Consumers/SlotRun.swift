import DequeModule
import FoundationEssentials
import MartletModel
import MartletRecordCodec
import MartletSubscriptions
import MartletTenants
import NIOCore

/// Reads a consumer's events once for several slots of a worker. Used on the worker's event loop.
///
/// It reads no further before all of what it has read is taken, so that it holds a page at most.
final class SlotRun {
    /// An event that is to be taken next.
    struct Next {
        var event: KeyedEntry
        var bytes: Int
    }

    private struct Page {
        var entries: ByteBuffer
        /// Those of slots that took part when it was looked through.
        var events: [KeyedEntry]
        /// What was looked at with it, as far as the event there is known.
        var end: Checkpoint?
    }

    private let definition: ConsumerDefinition
    private let handle: CallHandle
    private let tenant: TenantID
    private let owner: FairPool.Holder
    private var driver: SubscriptionDriver?
    private var pages: Deque<Page> = []
    private var index = 0
    private var heldBytes = 0
    /// Up to there everything was taken by all of ``slots``, or is not theirs.
    private(set) var position: Position
    /// Up to there all of ``slots`` have read on; they are told when they need to know.
    private(set) var readTo: Checkpoint?
    /// Since when the next event waits for its slot.
    var waitingSince: NIODeadline?
    /// The slots that take part, by number. Each has taken what is its own up to ``position``, or has read further.
    private(set) var slots: [Int: WorkerSlot] = [:]
    /// Slots have come whose events pages were not looked through for.
    private var hasNewSlots = false
    private let onPage: () -> Void
    private let onEnd: (MartletError?) -> Void

    /// - Parameters:
    ///   - onPage: something came.
    ///   - onEnd: it is over, for that reason, or (nil) because there was no room for what came.
    init(
        after: Position, of tenant: TenantID, _ definition: ConsumerDefinition, _ handle: CallHandle,
        onPage: @escaping () -> Void, onEnd: @escaping (MartletError?) -> Void
    ) {
        position = after
        self.tenant = tenant
        self.definition = definition
        self.handle = handle
        self.onPage = onPage
        self.onEnd = onEnd
        owner = .tenant(tenant)
    }

    func start() {
        let service = handle.service
        let request = SubscribeRequest(
            tenant: tenant, start: .after(position), filter: definition.filter, heartbeatMillis: .max,
            upcasting: UpcastingOptions(isRaw: definition.isRaw, onFailure: .raw))
        let driver = SubscriptionDriver(
            request: request, creditBytes: UInt64(handle.limits.pageBytesMax), eventLoop: handle.eventLoop,
            hub: service.hub, reads: service.reads, room: handle.makeRoom(for: tenant), limits: service.limits,
            onUpcastFailures: { service.counters.failUpcasts($0) }, emit: { [weak self] in self?.take($0) },
            onEnd: { [weak self] error in
                self?.end()
                self?.onEnd(error)
            })
        self.driver = driver
        driver.start()
    }

    /// Ends it; nothing is called any more.
    func end() {
        driver?.cancel()
        driver = nil
        pages = []
        handle.service.pools.calls.give(heldBytes, for: owner)
        heldBytes = 0
    }

    private func take(_ message: SubscriptionMessage) {
        if case .heartbeat(_, let bytes)? = message.signal, bytes > 0 {
            // One event larger than a page.
            driver?.addCredit(bytes)
        }
        var end = driver?.sentTo
        if end?.eventID == nil { end = nil }
        guard message.entries.readableBytes > 0 else {
            guard let end else { return }
            pages.append(Page(entries: ByteBuffer(), events: [], end: end))
            return onPage()
        }
        let entries = message.entries.withoutLooseMemory()
        guard handle.service.pools.calls.take(entries.storageCapacity, for: owner) else {
            self.end()
            return onEnd(nil)
        }
        heldBytes += entries.storageCapacity
        do throws(RecordFault) {
            let (events, last) = try lookThrough(entries)
            pages.append(Page(entries: entries, events: events, end: end ?? last))
        } catch {
            self.end()
            return onEnd(.unreadableRecord)
        }
        onPage()
    }

    private func lookThrough(
        _ entries: ByteBuffer
    ) throws(RecordFault) -> (events: [KeyedEntry], last: Checkpoint?) {
        try RecordedEntries.keyed(
            entries, by: definition.keyRule, in: SlotChoice(slots.keys, of: definition.slotCount))
    }

    // MARK: Who takes part

    /// A slot that has read up to ``position``, or further, takes part in this reading and in no other.
    func join(_ slot: WorkerSlot) {
        slot.leaveRun()
        slots[slot.number] = slot
        slot.run = self
        hasNewSlots = !pages.isEmpty
    }

    /// See ``WorkerSlot/leaveRun()``.
    func leave(_ slot: WorkerSlot) { if slots[slot.number] === slot { slots[slot.number] = nil } }

    // MARK: What was read

    /// The next event; nil where a page ends, or nothing is there.
    var next: Next? {
        if hasNewSlots { lookThroughAgain() }
        guard let page = pages.first, index < page.events.count else { return nil }
        let event = page.events[index]
        return Next(event: event, bytes: event.entry.count)
    }

    private func lookThroughAgain() {
        hasNewSlots = false
        do throws(RecordFault) {
            for number in pages.indices where pages[number].entries.readableBytes > 0 {
                pages[number].events = try lookThrough(pages[number].entries).events
            }
        } catch {
            end()
            return onEnd(.unreadableRecord)
        }
        index = pages.first?.events.firstIndex { $0.position > position } ?? pages.first?.events.count ?? 0
    }

    /// The entry of the next event.
    var nextEntry: ByteBuffer {
        guard let page = pages.first, index < page.events.count else { return ByteBuffer() }
        let entry = page.events[index].entry
        return page.entries.getSlice(at: page.entries.readerIndex + entry.lowerBound, length: entry.count)
            ?? ByteBuffer()
    }

    /// The next event was taken, or is nobody's.
    func advance() {
        guard let page = pages.first else { return }
        position = page.events[index].position
        index += 1
        waitingSince = nil
    }

    /// Leaves a page whose events were all taken.
    /// - Returns: whether there was one.
    func leavePage() -> Bool {
        guard let page = pages.first, index == page.events.count else { return false }
        pages.removeFirst()
        index = 0
        if page.entries.readableBytes > 0 {
            handle.service.pools.calls.give(page.entries.storageCapacity, for: owner)
            heldBytes -= page.entries.storageCapacity
            driver?.addCredit(UInt64(page.entries.readableBytes))
        }
        if let end = page.end {
            position = max(position, end.position)
            readTo = end
        }
        return true
    }
}

extension ByteBuffer {
    /// The same bytes, where they are cut out of something more than twice as large: a slice keeps all of that in memory.
    func withoutLooseMemory() -> ByteBuffer {
        storageCapacity > 2 * readableBytes ? ByteBuffer(bytes: readableBytesView) : self
    }
}
