import MartletDelivery
import MartletModel
import MartletQueries
import MartletSession
import MartletStorage
import MartletUpcasting
import NIOCore

/// A load or a read under way: one page at a time, read by a storage thread and sent as credit allows.
///
/// Bound to its connection's event loop. At most one page is held: the one that waits for credit.
final class QueryCall {
    /// Fixes the view, on a storage thread.
    typealias Opening = @Sendable (any StorageReader) throws(StorageError) -> Result<OpenQuery, MartletError>

    private typealias Delivered = Result<EventDelivery.Result, MartletError>

    private enum State {
        case opening(Opening)
        /// A storage thread is at work.
        case reading
        /// The page waits for credit, or for the connection to take bytes.
        case holding(EventPage, OpenQuery)
        case idle(OpenQuery)
        case ended
    }

    private var state: State
    /// The view, until it is sent; its snapshot takes credit as events do.
    private var view: OpenQuery.View?
    private let tenant: TenantID
    private let isLoad: Bool
    private var credit: UInt64
    private let context: CallContext

    /// A query that begins at ``pump()``.
    init(of tenant: TenantID, isLoad: Bool, credit: UInt64, context: CallContext, opening: @escaping Opening) {
        self.tenant = tenant
        self.isLoad = isLoad
        self.credit = credit
        self.context = context
        state = .opening(opening)
    }

    /// Adds credit.
    func add(credit bytes: UInt64) {
        let (sum, overflow) = credit.addingReportingOverflow(bytes)
        credit = overflow ? .max : sum
        pump()
    }

    /// Ends without an answer; what a storage thread still brings is dropped.
    func cancel() { state = .ended }

    /// Does what can be done now; called again when credit comes or the connection takes bytes.
    func pump() {
        switch state {
        case .opening(let opening):
            state = .reading
            open(opening)
        case .holding(let page, let query):
            guard context.isWritable(), cost(of: page) <= credit else { return }
            send(page, query)
        case .idle(let query):
            guard context.isWritable(), credit > 0 else { return }
            state = .reading
            read(query)
        case .reading, .ended: return
        }
    }

    private func open(_ opening: @escaping Opening) {
        let bounds = pageBounds
        context.read(
            for: tenant,
            { reader throws(StorageError) -> Result<(OpenQuery, EventDelivery.Result?), MartletError> in
                switch try opening(reader) {
                case .failure(let error): return .failure(error)
                case .success(let query):
                    guard !query.isDone else { return .success((query, nil)) }
                    return try query.read(reader, bytesMax: bounds.bytes, scanMax: bounds.scan).map { (query, $0) }
                }
            },
            { [self] result in
                guard case .reading = state else { return }
                switch result.flatMap({ $0 }) {
                case .failure(let error): end(error)
                case .success((let query, let delivered)):
                    view = query.view
                    if case .load(let view) = query.view { context.skippedSnapshots(view.snapshotsSkipped) }
                    took(delivered ?? EventDelivery.Result(page: EventPage()), query)
                }
            })
    }

    private func read(_ query: OpenQuery) {
        let bounds = pageBounds
        context.read(
            for: tenant,
            { reader throws(StorageError) -> Delivered in
                try query.read(reader, bytesMax: bounds.bytes, scanMax: bounds.scan)
            },
            { [self] result in
                guard case .reading = state else { return }
                switch result.flatMap({ $0 }) {
                case .failure(let error): end(error)
                case .success(let delivered): took(delivered, query)
                }
            })
    }

    private func took(_ delivered: EventDelivery.Result, _ query: OpenQuery) {
        if delivered.failureCount > 0 { context.failedUpcasts(delivered.failureCount) }
        let page = delivered.page
        guard cost(of: page) <= credit else {
            // The view needs no credit, unless it has a snapshot; the events wait for theirs.
            if viewCost == 0, view != nil { emit(ByteBuffer()) }
            state = .holding(page, query)
            return
        }
        send(page, query)
    }

    private var viewCost: UInt64 {
        guard case .load(let view)? = view, let snapshot = view.snapshot else { return 0 }
        return UInt64(snapshot.payload.readableBytes)
    }

    /// What sending a page takes of the credit.
    private func cost(of page: EventPage) -> UInt64 {
        // Together they may not fit into one frame: a large snapshot goes alone.
        let events = UInt64(page.entries.readableBytes)
        return viewCost > UInt64(context.limits.pageBytesMax) ? viewCost : viewCost + events
    }

    private func send(_ page: EventPage, _ query: OpenQuery) {
        if viewCost > UInt64(context.limits.pageBytesMax), page.count > 0 {
            credit -= viewCost
            emit(ByteBuffer())
            state = .holding(page, query)
            return pump()
        }
        credit -= cost(of: page)
        if page.count > 0 || view != nil {
            emit(page.entries)
            context.delivered(page.count)
        }
        guard !query.isDone else { return end(nil) }
        var query = query
        query.advance(past: page)
        guard !query.isDone else { return end(nil) }
        state = .idle(query)
        pump()
    }

    private func emit(_ entries: ByteBuffer) {
        defer { view = nil }
        switch view {
        case .load(let view): context.send(.load(entries, view))
        case .read(let view): context.send(.read(entries, view))
        case nil: context.send(isLoad ? .load(entries, nil) : .read(entries, nil))
        }
    }

    private func end(_ error: MartletError?) {
        if error?.reason == .upcastFailed { context.failedUpcasts(1) }
        state = .ended
        context.end(error)
    }

    private var pageBounds: (bytes: Int, scan: Int) {
        let limits = context.limits
        return (min(limits.pageBytesMax, Int(clamping: max(1, credit))), limits.pageScanEventsMax)
    }
}

/// What a call may ask of its connection; used on the connection's event loop.
struct CallContext {
    /// The limits in force.
    var limits: Limits
    /// Whether the connection takes bytes now; the call is pumped when that changes.
    var isWritable: () -> Bool
    /// Sends a frame of the call.
    var send: (CallMessage) -> Void
    /// Ends the call with a status.
    var end: (MartletError?) -> Void
    /// Counts events that were sent.
    var delivered: (Int) -> Void
    /// Counts snapshots that could not be used.
    var skippedSnapshots: (Int) -> Void
    /// Counts events that an upcaster failed on.
    var failedUpcasts: (Int) -> Void
    /// Where storage is read; results come back on the event loop.
    var store: EventStore
    /// The connection's event loop.
    var eventLoop: any EventLoop

    /// Reads on a storage thread; the result comes back on the event loop.
    func read<Value: Sendable>(
        for tenant: TenantID, _ body: @escaping @Sendable (any StorageReader) throws(StorageError) -> Value,
        _ completion: @escaping (Result<Value, MartletError>) -> Void
    ) {
        let bound = NIOLoopBound(completion, eventLoop: eventLoop)
        let eventLoop = eventLoop
        store.read(for: tenant, body) { result in
            eventLoop.execute { bound.value(result) }
        }
    }
}

extension CallContext {
    /// Answers a unary call with what a storage thread reads, or ends it.
    func answer(
        for tenant: TenantID, _ answer: @escaping (CallMessage) -> Void,
        _ body: @escaping @Sendable (any StorageReader) throws(StorageError) -> CallMessage
    ) {
        read(for: tenant, body) { result in
            switch result {
            case .success(let body): answer(body)
            case .failure(let error): end(error)
            }
        }
    }
}
