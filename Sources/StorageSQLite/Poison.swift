import NIOConcurrencyHelpers

/// Whether a sync of a database has failed, in this process.
///
/// The system may have dropped what it could not write, and reports that once: no later sync proves anything. Then nothing
/// more is committed or checkpointed, and closing a connection leaves the write-ahead log as it is, for the next start to
/// recover from. See Docs/decisions/0010.
final class Poison: Sendable {
    private let box = NIOLockedValueBox(false)

    var isSet: Bool { box.withLockedValue { $0 } }

    func set() { box.withLockedValue { $0 = true } }
}
