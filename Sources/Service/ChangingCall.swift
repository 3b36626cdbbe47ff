import MartletModel
import MartletStorage
import MartletTenants
import NIOCore

/// A unary call that changes something beside the events: checked, put into the tenant's queue, answered when
/// it is durable.
final class ChangingCall: CallWork {
    /// Where the change comes from.
    enum Change {
        /// It is there.
        case ready(TenantChange)
        /// It is made on a storage thread, on the tenant's account, where that may take its time or a look at storage.
        case made(Making)
    }

    typealias Making =
        @Sendable (any StorageReader) throws(StorageError) -> Result<TenantChange, MartletError>

    /// What is done when the change is durable, before it is acknowledged.
    struct Afterwards {
        /// Done on a storage thread.
        var read: @Sendable (any StorageReader) throws(StorageError) -> Void
        /// Done where that failed: the change is acknowledged all the same.
        var failed: @Sendable () -> Void
    }

    private enum State {
        case idle
        /// For its turn, or for its commit.
        case waits(StoreTicket)
        /// It is durable; until it is in force.
        case follows(StoreTicket)
        case ended
    }

    private let tenant: TenantID
    private let handle: CallHandle
    private let change: Change
    private let afterwards: Afterwards?
    private var state = State.idle
    /// The consumer that is changed; nil where none is.
    private var consumer: ConsumerID?

    init(tenant: TenantID, _ handle: CallHandle, _ change: Change, afterwards: Afterwards? = nil) {
        self.tenant = tenant
        self.handle = handle
        self.change = change
        self.afterwards = afterwards
    }

    func start() {
        switch change {
        case .ready(let change): apply(change)
        case .made(let make):
            state = .waits(
                handle.read(for: tenant, make) { [self] result in
                    guard case .waits = state else { return }
                    switch result.flatMap({ $0 }) {
                    case .failure(let error): end(error)
                    case .success(let change): apply(change)
                    }
                })
        }
    }

    func pump() {}

    func cancel() {
        switch state {
        case .waits(let ticket): handle.service.store.cancel(ticket)
        case .follows(let ticket):
            // The change is there, whoever waits for its answer.
            if handle.service.store.cancel(ticket) { afterwards?.failed() }
        case .idle, .ended: break
        }
        state = .ended
    }

    private func apply(_ change: TenantChange) {
        if case .consumer(let change) = change { consumer = change.consumer }
        let bound = NIOLoopBound(self, eventLoop: handle.eventLoop)
        let ticket = handle.service.store.write(.change(change)) { result in
            bound.eventLoop.execute { bound.value.applied(result) }
        }
        // Without a ticket it was refused, and its end is on the way.
        if let ticket { state = .waits(ticket) }
    }

    private func applied(_ result: Result<WriteOutcome, MartletError>) {
        if case .success(.schedules) = result, case .ready(.schedules(let change)) = self.change,
            case .asked(let changes) = change.kind, let due = changes.firstDue
        {
            handle.service.schedules.note(due)
        }
        if case .success(let outcome) = result { handle.service.counters.count(outcome) }
        if case .success(.consumer) = result, let consumer {
            // Its workers here hear of it at once, those of other servers when these ask next.
            handle.service.groups.tend(consumer, now: handle.eventLoop.now)
        }
        if case .ended = state {
            // Nobody waits for the answer any more, but the change is there.
            if case .success(let outcome) = result, case .success = outcome.answer { afterwards?.failed() }
            return
        }
        switch result {
        case .failure(let error): end(error)
        case .success(let outcome):
            switch outcome.answer {
            case .failure(let error): end(error)
            case .success(let message): acknowledge(message)
            }
        }
    }

    private func acknowledge(_ message: CallMessage) {
        guard let afterwards else {
            state = .ended
            return handle.answer(message)
        }
        state = .follows(
            handle.read(for: tenant, afterwards.read) { [self] (result: Result<Void, MartletError>) in
                if case .failure = result { afterwards.failed() }
                guard case .follows = state else { return }
                state = .ended
                handle.answer(message)
            })
    }

    private func end(_ error: MartletError) {
        state = .ended
        handle.end(error)
    }
}

extension WriteOutcome {
    fileprivate var answer: Result<CallMessage, MartletError> {
        switch self {
        case .snapshotSaved(let receipt): .success(.snapshotSaved(receipt))
        case .snapshotsDeleted(let count): .success(.snapshotsDeleted(UInt64(count)))
        case .settingsPut(let revision): .success(.settingsPut(revision: revision))
        case .consumer(.put(let revision, let isNew)):
            .success(.consumerPut(PutConsumerReceipt(revision: revision, isNew: isNew)))
        case .consumer(.deleted): .success(.consumerDeleted)
        case .consumer(.reset(let after, let before)):
            .success(.consumerReset(ResetConsumerReceipt(after: after, before: before)))
        case .consumer(.unblocked(let count, skipped: _)): .success(.keysUnblocked(UInt64(count)))
        case .schedules(.changed(let changed)): .success(.schedulesChanged(changed))
        default: .failure(refusal ?? .unexpectedOutcome)
        }
    }
}
