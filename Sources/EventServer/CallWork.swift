import EventHub
import EventModel
import EventProtocol
import EventStorage
import NIOCore

/// An open call of a connection.
struct OpenCall {
    var work: CallWork
    var deadline: Scheduled<Void>?

    var isSubscription: Bool { work.isSubscription }

    func add(credit bytes: UInt64) { work.add(credit: bytes) }

    func pump(isWritable: Bool) { work.pump(isWritable: isWritable) }

    /// The call is over: nothing of it is sent any more.
    func cancel() {
        deadline?.cancel()
        work.cancel()
    }
}

/// What a call does, by its kind. Used on its connection's event loop.
final class CallWork {
    private enum Kind {
        case unary(() -> Void)
        case query(QueryCall)
        case subscription(SubscriptionDriver)
    }

    private let kind: Kind
    private let counters: ServerCounters

    /// - Parameter answer: sends the one answer of a unary call and ends it.
    init(
        _ request: CallRequest, creditBytes: UInt64, context: CallContext, shared: ServerShared,
        answer: @escaping (ServerFrame.Body) -> Void
    ) {
        counters = shared.counters
        let clock = shared.clock
        switch request {
        case .append(let request):
            kind = .unary {
                let bound = NIOLoopBound((answer, context), eventLoop: context.eventLoop)
                let counters = shared.counters
                shared.store.append(request) { result in
                    bound.eventLoop.execute {
                        let (answer, context) = bound.value
                        switch result {
                        case .success(let receipt):
                            if !receipt.replayed { counters.append(request.eventCount) }
                            answer(.append(receipt))
                        case .failure(let error): context.end(error)
                        }
                    }
                }
            }
        case .load(let request):
            kind = .query(
                QueryCall(isLoad: true, credit: creditBytes, context: context) { reader throws(StorageError) in
                    try QueryResolution.view(of: request, now: clock(), reader: reader).map {
                        QueryCall.Opened(cursor: QueryCursor(request, view: $0), view: .load($0))
                    }
                })
        case .read(let request):
            kind = .query(
                QueryCall(isLoad: false, credit: creditBytes, context: context) { reader throws(StorageError) in
                    try QueryResolution.view(of: request, now: clock(), reader: reader).map {
                        QueryCall.Opened(cursor: QueryCursor(request, view: $0), view: .read($0))
                    }
                })
        case .subscribe(let request):
            kind = .subscription(
                SubscriptionDriver(
                    request: request, creditBytes: creditBytes, eventLoop: context.eventLoop, hub: shared.hub,
                    reads: shared.reads, limits: shared.limits,
                    emit: { message in
                        context.send(.subscribe(message))
                        context.delivered(message.count)
                    },
                    onEnd: { context.end($0) }))
        case .getHead(let tenant):
            kind = .unary {
                context.read({ reader throws(StorageError) in try reader.head(of: tenant) }) { result in
                    switch result {
                    case .success(let head): answer(.head(head))
                    case .failure(let error): context.end(error)
                    }
                }
            }
        case .getStatus:
            kind = .unary { StatusReport.make(shared: shared, context: context) { answer(.serverStatus($0)) } }
        }
    }

    var isSubscription: Bool { if case .subscription = kind { true } else { false } }

    func start() {
        switch kind {
        case .unary(let start): start()
        case .query(let query): query.pump()
        case .subscription(let driver):
            counters.subscriptionOpened()
            driver.start()
        }
    }

    func add(credit bytes: UInt64) {
        switch kind {
        case .unary: break
        case .query(let query): query.add(credit: bytes)
        case .subscription(let driver): driver.addCredit(bytes)
        }
    }

    func pump(isWritable: Bool) {
        switch kind {
        case .unary: break
        case .query(let query): query.pump()
        case .subscription(let driver): driver.setWritable(isWritable)
        }
    }

    func cancel() {
        switch kind {
        case .unary: break
        case .query(let query): query.cancel()
        case .subscription(let driver):
            counters.subscriptionClosed()
            driver.cancel()
        }
    }
}
