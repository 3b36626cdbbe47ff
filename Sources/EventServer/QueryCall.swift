import EventModel
import EventProtocol
import EventStorage
import NIOCore

/// A load or a read under way: one page at a time, read by a storage thread and sent as credit allows.
///
/// Bound to its connection's event loop. At most one page is held: the one that waits for credit.
final class QueryCall {
    /// A query whose view is fixed.
    struct Opened: Sendable {
        var cursor: QueryCursor
        /// The body of the first frame, without events.
        var view: View
    }

    /// The view that a query reads from.
    enum View: Sendable {
        case load(LoadView)
        case read(ReadView)
    }

    /// Fixes the view, on a storage thread.
    typealias Opening = @Sendable (any StorageReader) throws(StorageError) -> Result<Opened, MartletError>

    private enum State {
        case opening(Opening)
        /// A storage thread is at work.
        case reading
        /// The page waits for credit, or for the connection to take bytes.
        case holding(EventPage, QueryCursor)
        case idle(QueryCursor)
        case ended
    }

    private var state: State
    private var view: View?
    private let isLoad: Bool
    private var credit: UInt64
    private let context: CallContext

    /// A query that begins at ``pump()``.
    init(isLoad: Bool, credit: UInt64, context: CallContext, opening: @escaping Opening) {
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
        case .holding(let page, let cursor):
            guard context.isWritable(), UInt64(page.entries.readableBytes) <= credit else { return }
            send(page, cursor)
        case .idle(let cursor):
            guard context.isWritable(), credit > 0 else { return }
            state = .reading
            read(cursor)
        case .reading, .ended: return
        }
    }

    private func open(_ opening: @escaping Opening) {
        let bounds = pageBounds
        context.read(
            { reader throws(StorageError) -> Result<(Opened, EventPage?), MartletError> in
                switch try opening(reader) {
                case .failure(let error): return .failure(error)
                case .success(let opened):
                    guard !opened.cursor.isDone else { return .success((opened, nil)) }
                    let page = try opened.cursor.read(reader, bytesMax: bounds.bytes, scanMax: bounds.scan)
                    return .success((opened, page))
                }
            },
            { [self] result in
                guard case .reading = state else { return }
                switch result.flatMap({ $0 }) {
                case .failure(let error): end(error)
                case .success((let opened, let page)):
                    view = opened.view
                    guard let page else {
                        emit(ByteBuffer())
                        return end(nil)
                    }
                    took(page, opened.cursor)
                }
            })
    }

    private func read(_ cursor: QueryCursor) {
        let bounds = pageBounds
        context.read(
            { reader throws(StorageError) in try cursor.read(reader, bytesMax: bounds.bytes, scanMax: bounds.scan) },
            { [self] result in
                guard case .reading = state else { return }
                switch result {
                case .failure(let error): end(error)
                case .success(let page): took(page, cursor)
                }
            })
    }

    private func took(_ page: EventPage, _ cursor: QueryCursor) {
        guard UInt64(page.entries.readableBytes) <= credit else {
            // The view needs no credit; the events wait for theirs.
            if view != nil { emit(ByteBuffer()) }
            state = .holding(page, cursor)
            return
        }
        send(page, cursor)
    }

    private func send(_ page: EventPage, _ cursor: QueryCursor) {
        credit -= UInt64(page.entries.readableBytes)
        if page.count > 0 || view != nil {
            emit(page.entries)
            context.delivered(page.count)
        }
        var cursor = cursor
        cursor.advance(past: page)
        guard !cursor.isDone else { return end(nil) }
        state = .idle(cursor)
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
    var send: (ServerFrame.Body) -> Void
    /// Ends the call with a status.
    var end: (MartletError?) -> Void
    /// Counts events that were sent.
    var delivered: (Int) -> Void
    /// Where storage is read; results come back on the event loop.
    var store: EventStore
    /// The connection's event loop.
    var eventLoop: any EventLoop

    /// Reads on a storage thread; the result comes back on the event loop.
    func read<Value: Sendable>(
        _ body: @escaping @Sendable (any StorageReader) throws(StorageError) -> Value,
        _ completion: @escaping (Result<Value, MartletError>) -> Void
    ) {
        let bound = NIOLoopBound(completion, eventLoop: eventLoop)
        let eventLoop = eventLoop
        store.read(body) { result in
            eventLoop.execute { bound.value(result) }
        }
    }
}
