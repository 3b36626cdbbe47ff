import Foundation
import MartletStorage
import NIOConcurrencyHelpers

/// The file of an engine: its path, and which file that was when the engine was prepared.
final class DatabaseFile: Sendable {
    private struct Identity: Hashable {
        var device: UInt64
        var inode: UInt64
    }

    private static let linksMax = 40

    let path: String
    /// What of the file is in memory only, until it is moved there.
    let ranges: RangeBuffer
    private let prepared = NIOLockedValueBox<Identity?>(nil)

    init(path: String, rangesHeldMax: Int = 4_096) {
        self.path = path
        ranges = RangeBuffer(rowsMax: rangesHeldMax)
    }

    /// Remembers which file there is now.
    func remember() {
        let identity = identity
        prepared.withLockedValue { $0 = identity }
    }

    /// Fails when the file at the path is not the prepared one any more. What is written to the one that is open
    /// would be lost, and to open another one would mix it with the log that the first has left behind.
    func check() throws(StorageError) {
        guard let now = identity else {
            throw StorageError(.unavailable, "database file \(path) is gone: put it back")
        }
        guard prepared.withLockedValue({ $0 == nil || $0 == now }) else {
            throw StorageError(
                .unavailable,
                "database file \(path) was replaced: put the old one back, or restart the server to use this one")
        }
    }

    private var identity: Identity? {
        var info = stat()
        guard unsafe stat(path, &info) == 0 else { return nil }
        return Identity(device: UInt64(info.st_dev), inode: UInt64(info.st_ino))
    }

    /// The path without symbolic links at its end, whether there is a file or not.
    var pathWithoutLinks: String {
        var path = path
        for _ in 0..<Self.linksMax {
            guard let target = try? FileManager.default.destinationOfSymbolicLink(atPath: path) else { break }
            let folder = URL(fileURLWithPath: path).deletingLastPathComponent().path
            path = target.hasPrefix("/") ? target : "\(folder)/\(target)"
        }
        return path
    }
}
