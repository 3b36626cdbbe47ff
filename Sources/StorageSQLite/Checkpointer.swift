import Foundation
import Logging
import MartletStorage

/// Moves what is in the write-ahead log into the database, beside the commits.
///
/// SQLite's own way is that the commit which fills the log moves all of it, while the next ones wait. Here a thread with
/// a connection of its own does so while commits go on. What they add meanwhile takes it a shorter pass, and so on; the
/// last small rest is left to the writer, between two commits, upon which the log begins anew.
final class Checkpointer {
    /// Pages in the log from which on it is worth while to move them.
    static let startPages = 2_000
    /// A rest of so many pages is left to the writer.
    static let restPages = 250
    private static let passesMax = 8

    /// `@unchecked Sendable`: everything mutable is guarded by `condition`.
    private final class State: @unchecked Sendable {
        let condition = NSCondition()
        var logPages = 0
        var isRequested = false
        var isRestDue = false
        var isClosed = false
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

    /// A commit left so many pages in the log.
    /// - Returns: whether the writer is to move the rest now.
    func committed(logPages: Int) -> Bool {
        state.condition.withLock {
            state.logPages = logPages
            if state.isRestDue {
                state.isRestDue = false
                return true
            }
            if logPages >= Self.startPages, !state.isRequested {
                state.isRequested = true
                state.condition.broadcast()
            }
            return false
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
                try move(state, with: open)
            } catch {
                // All is in the log still; it is tried again when more has come in.
                logger.warning("a checkpoint failed", metadata: ["error": "\(error)"])
                connection = nil
            }
            state.condition.withLock { state.isRequested = false }
        }
    }

    private static func move(_ state: State, with connection: SQLiteConnection) throws(SQLiteFault) {
        var last = Int.max
        for _ in 0..<passesMax {
            let moved = try connection.checkpoint()
            let rest = max(0, state.condition.withLock { state.logPages } - moved)
            if rest <= restPages || rest >= last { break }
            last = rest
        }
        state.condition.withLock { state.isRestDue = true }
    }
}
