/// Carries out a store's work on the thread of whoever asks, piece by piece, instead of threads of its own: nothing
/// happens meanwhile, and the order of all things is the caller's. For simulations; see ``EventStore/startByHand()``.
package final class StorageHands {
    private let committer: GroupCommitter
    private let readers: ReaderPool
    private let writer: any StorageWriter
    private let reader: any StorageReader

    init(_ committer: GroupCommitter, _ readers: ReaderPool, writer: any StorageWriter, reader: any StorageReader) {
        self.committer = committer
        self.readers = readers
        self.writer = writer
        self.reader = reader
    }

    /// Commits the batch whose turn it is.
    /// - Returns: false where none waits.
    package func commitOne() -> Bool { committer.commitOne(with: writer) }

    /// Carries out the read whose turn it is.
    /// - Returns: false where none waits.
    package func readOne() -> Bool { readers.readOne(with: reader) }
}
