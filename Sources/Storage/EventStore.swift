import FoundationEssentials
public import Logging
public import MartletModel
import MartletRecordCodec
import NIOConcurrencyHelpers
public import NIOCore

/// A storage engine at work: what is written goes through the group committer, reads through the reader threads.
///
/// Calls return at once; completions are called on a thread of the store's, which must not be held up, or before the
/// call returns where it is refused.
public final class EventStore: Sendable {
    private let engine: any StorageEngine
    private let limits: Limits
    /// The clock that commits and as-of times go by.
    public let clock: Clock
    private let committer: GroupCommitter
    private let rules: any CommandRules
    private let readers: ReaderPool
    private let readThreadCount: Int
    private let listening: StorageListening?
    private let faults: FaultLog
    private let onFinding: @Sendable (StorageFinding) -> Void

    /// A store that is not started yet.
    ///
    /// - Parameters:
    ///   - onCommit: called for each committed run, a tenant's in position order, before its appends are
    ///     answered.
    ///   - onNews: called when another process committed to the storage, or may have, and each second
    ///     as a fallback.
    ///   - uptime: the clock that the cost of work is measured by.
    ///   - rules: what tenants' settings say of what they write; nil where nothing.
    ///   - onFinding: called on a thread of the store's with what each read, each transaction that wrote or failed, and
    ///     each ``probe(_:)`` found out about the storage. It must return at once.
    public init(
        engine: any StorageEngine, limits: Limits, clock: @escaping Clock, logger: Logger,
        uptime: @escaping @Sendable () -> NIODeadline = { .now() }, rules: (any CommandRules)? = nil,
        onCommit: @escaping @Sendable (RecordedRun) -> Void = { _ in },
        onNews: @escaping @Sendable (StorageNews) -> Void = { _ in },
        onFinding: @escaping @Sendable (StorageFinding) -> Void = { _ in }
    ) {
        self.onFinding = onFinding
        self.engine = engine
        self.limits = limits
        self.clock = clock
        self.rules = rules ?? NoRules()
        let uptimeNanos: @Sendable () -> UInt64 = { uptime().uptimeNanoseconds }
        committer = GroupCommitter(
            limits: limits, clock: clock, logger: logger, onCommit: onCommit, onFinding: onFinding)
        // One more than the engine asks for, so that one is left for other tenants.
        readThreadCount = engine.readersMax + 1
        readers = ReaderPool(
            readsMax: limits.waitingReadsMax, threadCount: readThreadCount,
            readsPerTenantMax: engine.readersPerTenantMax, uptimeNanos: uptimeNanos)
        faults = FaultLog(logger)
        listening = engine.makeListener().map {
            StorageListening(listener: $0, logger: logger, uptime: uptime, onNews: onNews) { kind in
                for use in StorageUse.allCases { onFinding(.failed(use, kind)) }
            }
        }
    }

    /// The engine's name.
    public var engineName: String { engine.name }

    /// Whether other servers may write to the same storage.
    public var isShared: Bool { listening != nil }

    /// The version of the storage schema.
    public var schemaVersion: UInt32 { engine.schemaVersion }

    /// Bytes of what waits to be written, or is being committed.
    public var waitingAppendBytes: Int { committer.waitingBytes }

    /// Events committed since the start.
    public var committedEventCount: UInt64 { committer.committedEventCount }

    /// Migrates the schema and starts the threads.
    public func start() throws(StorageError) {
        try engine.prepare()
        let engine = engine
        for _ in 0..<engine.writersMax { committer.start { engine.makeWriter() } }
        for _ in 0..<readThreadCount {
            readers.start(standsBack: engine.readsTakeProcessors) { engine.makeReader() }
        }
        listening?.start()
    }

    /// Brings the schema up to date and starts no threads: what waits is carried out by whoever has what is returned.
    package func startByHand() throws(StorageError) -> StorageHands {
        try engine.prepare()
        return StorageHands(committer, readers, writer: engine.makeWriter(), reader: engine.makeReader())
    }

    /// Makes calls that wait for the storage end at once, so that ``shutDown()`` does: see ``StorageEngine/interrupt(_:)``.
    public func interrupt(_ work: StorageWork) { engine.interrupt(work) }

    /// Takes no more calls, commits the appends that wait, and ends the threads.
    public func shutDown() async {
        await committer.close()
        await listening?.stop()
        await readers.close()
    }

    /// Writes: commands of one tenant are decided in the order in which they come here, once what its settings say of them
    /// is known; only those that are ``WriteCommand/isOfConsumers`` may be decided beside its appends without a checkpoint. The
    /// result of a command is a value, conflicts too; the call fails only if nothing was decided.
    ///
    /// - Precondition: an append is valid, as decoded by MartletFrameCodec: distinct aggregates and event ids,
    ///   events everywhere, within the limits.
    /// - Returns: what to cancel it by; nil where it was refused, and `completion` called.
    @discardableResult
    public func write(
        _ command: WriteCommand, completion: @escaping @Sendable (Result<WriteOutcome, MartletError>) -> Void
    ) -> StoreTicket? {
        let complete = rules.complete(command)
        let admission = committer.add(
            complete?.command ?? command, isComplete: complete != nil, completion: completion)
        return take(admission, of: command, isOld: complete?.isOld == true, completion)
    }

    /// A command, and what is called with its outcome.
    public typealias Writing = (
        command: WriteCommand, completion: @Sendable (Result<WriteOutcome, MartletError>) -> Void
    )

    /// Writes commands as ``write(_:completion:)`` does each, but in one go: no commit begins before all of them wait. They
    /// share commits, as far as these take them.
    ///
    /// - Parameter commands: in the order in which those of one tenant are decided. None of them can be cancelled.
    public func write(_ commands: [Writing]) {
        guard !commands.isEmpty else { return }
        let complete = commands.map { rules.complete($0.command) }
        let admissions = committer.add(
            zip(commands, complete).map { ($1?.command ?? $0.command, $1 != nil, $0.completion) })
        for (index, admission) in admissions.enumerated() {
            let (command, completion) = commands[index]
            _ = take(admission, of: command, isOld: complete[index]?.isOld == true, completion)
        }
    }

    private func take(
        _ admission: GroupCommitter.Admission, of command: WriteCommand, isOld: Bool,
        _ completion: @Sendable (Result<WriteOutcome, MartletError>) -> Void
    ) -> StoreTicket? {
        switch admission {
        case .added(let number, let asks):
            if asks || (isShared && isOld) { completeCommands(of: command.tenant) }
            return StoreTicket(kind: .write, tenant: command.tenant, number: number)
        case .full: completion(.failure(.writeQueueFull(limits, command)))
        case .closed: completion(.failure(.shuttingDown))
        }
        return nil
    }

    /// Reads what completes the commands of a tenant, those that wait for it and those to come.
    private func completeCommands(of tenant: TenantID) {
        read(for: tenant) { [rules] reader throws(StorageError) in
            try rules.read(tenant, reader)
        } completion: { [committer] in
            committer.complete(tenant, $0)
        }
    }

    /// Reads on a reader's thread, on a tenant's account: tenants are served in turn, by the time that their reads take
    /// there, `completion` included.
    ///
    /// - Parameter tenant: whose read it is; ``serverOwner`` for one that no tenant asked for.
    /// - Returns: what to cancel it by; cancelling one that was refused does nothing.
    @discardableResult
    public func read<Value: Sendable>(
        for tenant: TenantID, _ body: @escaping @Sendable (any StorageReader) throws(StorageError) -> Value,
        completion: @escaping @Sendable (Result<Value, MartletError>) -> Void
    ) -> StoreTicket {
        let admission = readers.add(for: tenant) { [faults, onFinding] reader in
            guard let reader else { return completion(.failure(.shuttingDown)) }
            do throws(StorageError) {
                let value = try body(reader)
                onFinding(.worked(.reads))
                completion(.success(value))
            } catch {
                onFinding(.failed(.reads, error.kind))
                faults.note("read failed", error)
                completion(.failure(MartletError(error)))
            }
        }
        switch admission {
        case .added(let number): return StoreTicket(kind: .read, tenant: tenant, number: number)
        case .full(let count): completion(.failure(.readQueueFull(limits, count: count)))
        case .closed: completion(.failure(.shuttingDown))
        }
        // Numbers begin at 1.
        return StoreTicket(kind: .read, tenant: tenant, number: 0)
    }

    /// Finds out whether the storage can be used: by a read of its own, or by a commit that changes nothing. What it comes to
    /// is told to `onFinding`, unless the store is shut down before.
    public func probe(_ use: StorageUse) {
        guard use == .reads else { return committer.probe() }
        let admission = readers.add(for: Self.serverOwner) { [faults, onFinding] reader in
            guard let reader else { return }
            do throws(StorageError) {
                _ = try reader.head(of: Self.serverOwner)
                onFinding(.probed(.reads, nil))
            } catch {
                onFinding(.probed(.reads, error.kind))
                faults.note("read failed", error)
            }
        }
        if case .full = admission { onFinding(.probeRefused(.reads)) }
    }

    /// Whose account reads are on that no tenant asked for: probes, and looking after other servers' commits.
    public static let serverOwner = TenantID(UUID(high: 0, low: 0))

    /// Cancels what waits: it leaves its queue at once, with all that it holds, and its completion is not called.
    ///
    /// What has begun is not stopped: a command that is in a batch, a read that a thread has taken. It goes
    /// on to its end, and its completion is called. Of two threads, one that cancels and one that begins, one wins.
    /// - Returns: whether it left its queue; false where it has begun, is done, was refused or was cancelled before.
    @discardableResult
    public func cancel(_ ticket: StoreTicket) -> Bool {
        switch ticket.kind {
        case .write: committer.remove(ticket.number, of: ticket.tenant)
        case .read: readers.remove(ticket.number, of: ticket.tenant)
        }
    }
}

extension EventStore {
    /// Writes, as ``write(_:completion:)`` does.
    public func write(_ command: WriteCommand) async throws(MartletError) -> WriteOutcome {
        try await result { write(command, completion: $0) }.get()
    }

    /// Reads on a reader's thread.
    public func read<Value: Sendable>(
        for tenant: TenantID, _ body: @escaping @Sendable (any StorageReader) throws(StorageError) -> Value
    ) async throws(MartletError) -> Value {
        try await result { read(for: tenant, body, completion: $0) }.get()
    }

    /// What a call completes with. It is handed over under a lock, as the thread sanitizer does not see a continuation do it.
    private func result<Value: Sendable>(
        of call: (@escaping @Sendable (Result<Value, MartletError>) -> Void) -> Void
    ) async -> Result<Value, MartletError> {
        let result = NIOLockedValueBox<Result<Value, MartletError>?>(nil)
        await withCheckedContinuation { continuation in
            call { completion in
                result.withLockedValue { $0 = completion }
                continuation.resume()
            }
        }
        guard let completion = result.withLockedValue({ $0 }) else { preconditionFailure("a call completes once") }
        return completion
    }
}
