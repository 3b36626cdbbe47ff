import Foundation

/// A file that a command writes at its end, opened at its beginning: a path that cannot be written is noticed before the
/// work, and not after it.
final class OutputFile {
    private let option: String
    private let path: String
    private let handle: FileHandle
    /// Whether the file is there because of this command, and empty.
    private var isNew: Bool

    /// Opens the file. What is in it stays until ``write(_:)``.
    /// - Parameter option: that names it.
    /// - Throws: ``UsageError`` if it cannot be written.
    init(_ path: String, option: String) throws {
        isNew = !FileManager.default.fileExists(atPath: path)
        // Never emptied here: a run that fails leaves the last one's figures.
        let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else {
            throw UsageError(
                "\(option) \(path) cannot be written: \(unsafe String(cString: strerror(errno))). Name a file in a folder "
                    + "that you may write to")
        }
        (self.option, self.path) = (option, path)
        handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    }

    deinit {
        if isNew { unsafe unlink(path) }
    }

    /// Replaces what is in the file.
    func write(_ bytes: Data) throws {
        isNew = false
        do {
            // A device has no length.
            try? handle.truncate(atOffset: 0)
            try handle.write(contentsOf: bytes)
            try handle.close()
        } catch {
            throw CommandFailure(
                "\(option) \(path) could not be written whole: check the free space of its disk, and run again")
        }
    }
}
