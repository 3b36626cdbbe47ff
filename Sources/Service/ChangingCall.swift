import MartletModel
import MartletStorage
import MartletTenants
import NIOCore

/// A unary call that changes something beside the events: checked, put into the tenant's queue of changes, answered when
/// it is durable.
final class ChangingCall: CallWork {
    /// What is to be changed, under the tenant's settings; or why it is refused.
    typealias Preparation = @Sendable (any StorageReader) throws(StorageError) -> Result<TenantChange, MartletError>

    private enum State {
        case idle
        case waits(StoreTicket)
        case ended
    }

    private let tenant: TenantID
    private let handle: CallHandle
    private let prepared: TenantChange?
    private let preparation: Preparation
    private let afterwards: (@Sendable (any StorageReader) throws(StorageError) -> Void)?
    private var state = State.idle

    /// - Parameters:
    ///   - prepared: the change, where nothing is to be looked up before.
    ///   - preparation: otherwise: runs on a storage thread, on the tenant's account.
    ///   - afterwards: runs there when the change is durable, before it is acknowledged.
    init(
        tenant: TenantID, _ handle: CallHandle, prepared: TenantChange? = nil,
        afterwards: (@Sendable (any StorageReader) throws(StorageError) -> Void)? = nil,
        _ preparation: @escaping Preparation
    ) {
        self.tenant = tenant
        self.handle = handle
        self.prepared = prepared
        self.preparation = preparation
        self.afterwards = afterwards
    }

    func start() {
        if let prepared { return apply(prepared) }
        state = .waits(
            handle.read(for: tenant, preparation) { [self] result in
                guard case .waits = state else { return }
                switch result.flatMap({ $0 }) {
                case .failure(let error): end(error)
                case .success(let change): apply(change)
                }
            })
    }

    func pump() {}

    func cancel() {
        if case .waits(let ticket) = state { handle.service.store.cancel(ticket) }
        state = .ended
    }

    private func apply(_ change: TenantChange) {
        let bound = NIOLoopBound(self, eventLoop: handle.eventLoop)
        let ticket = handle.service.store.apply(change) { result in
            bound.eventLoop.execute { bound.value.applied(result) }
        }
        // Without a ticket it was refused, and its end is on the way.
        if let ticket { state = .waits(ticket) }
    }

    private func applied(_ result: Result<TenantChangeOutcome, MartletError>) {
        if case .ended = state { return }
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
        state = .waits(
            handle.read(for: tenant, afterwards) { [self] (_: Result<Void, MartletError>) in
                guard case .waits = state else { return }
                state = .ended
                handle.answer(message)
            })
    }

    private func end(_ error: MartletError) {
        state = .ended
        handle.end(error)
    }
}

extension TenantChangeOutcome {
    fileprivate var answer: Result<CallMessage, MartletError> {
        switch self {
        case .snapshotSaved(let receipt): .success(.snapshotSaved(receipt))
        case .snapshotBeyondAggregate(let version): .failure(.snapshotBeyond(version))
        case .snapshotsDeleted(let count): .success(.snapshotsDeleted(UInt64(count)))
        case .settingsPut(let revision): .success(.settingsPut(revision: revision))
        case .settingsConflict(let revision): .failure(.settingsConflict(revision))
        case .limitReached(let limit): .failure(.storageLimitReached(limit))
        }
    }
}
