import MartletQueries
import MartletModel
import MartletSession
import MartletStorage
import MartletSubscriptions
import NIOCore

/// An open call of a connection.
struct OpenCall {
    /// Nil for an append that is on its way: nothing of it can be moved or stopped.
    private var work: CallWork?
    private(set) var deadline: NIODeadline
    private(set) var timeoutMillis: UInt32

    init(_ deadline: NIODeadline, _ timeoutMillis: UInt32, work: CallWork? = nil) {
        self.work = work
        self.deadline = deadline
        self.timeoutMillis = timeoutMillis
    }

    var isSubscription: Bool { work?.isSubscription ?? false }

    func add(credit bytes: UInt64) { work?.add(credit: bytes) }

    func pump(isWritable: Bool) { work?.pump(isWritable: isWritable) }

    /// The call is over: nothing of it is sent any more.
    func cancel() { work?.cancel() }
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
        answer: @escaping (CallMessage) -> Void
    ) {
        counters = shared.counters
        let clock = shared.clock
        let queries = shared.queries
        switch request {
        case .append(let request):
            kind = .unary { TenantCalls(shared, context, answer).append(request) }
        case .load(let request):
            kind = .query(
                QueryCall(of: request.tenant, isLoad: true, credit: creditBytes, context: context) {
                    reader throws(StorageError) in
                    try queries.open(request, now: clock(), reader: reader)
                })
        case .read(let request):
            kind = .query(
                QueryCall(of: request.tenant, isLoad: false, credit: creditBytes, context: context) {
                    reader throws(StorageError) in
                    try queries.open(request, now: clock(), reader: reader)
                })
        case .subscribe(let request):
            kind = .subscription(
                SubscriptionDriver(
                    request: request, creditBytes: creditBytes, eventLoop: context.eventLoop, hub: shared.hub,
                    reads: shared.reads, limits: shared.limits, onUpcastFailures: context.failedUpcasts,
                    emit: { message in
                        context.send(.subscribe(message))
                        context.delivered(message.count)
                    },
                    onEnd: { context.end($0) }))
        case .getHead(let tenant):
            kind = .unary {
                context.answer(for: tenant, answer) { reader throws(StorageError) in .head(try reader.head(of: tenant))
                }
            }
        case .saveSnapshot(let request): kind = .unary { TenantCalls(shared, context, answer).save(request) }
        case .loadSnapshot(let request):
            kind = .unary {
                context.answer(for: request.tenant, answer) {
                    [counters = shared.counters] reader throws(StorageError) in
                    let loaded = try queries.snapshot(request, reader: reader)
                    counters.skipSnapshots(loaded.skipped)
                    return .snapshot(loaded)
                }
            }
        case .listSnapshots(let tenant, let aggregate):
            kind = .unary {
                context.answer(for: tenant, answer) { reader throws(StorageError) in
                    .snapshots(try queries.snapshots(of: aggregate, in: tenant, reader: reader))
                }
            }
        case .deleteSnapshots(let request): kind = .unary { TenantCalls(shared, context, answer).delete(request) }
        case .putSettings(let request): kind = .unary { TenantCalls(shared, context, answer).put(request) }
        case .getSettings(let tenant, let settingsKind):
            kind = .unary {
                context.answer(for: tenant, answer) { reader throws(StorageError) in
                    let settings = try reader.settings(of: tenant)
                    return .settings(
                        SettingsDocument(
                            document: settings.documents[settingsKind] ?? ByteBuffer(), revision: settings.revision))
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
