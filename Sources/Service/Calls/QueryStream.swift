import MartletTenants
import MartletDelivery
import MartletModel
import MartletQueries
import MartletStorage
import NIOCore

/// A load or a read under way: one page at a time, read by a storage thread and sent as credit allows.
///
/// It reads only while the connection takes bytes and there is room for the page in the pool, and sends what it read at
/// once. A page that the credit does not cover is let go, and read again when it does: a stream that waits holds nothing
/// but its place. It says so, and how much credit it needs. Bound to its connection's event loop.
final class QueryStream: CallWork {
    /// Fixes the view, on a storage thread.
    typealias Opening = @Sendable (any StorageReader) throws(StorageError) -> Result<OpenQuery, MartletError>

    /// How the stream's parts become messages.
    struct Parts {
        var part: @Sendable (ByteBuffer, OpenQuery.View?) -> CallMessage
        var waits: @Sendable (UInt64) -> CallMessage
    }

    /// What is read next.
    private enum Step {
        case open(Opening)
        case page(OpenQuery)
    }

    private enum State {
        /// Waits for the socket, or for any credit at all.
        case ready(Step)
        /// The next part needs so much credit.
        case starved(Step, bytes: UInt64)
        /// The next part is small, and waits for so much credit where it is.
        case holding(EventPage, OpenQuery)
        case waitsForRoom(Step)
        case reading(StoreTicket?)
        case ended
    }

    private enum Read {
        /// There was nothing to be read.
        case nothing(OpenQuery)
        /// A page, which takes so much beyond the room that was held for it.
        case page(EventDelivery.Result, OpenQuery, extraBytes: Int)
        /// The page was dropped: it takes so much room.
        case tooLarge(bytes: Int)
    }

    /// A page up to this size is not read again when credit comes: it is part of what the call holds anyway.
    static let heldBytesMax = 4 << 10
    /// A client that gives credit back as it consumes need not be told; after this long it is.
    private static let patience = TimeAmount.milliseconds(250)

    private let tenant: TenantID
    private let parts: Parts
    private let handle: CallHandle
    private let openingBytesMax: Int
    private let room: AnswerRoom
    private var state: State
    private var credit: UInt64
    /// The most credit that the client ever left here, or was asked for: for a part up to that size more comes by
    /// itself.
    private var roomBytes: UInt64
    private var reminder: Scheduled<Void>?
    /// Room that the last page took, where that was more than a page's: the next is likely to be as large.
    private var largeBytes = 0

    /// - Parameter openingBytesMax: what the first part holds at most.
    init(
        tenant: TenantID, parts: Parts, openingBytesMax: Int, creditBytes: UInt64, _ handle: CallHandle,
        opening: @escaping Opening
    ) {
        self.tenant = tenant
        self.parts = parts
        self.openingBytesMax = openingBytesMax
        self.handle = handle
        credit = creditBytes
        roomBytes = creditBytes
        state = .ready(.open(opening))
        room = handle.makeRoom(for: tenant)
    }

    func start() { pump() }

    func addCredit(_ bytes: UInt64) {
        let (sum, overflow) = credit.addingReportingOverflow(bytes)
        credit = overflow ? .max : sum
        roomBytes = max(roomBytes, credit)
        pump()
    }

    func cancel() {
        let ended = state
        state = .ended
        reminder?.cancel()
        reminder = nil
        // What has begun brings its result, and is held until then.
        if case .reading(let ticket?) = ended, !handle.service.store.cancel(ticket) { return }
        room.give()
    }

    func pump() {
        switch state {
        case .ready(.page) where credit == 0: remindLater()
        case .ready(let step): begin(step, bytesMax: pageBytesMax)
        case .starved(let step, let bytes): if bytes <= credit { begin(step, bytesMax: pageBytesMax) }
        case .holding(let page, let query):
            guard page.bytes <= credit, handle.isWritable else { return }
            emit(page, nil)
            goOn(query, past: page)
        case .waitsForRoom, .reading, .ended: return
        }
    }

    // MARK: Reading

    private func begin(_ step: Step, bytesMax: Int) {
        guard handle.isWritable else { return }
        reminder?.cancel()
        reminder = nil
        state = .waitsForRoom(step)
        let needed = if case .open = step { openingBytesMax } else { bytesMax }
        if room.take(max(needed, largeBytes), granted: { [weak self] in self?.roomGranted(bytesMax) }) {
            read(step, bytesMax: bytesMax)
        }
    }

    private func roomGranted(_ bytesMax: Int) {
        guard case .waitsForRoom(let step) = state else { return }
        guard handle.isWritable else {
            // Others may use it while the socket takes nothing.
            room.give()
            state = .ready(step)
            return
        }
        read(step, bytesMax: bytesMax)
    }

    private func read(_ step: Step, bytesMax: Int) {
        let scanMax = handle.limits.pageScanEventsMax
        let size = AnswerSize(handle.limits)
        state = .reading(nil)
        let extra = room.extra
        let ticket = handle.read(for: tenant) { reader throws(StorageError) -> Result<Read, MartletError> in
            let query: OpenQuery
            switch step {
            case .page(let opened): query = opened
            case .open(let opening):
                switch try opening(reader) {
                case .failure(let error): return .failure(error)
                case .success(let opened): query = opened
                }
            }
            guard !query.isDone else {
                return EventPage().fault(of: size, after: query.snapshotBytes).map { .failure($0) }
                    ?? .success(.nothing(query))
            }
            return try query.read(reader, bytesMax: bytesMax, scanMax: scanMax).flatMap { delivered in
                // Before room is asked for: there may never be enough for what no frame holds.
                if let fault = delivered.page.fault(of: size, after: query.snapshotBytes) { return .failure(fault) }
                // One event may be larger than a page.
                let bytes = delivered.page.entries.readableBytes + Int(query.snapshotBytes)
                guard let more = extra.take(for: bytes) else { return .success(.tooLarge(bytes: bytes)) }
                return .success(.page(delivered, query, extraBytes: more))
            }
        } _: { [self] (result: Result<Result<Read, MartletError>, MartletError>) in
            if case .success(.success(.page(_, _, let extraBytes))) = result { room.adopt(extraBytes) }
            guard case .reading = state else { return room.give() }
            took(result.flatMap { $0 }, step)
            // What was sent is on the connection's account by now.
            room.give()
            pump()
        }
        state = .reading(ticket)
    }

    private func took(_ result: Result<Read, MartletError>, _ step: Step) {
        switch result {
        case .failure(let error):
            if error.reason == .upcastFailed { handle.service.counters.failUpcasts(1) }
            end(error)
        case .success(.tooLarge(let bytes)):
            // It is read again when there is room for all of it.
            largeBytes = bytes
            state = .ready(step)
        case .success(.nothing(let query)): took(EventPage(), query, step)
        case .success(.page(let delivered, let query, _)):
            if delivered.failureCount > 0 { handle.service.counters.failUpcasts(delivered.failureCount) }
            took(delivered.page, query, step)
        }
    }

    private func took(_ page: EventPage, _ query: OpenQuery, _ step: Step) {
        largeBytes = page.count == 1 && page.bytes > UInt64(handle.limits.pageBytesMax) ? Int(page.bytes) : 0
        guard case .open = step else { return take(page, query) }
        if case .load(let view) = query.view { handle.service.counters.skipSnapshots(view.snapshotsSkipped) }
        open(page, query, step)
    }

    /// The first part: the view, with the snapshot and the first page as far as credit and one part hold them.
    private func open(_ page: EventPage, _ query: OpenQuery, _ step: Step) {
        let snapshotBytes = query.snapshotBytes
        // Without credit for the snapshot the view is fixed anew when there is.
        guard snapshotBytes <= credit else { return wait(.starved(step, bytes: snapshotBytes)) }
        let bytes = snapshotBytes + page.bytes
        if bytes <= credit, snapshotBytes == 0 || bytes <= UInt64(handle.limits.pageBytesMax) {
            emit(page, query)
            return goOn(query.viewTold, past: page)
        }
        emit(EventPage(), query)
        take(page, query.viewTold)
    }

    private func take(_ page: EventPage, _ query: OpenQuery) {
        if page.bytes <= credit {
            if page.count > 0 { emit(page, nil) }
            return goOn(query, past: page)
        }
        if page.bytes <= UInt64(Self.heldBytesMax) { return wait(.holding(page, query)) }
        // Several events fit where they are asked for again within the credit that is left.
        wait(page.count > 1 && credit > 0 ? .ready(.page(query)) : .starved(.page(query), bytes: page.bytes))
    }

    /// Goes on after a page that was sent, or had nothing.
    private func goOn(_ query: OpenQuery, past page: EventPage) {
        guard !query.isDone, let rest = query.rest(after: page) else { return end(nil) }
        // A page alone in its turn of the loop: the next one is read when this one is on its way.
        state = .ready(.page(rest))
        if credit == 0 { remindLater() } else if room.isFree { pump() }
    }

    private func emit(_ page: EventPage, _ opened: OpenQuery?) {
        credit -= page.bytes + (opened?.snapshotBytes ?? 0)
        handle.send(parts.part(page.entries, opened?.view))
        handle.service.counters.deliver(page.count)
    }

    private func end(_ error: MartletError?) {
        state = .ended
        handle.end(error)
    }

    private var pageBytesMax: Int {
        min(handle.limits.pageBytesMax, max(1, handle.room), Int(clamping: max(1, credit)))
    }

    // MARK: Waiting for credit

    private func wait(_ state: State) {
        self.state = state
        guard let bytes = missingBytes else { return }
        if bytes > roomBytes { tell(bytes) } else { remindLater() }
    }

    /// What the next part needs, as far as it is known and the credit is too little.
    private var missingBytes: UInt64? {
        switch state {
        case .starved(_, let bytes): bytes
        case .holding(let page, _): page.bytes
        case .ready, .waitsForRoom, .reading, .ended: nil
        }
    }

    private func tell(_ bytes: UInt64) {
        roomBytes = max(roomBytes, bytes)
        handle.send(parts.waits(bytes))
    }

    private func remindLater() {
        guard reminder == nil else { return }
        let bound = NIOLoopBound(self, eventLoop: handle.eventLoop)
        reminder = handle.eventLoop.scheduleTask(in: Self.patience) { bound.value.remind() }
    }

    private func remind() {
        reminder = nil
        if let bytes = missingBytes {
            if bytes > credit { tell(bytes) }
        } else if case .ready(let step) = state, credit == 0 {
            // One event is read to learn how long it is.
            begin(step, bytesMax: 1)
        }
    }
}

extension EventPage {
    fileprivate var bytes: UInt64 { UInt64(entries.readableBytes) }

    /// Why no frame holds the page, or the snapshot before it; nil where frames do.
    fileprivate func fault(of size: AnswerSize, after snapshotBytes: UInt64) -> MartletError? {
        size.fault(of: "the snapshot", bytes: Int(clamping: snapshotBytes))
            ?? size.fault(ofPageUpTo: lastPosition, bytes: entries.readableBytes)
    }
}

extension OpenQuery {
    fileprivate var snapshotBytes: UInt64 {
        guard case .load(let view) = view, let snapshot = view.snapshot else { return 0 }
        return UInt64(snapshot.payload.readableBytes)
    }
}
