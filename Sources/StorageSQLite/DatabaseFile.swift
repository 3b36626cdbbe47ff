import Foundation
import Logging
import MartletStorage
import NIOConcurrencyHelpers

/// The file of an engine: its path, and which file that was when the engine was prepared.
final class DatabaseFile: Sendable {
    private static let linksMax = 40

    let path: String
    /// What of the file is in memory only, until it is moved there.
    let ranges: PendingRanges
    /// What reads of the file pass.
    let gate = ReadGate()
    /// Set once a sync of the file has failed.
    let poison = Poison()
    /// Held from ``lock(_:)`` on until nobody uses the file any more.
    private let held = NIOLockedValueBox<FileLock?>(nil)

    init(path: String, rangesHeldMax: Int = 4_096) {
        self.path = path
        ranges = PendingRanges(rowsMax: rangesHeldMax)
    }

    /// Keeps other servers away, and remembers which file there is now.
    func lock(_ logger: Logger) throws(StorageError) {
        guard held.withLockedValue({ $0 == nil }) else { return }
        let lock = try FileLock(path: pathWithoutLinks, logger: logger)
        held.withLockedValue { $0 = lock }
    }

    /// Fails when the file at the path is not the prepared one any more. What is written to the one that is open
    /// would be lost, and to open another one would mix it with the log that the first has left behind.
    func check() throws(StorageError) {
        guard let now = FileIdentity(path: path) else {
            throw StorageError(.unavailable, "database file \(path) is gone: put it back")
        }
        guard held.withLockedValue({ $0 == nil || $0?.identity == now }) else { throw replaced }
    }

    /// Opens the file, and makes sure that it is the prepared one that was opened.
    func open(creates: Bool = false) throws(StorageError) -> SQLiteConnection {
        let connection = try SQLiteConnection(path: path, creates: creates, poison: poison)
        try check()
        guard !connection.hasMoved else { throw replaced }
        return connection
    }

    private var replaced: StorageError {
        StorageError(
            .unavailable,
            "database file \(path) was replaced: put the old one back, or restart the server to use this one")
    }

    /// The path without symbolic links at its end, whether there is a file or not.
    private var pathWithoutLinks: String {
        var path = path
        for _ in 0..<Self.linksMax {
            guard let target = try? FileManager.default.destinationOfSymbolicLink(atPath: path) else { break }
            let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
            path = target.hasPrefix("/") ? target : "\(folder)/\(target)"
        }
        return path
    }
}
