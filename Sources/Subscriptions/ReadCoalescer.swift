import FoundationEssentials
import MartletCollections
import MartletDelivery
public import MartletModel
import MartletStorage
import NIOConcurrencyHelpers
import NIOCore
import Synchronization

/// Lets those who are at about the same place read storage once: who asks for a page that is being read already
/// waits for that one, and the last pages are kept for those who follow closely. A read is on its tenant's account, and
/// is cancelled when nobody waits for it any more.
///
/// Without a filter, pages are read as large as they may be, and each reader gets as much of one as it asked for, as a
/// slice. Events never change, so that what is kept is never out of date.
///
/// Pages that a tenant's upcasters concern are delivered on storage threads, in turn with the tenant's reads, and once
/// for all who are at one place and want the same.
public final class ReadCoalescer: Sendable {
    fileprivate struct Key: Hashable {
        let tenant: TenantID
        let after: Position
        /// The id of the event there; nil where it is not known.
        let following: UUID?
        /// What is looked for in storage.
        let filter: EventFilter
        let bytesMax: Int
        /// Whether the page is in memory, or in storage.
        let isInMemory: Bool
        /// How it is delivered; nil for as it is stored.
        let delivery: EventDelivery.Key?
        /// When it began, in changes of the past: nobody joins a read that began before one.
        var changes: UInt64 = 0
    }

    /// Names one who waits for a page, to leave by.
    struct Wait: Sendable {
        fileprivate let key: Key
        fileprivate let read: UInt64
        fileprivate let number: UInt64
    }

    /// A page on its way out; nil where it was in memory and has left it: the reader looks again.
    typealias Delivered = Result<EventDelivery.Result?, MartletError>
    typealias Completion = @Sendable (Delivered) -> Void

    private struct Waiting {
        let bytesMax: Int
        let completion: Completion
    }

    /// A read that is under way, and who waits for it.
    private struct Read {
        /// The number of who came first.
        let id: UInt64
        /// Known once the source has it.
        var ticket: StoreTicket?
        var waiting = NumberedQueue<Waiting>()

        /// - Returns: the read's number.
        mutating func join(_ reader: Waiting, number: UInt64) -> UInt64 {
            waiting.append(reader, number: number)
            return id
        }
    }

    private struct State {
        var reads: [Key: Read] = [:]
        var lastNumber: UInt64 = 0
        var recent = RecentPages()
        /// How often the past of a tenant has changed.
        var changes: UInt64 = 0

        mutating func join(_ key: Key, _ waiting: Waiting) -> Wait {
            lastNumber += 1
            let number = lastNumber
            var key = key
            key.changes = changes
            let read = reads[key, default: Read(id: number)].join(waiting, number: number)
            return Wait(key: key, read: read, number: number)
        }
    }

    private enum Admission {
        case found(EventPage)
        case waits(Wait)
    }

    /// The storage that is read.
    public let source: any PageSource
    private let limits: Limits
    private let state = NIOLockedValueBox(State())
    private let mailboxes = NIOLockedValueBox<[PageMailbox]>([])
    private let startedCount = Atomic<UInt64>(0)
    private let failedCount = Atomic<UInt64>(0)

    /// Reads of that storage.
    public init(source: any PageSource, limits: Limits) {
        self.source = source
        self.limits = limits
    }

    /// Pages read from storage since the start; one that several readers shared counts once.
    public var readCount: UInt64 { startedCount.load(ordering: .relaxed) }

    /// Those of them that failed.
    public var failureCount: UInt64 { failedCount.load(ordering: .relaxed) }

    /// Bytes of pages that are kept; bounded by ``Limits/recentPageBytesMax``.
    public var keptBytes: Int { state.withLockedValue { $0.recent.bytes } }

    /// Reads under way or waiting for storage, and those who wait for them.
    var waitingCounts: (reads: Int, readers: Int) {
        state.withLockedValue { state in
            (state.reads.count, state.reads.values.reduce(0) { $0 + $1.waiting.count })
        }
    }

    /// Reads a page and delivers it; `completion` is called once, on any thread or before this returns.
    ///
    /// The page may end before the range does: it may be one that was asked for when the range was shorter.
    /// - Returns: what to leave by; nil where the page was at hand.
    func readPage(
        of tenant: TenantID, positions range: PageRange<Position>, following: UUID? = nil, delivery: EventDelivery,
        bytesMax: Int, completion: @escaping Completion
    ) -> Wait? {
        let filter = delivery.storedFilter
        let isWhole = filter.isEmpty
        let readBytes = isWhole ? limits.pageBytesMax : bytesMax
        let key = Key(
            tenant: tenant, after: range.after, following: following, filter: filter,
            bytesMax: delivery.key == nil ? readBytes : bytesMax, isInMemory: false, delivery: delivery.key)
        let admission = state.withLockedValue { state -> Admission in
            if isWhole, let page = state.recent.page(of: tenant, after: range.after, following: following) {
                return .found(page)
            }
            return .waits(state.join(key, Waiting(bytesMax: bytesMax, completion: completion)))
        }
        switch admission {
        case .found(let page):
            let part = page.part(after: range.after, bytesMax: bytesMax)
            guard delivery.changes(part) else {
                completion(.success(EventDelivery.Result(page: part)))
                return nil
            }
            return deliver(
                of: tenant, after: range.after, following: following, delivery, bytesMax: bytesMax,
                completion: completion
            ) { [self] in
                let page = state.withLockedValue {
                    $0.recent.page(of: tenant, after: range.after, following: following)
                }
                return page?.part(after: range.after, bytesMax: bytesMax)
            }
        case .waits(let wait):
            guard wait.isFirst else { return wait }
            startedCount.wrappingAdd(1, ordering: .relaxed)
            let ticket = source.readPage(
                of: tenant, positions: range, filter: filter,
                bounds: PageBounds(
                    bytesMax: readBytes, scanMax: limits.pageScanEventsMax, following: following, marksEnd: true)
            ) { [self] result in
                if case .failure = result { failedCount.wrappingAdd(1, ordering: .relaxed) }
                if isWhole, case .success(let page) = result {
                    state.withLockedValue { state in
                        // Where nobody waits any more, nobody may look any more whether the tenant's past changes.
                        guard state.reads[wait.key]?.id == wait.read, wait.key.changes == state.changes else { return }
                        state.recent.keep(
                            page, of: tenant, after: range.after, following: following,
                            bytesMax: limits.recentPageBytesMax)
                    }
                }
                if delivery.key == nil {
                    for reader in end(wait) {
                        reader.completion(
                            result.map { page in
                                let bytesMax = isWhole ? reader.bytesMax : .max
                                return EventDelivery.Result(page: page.part(after: range.after, bytesMax: bytesMax))
                            })
                    }
                } else if isWanted(wait) {
                    let delivered: Delivered = result.flatMap { page in
                        let part = isWhole ? page.part(after: range.after, bytesMax: bytesMax) : page
                        return Self.deliver(part, by: delivery, bytesMax: bytesMax)
                    }
                    for reader in end(wait) { reader.completion(delivered) }
                }
            }
            note(ticket, of: wait)
            return wait
        }
    }

    /// Delivers a page that is in memory, on a storage thread; `completion` is called once, on any thread or before this
    /// returns.
    ///
    /// - Parameter page: gets the page by then, so that nothing is held by those who wait for their turn; nil where it has
    ///   left.
    /// - Returns: what to leave by.
    func deliver(
        of tenant: TenantID, after: Position, following: UUID? = nil, _ delivery: EventDelivery, bytesMax: Int,
        completion: @escaping Completion, page: @escaping @Sendable () -> EventPage?
    ) -> Wait {
        let key = Key(
            tenant: tenant, after: after, following: following, filter: delivery.storedFilter, bytesMax: bytesMax,
            isInMemory: true, delivery: delivery.key)
        let wait = state.withLockedValue { $0.join(key, Waiting(bytesMax: bytesMax, completion: completion)) }
        guard wait.isFirst else { return wait }
        let ticket = source.work(for: tenant) { [self] refusal in
            guard isWanted(wait) else { return }
            let delivered: Delivered
            if let refusal {
                delivered = .failure(refusal)
            } else if let page = page() {
                delivered = Self.deliver(page, by: delivery, bytesMax: bytesMax)
            } else {
                delivered = .success(nil)
            }
            for reader in end(wait) { reader.completion(delivered) }
        }
        note(ticket, of: wait)
        return wait
    }

    /// How pages get to the subscriptions of an event loop; there is one for each loop.
    func mailbox(of eventLoop: any EventLoop) -> PageMailbox {
        mailboxes.withLockedValue { mailboxes in
            for mailbox in mailboxes where mailbox.eventLoop === eventLoop { return mailbox }
            let mailbox = PageMailbox(eventLoop: eventLoop)
            mailboxes.append(mailbox)
            return mailbox
        }
    }

    /// Forgets the pages of a tenant that nobody follows any more.
    public func forget(_ tenant: TenantID) {
        // What leaves is freed outside the lock.
        _ = state.withLockedValue { $0.recent.forget(tenant) }
    }

    /// Forgets the pages of a tenant whose past has changed; of all tenants where that is nil. Pages that are being read are
    /// for those who wait for them by now.
    public func historyChanged(_ tenant: TenantID?) {
        _ = state.withLockedValue { state in
            state.changes += 1
            return state.recent.forget(tenant)
        }
    }

    /// Whoever waits there waits no more: its completion is not called, unless that is under way. A read that nobody
    /// waits for leaves its queue.
    /// - Returns: whether it waited; otherwise its completion has been called, or will be.
    @discardableResult
    func cancel(_ wait: Wait) -> Bool {
        // What the waiter holds is freed outside the lock.
        let (left, ticket) = state.withLockedValue { state -> (Waiting?, StoreTicket?) in
            guard state.reads[wait.key]?.id == wait.read else { return (nil, nil) }
            let left = state.reads[wait.key]?.waiting.remove(wait.number)
            guard state.reads[wait.key]?.waiting.isEmpty == true else { return (left, nil) }
            return (left, state.reads.removeValue(forKey: wait.key)?.ticket)
        }
        if let ticket { source.cancel(ticket) }
        return left != nil
    }

    private static func deliver(_ page: EventPage, by delivery: EventDelivery, bytesMax: Int) -> Delivered {
        do throws(MartletError) {
            return .success(try delivery.deliver(page, bytesMax: bytesMax))
        } catch { return .failure(error) }
    }

    /// Takes in what a read can be cancelled by; nobody may want it any more.
    private func note(_ ticket: StoreTicket?, of wait: Wait) {
        guard let ticket else { return }
        let isOver = state.withLockedValue { state in
            guard state.reads[wait.key]?.id == wait.read else { return true }
            state.reads[wait.key]?.ticket = ticket
            return false
        }
        if isOver { source.cancel(ticket) }
    }

    private func isWanted(_ wait: Wait) -> Bool {
        state.withLockedValue { $0.reads[wait.key]?.id == wait.read }
    }

    /// The read is over.
    /// - Returns: those who wait for it.
    private func end(_ wait: Wait) -> [Waiting] {
        state.withLockedValue { state in
            guard state.reads[wait.key]?.id == wait.read else { return [] }
            var read = state.reads.removeValue(forKey: wait.key)
            return read?.waiting.removeAll() ?? []
        }
    }
}

extension ReadCoalescer.Wait {
    /// Whether it began the read.
    fileprivate var isFirst: Bool { read == number }
}
