import Glibc

/// What tells a file from the one that was there before: another file in its place, or other content.
struct FileStamp: Equatable {
    private let numbers: [Int64]

    /// The stamp of a file that can be looked at; nil for none.
    init?(_ path: String) {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else { return nil }
        numbers = [
            Int64(truncatingIfNeeded: status.st_dev), Int64(truncatingIfNeeded: status.st_ino),
            Int64(status.st_size), Int64(status.st_mtim.tv_sec), Int64(status.st_mtim.tv_nsec),
        ]
    }
}
