import Foundation
import Logging
import MartletStorage

/// Moves what is in the write-ahead log into the database, beside the commits.
///
/// SQLite's own way is that the commit which fills the log moves all of it, while the next ones wait. Here a thread with
/// a connection of its own does so while commits go on. What they add meanwhile takes it a shorter pass, and so on; the
/// last small rest is left to the writer, between two commits, upon which the log begins anew.
///
/// The log cannot begin anew while a read uses it, and reads may overlap for ever. So a log that has grown large closes
/// the gate of the reads for the last pass, and one that has grown larger holds the commits up too, each for bounded time:
/// see Docs/decisions/0039.
///
/// The thread ends for good when the file is poisoned: see Docs/decisions/0010.
final class Checkpointer {
    /// Pages in the log from which on it is worth while to move them.
    static let startPages = 2_000
    /// From here on reads wait for the last pass.
    static let gatePages = 4_000
    /// From here on commits wait for the end of the reads that are under way.
    static let holdPages = 8_000
    /// A rest of so many pages is left to the writer.
    static let restPages = 250
    /// How long a closed gate waits for reads to end, and again for the writer to come by.
    static let gateMillis = 100
    /// How long commits wait for the reads that are under way.
    static let holdMillis = 1_000
    private static let passesMax = 8

    /// `@unchecked Sendable`: everything mutable is guarded by `condition`.
    private final class State: @unchecked Sendable {
        let condition = NSCondition()
        var logPages = 0
        var isRequested = false
        var isRestDue = false
        var isRestMoving = false
        var isClosed = false
        /// From where on the gate is closed, and commits wait, next. What did not help is tried again when the log has
        /// grown further.
        var gateFrom = Checkpointer.gatePages
        var holdFrom = Checkpointer.holdPages

        /// What was to hold commits up has been done or has failed: they wait again when the log has grown further.
        func endHold() {
            condition.withLock {
                holdFrom = logPages + Checkpointer.startPages
                condition.broadcast()
            }
        }

        /// Whether the log has reached where commits wait, and whether it did so before.
        func beginGate() -> (holds: Bool, isAgain: Bool) {
            condition.withLock {
                let (holds, isAgain) = (logPages >= holdFrom, holdFrom > Checkpointer.holdPages)
                gateFrom = logPages + Checkpointer.startPages
                return (holds, isAgain)
            }
        }
    }

    private let state = State()
    private let threads = WorkThreads()

    /// Checkpoints of that file, which exists.
    init(_ file: DatabaseFile, logger: Logger) {
        threads.start(name: "checkpoint") { [state] in Self.run(state, file, logger) }
    }

    /// Waits until its connection is closed and the file let go: the last one of a file leaves no log and no lock.
    deinit {
        state.condition.withLock {
            state.isClosed = true
            state.condition.broadcast()
        }
        threads.blockUntilEnd()
    }

    /// Whether the next commit is to be followed by the writer's checkpoint.
    var isRestDue: Bool { state.condition.withLock { state.isRestDue } }

    /// A commit left so many pages in the log. Where they are too many, this waits for the checkpoint that is under way.
    /// - Returns: whether the writer is to move the rest now, and call ``restMoved()``.
    func committed(logPages: Int) -> Bool {
        state.condition.withLock {
            state.logPages = logPages
            if logPages < Self.startPages {
                state.gateFrom = Self.gatePages
                state.holdFrom = Self.holdPages
            } else if !state.isRequested, !state.isRestDue {
                state.isRequested = true
                state.condition.broadcast()
            }
            // A gate that was closed before the log came here does not count: it did not wait for the reads long enough.
            while logPages >= state.holdFrom, !state.isRestDue, !state.isClosed {
                if !state.isRequested {
                    state.isRequested = true
                    state.condition.broadcast()
                }
                state.condition.wait()
            }
            guard state.isRestDue else { return false }
            state.isRestDue = false
            state.isRestMoving = true
            return true
        }
    }

    /// The writer has moved the rest, or tried to.
    func restMoved() {
        state.condition.withLock {
            state.isRestMoving = false
            state.condition.broadcast()
        }
    }

    private static func run(_ state: State, _ file: DatabaseFile, _ logger: Logger) {
        var connection: SQLiteConnection?
        while true {
            let isClosed = state.condition.withLock {
                while !state.isRequested, !state.isClosed { state.condition.wait() }
                return state.isClosed
            }
            if isClosed { return }
            do {
                let open = if let connection { connection } else { try file.open() }
                connection = open
                try move(state, file.gate, with: open, logger)
            } catch {
                logger.checkpointFailed(error)
                connection = nil
                state.endHold()
            }
            state.condition.withLock {
                state.isRequested = false
                if file.poison.isSet { state.isClosed = true }
                state.condition.broadcast()
            }
        }
    }

    private static func move(
        _ state: State, _ gate: ReadGate, with connection: SQLiteConnection, _ logger: Logger
    ) throws(SQLiteFault) {
        var last = Int.max
        for _ in 0..<passesMax {
            let moved = try connection.checkpoint()
            let (logPages, gateFrom) = state.condition.withLock {
                (state.logPages, min(state.gateFrom, state.holdFrom))
            }
            if logPages >= gateFrom { return try moveAll(state, gate, with: connection, logger) }
            let rest = max(0, logPages - moved)
            if rest <= restPages || rest >= last { break }
            last = rest
        }
        state.condition.withLock { state.isRestDue = true }
    }

    /// Moves all while no read is under way, so that the next commit begins the log anew.
    private static func moveAll(
        _ state: State, _ gate: ReadGate, with connection: SQLiteConnection, _ logger: Logger
    ) throws(SQLiteFault) {
        let (holds, isAgain) = state.beginGate()
        if holds, isAgain {
            logger.warning(
                "a read that does not end keeps the write-ahead log from being reset: look for a program that reads the file",
                metadata: ["log_mib": "\(state.condition.withLock { state.logPages } >> 8)"])
        }
        gate.close()
        defer {
            gate.open()
            if holds { state.endHold() }
        }
        guard gate.waitForReads(atMost: holds ? holdMillis : gateMillis) else { return }
        let moved = try connection.checkpoint()
        let deadline = Date(timeIntervalSinceNow: Double(gateMillis) / 1_000)
        state.condition.withLock {
            guard moved < state.logPages else { return }
            state.isRestDue = true
            state.condition.broadcast()
            while state.isRestDue || state.isRestMoving, !state.isClosed {
                guard state.condition.wait(until: deadline) else { return }
            }
        }
    }
}

extension Logger {
    /// Reports a checkpoint that failed. Unless that poisoned the file, all is in the log still, and it is tried again when
    /// more has come in.
    func checkpointFailed(_ error: any Error) {
        guard let fault = error as? SQLiteFault else {
            return warning("a checkpoint failed", metadata: ["error": "\(error)"])
        }
        let isFatal = fault.isFailedSync || fault.isFailedWrite
        log(
            level: isFatal ? .critical : .warning,
            isFatal ? "a checkpoint could not write or sync the database" : "a checkpoint failed",
            metadata: ["error": "\(fault.message)"])
    }
}
