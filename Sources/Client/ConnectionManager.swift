import Logging
import MartletModel
import NIOConcurrencyHelpers
import NIOCore

/// Keeps the one connection that new calls go to: connects when a call asks for it, and again after it was lost.
///
/// ``run()`` is the only one that connects; calls wait for it. A connection that the server drains is kept
/// beside the new one until its calls have ended.
final class ConnectionManager: Sendable {
    private struct Waiter {
        let continuation: CheckedContinuation<Result<ClientConnection, CallFailure>, Never>
        var timer: Scheduled<Void>?

        func resume(_ result: Result<ClientConnection, CallFailure>) {
            timer?.cancel()
            continuation.resume(returning: result)
        }
    }

    private struct State {
        var hasRun = false
        var isStopped = false
        var current: ClientConnection?
        var all: [ObjectIdentifier: ClientConnection] = [:]
        var waiters: [UInt64: Waiter] = [:]
        var lastWaiter: UInt64 = 0
    }

    private let configuration: ClientConfiguration
    private let environment: ClientEnvironment
    private let logger: Logger
    private let eventLoop: any EventLoop
    private let state = NIOLockedValueBox(State())
    private let demand: AsyncStream<Void>
    private let demandContinuation: AsyncStream<Void>.Continuation

    init(
        _ configuration: ClientConfiguration, environment: ClientEnvironment, eventLoop: any EventLoop, logger: Logger
    ) {
        self.configuration = configuration
        self.environment = environment
        self.logger = logger
        self.eventLoop = eventLoop
        (demand, demandContinuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
    }

    // MARK: The connecting side

    /// Connects whenever somebody waits; returns when the task is cancelled, after every connection is closed.
    /// - Throws: when it was called before.
    func run() async throws(MartletError) {
        let isFirst = state.withLockedValue { state in
            defer { state.hasRun = true }
            return !state.hasRun
        }
        guard isFirst else {
            throw MartletError(
                .failedPrecondition, reason: .clientClosed, message: "a client can run only once: create another one")
        }
        var failures = 0
        for await _ in demand {
            while isWanted, !Task.isCancelled {
                if failures > 0 {
                    let delay = configuration.backoff.delay(afterFailures: failures, random: environment.random())
                    do { try await environment.sleep(delay) } catch { break }
                }
                failures = await connect() ? 1 : failures + 1
            }
        }
        await stop()
    }

    private var isWanted: Bool {
        state.withLockedValue { $0.current == nil && !$0.waiters.isEmpty }
    }

    private func connect() async -> Bool {
        let result: Result<ClientConnection, CallFailure>
        do throws(MartletError) {
            let connection = try await ClientConnection.open(
                configuration, environment: environment, eventLoop: eventLoop, logger: logger,
                onUnusable: { [weak self] in self?.retire($0) }, onClosed: { [weak self] in self?.forget($0) })
            result = .success(connection)
            logger.debug("connected", metadata: ["server": "\(configuration.host):\(configuration.port)"])
        } catch {
            if !Task.isCancelled {
                logger.info("cannot connect", metadata: ["why": "\(PrintableText.escape("\(error)"))"])
            }
            result = .failure(CallFailure(error: error, isConnecting: true))
        }
        let waiters = state.withLockedValue { state in
            if case .success(let connection) = result, !connection.isUnusable {
                state.current = connection
                state.all[ObjectIdentifier(connection)] = connection
            }
            defer { state.waiters = [:] }
            return state.waiters
        }
        for waiter in waiters.values { waiter.resume(result) }
        if case .success = result { return true }
        return false
    }

    private func retire(_ connection: ClientConnection) {
        state.withLockedValue { if $0.current === connection { $0.current = nil } }
    }

    private func forget(_ connection: ClientConnection) {
        state.withLockedValue { $0.all[ObjectIdentifier(connection)] = nil }
    }

    private func stop() async {
        let (waiters, connections) = state.withLockedValue { state in
            state.isStopped = true
            state.current = nil
            defer { state.waiters = [:] }
            return (state.waiters.values, state.all.values)
        }
        for waiter in waiters { waiter.resume(.failure(.clientClosed)) }
        for connection in connections { connection.submit(.close(.clientClosed)) }
        for connection in connections { await connection.closed() }
    }

    // MARK: The waiting side

    /// The connection that new calls go to, where there is one.
    var current: ClientConnection? { state.withLockedValue { $0.current } }

    /// A connection that takes calls: the one there is, or the next one.
    /// - Returns: or how the next try to connect failed.
    func connection(until deadline: NIODeadline?) async -> Result<ClientConnection, CallFailure> {
        let (current, number) = state.withLockedValue { state -> (ClientConnection?, UInt64) in
            guard state.current == nil else { return (state.current, 0) }
            state.lastWaiter += 1
            return (nil, state.lastWaiter)
        }
        if let current { return .success(current) }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                enroll(number, Waiter(continuation: continuation), until: deadline)
            }
        } onCancel: {
            giveUp(number, .cancelled())
        }
    }

    private func enroll(_ number: UInt64, _ waiter: Waiter, until deadline: NIODeadline?) {
        let outcome = state.withLockedValue { state -> Result<ClientConnection, CallFailure>? in
            if state.isStopped { return .failure(.clientClosed) }
            if let current = state.current { return .success(current) }
            state.waiters[number] = waiter
            return nil
        }
        if let outcome { return waiter.resume(outcome) }
        // The task may have been cancelled before there was a waiter to give up.
        if Task.isCancelled { return giveUp(number, .cancelled()) }
        demandContinuation.yield()
        guard let deadline else { return }
        let timer = eventLoop.scheduleTask(deadline: deadline) { [self] in
            giveUp(number, .deadlineExceeded(mayHaveRun: false))
        }
        let isWaiting = state.withLockedValue { state in
            state.waiters[number]?.timer = timer
            return state.waiters[number] != nil
        }
        if !isWaiting { timer.cancel() }
    }

    private func giveUp(_ number: UInt64, _ failure: CallFailure) {
        let waiter = state.withLockedValue { $0.waiters.removeValue(forKey: number) }
        waiter?.resume(.failure(failure))
    }
}
