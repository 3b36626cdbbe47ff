/// The two ways in which a storage is used. One can fail without the other: a full disk still answers reads.
public enum StorageUse: Hashable, Sendable, CaseIterable {
    /// Reads, each on a reader's thread.
    case reads
    /// Commits.
    case writes
}

/// What a call, or a probe, found out about a storage.
public enum StorageFinding: Hashable, Sendable {
    /// A read was answered, or a commit has written something. A commit that wrote nothing is no finding: a full disk
    /// takes it too.
    case worked(StorageUse)
    /// A read or a commit failed.
    case failed(StorageUse, StorageError.Kind)
    /// What ``EventStore/probe(_:)`` came to; nil where all is well.
    case probed(StorageUse, StorageError.Kind?)
    /// ``EventStore/probe(_:)`` found no place among the calls that wait.
    case probeRefused(StorageUse)
}

extension StorageError.Kind {
    /// Whether the storage as a whole may be the reason, rather than what is stored or asked of one tenant.
    public var concernsWholeStorage: Bool {
        switch self {
        case .unavailable, .outcomeUnknown, .full, .schemaTooNew, .misconfigured: true
        case .corrupted, .memoryFull, .historyChanged, .locked: false
        }
    }
}
