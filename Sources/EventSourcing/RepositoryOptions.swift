public import MartletClient
import MartletModel

/// When a repository saves snapshots of aggregates that are Codable. A save that fails never fails the command.
public enum Snapshots: Hashable, Sendable {
    /// When the server says that one is due, by the tenant's policy; saved after the append.
    case whenDue
    /// When this many events have been stored since the last one; saved together with the events.
    case every(UInt64)
    /// Never; those that are there are used.
    case never
}

/// How a repository works.
public struct RepositoryOptions: Hashable, Sendable {
    /// When snapshots are saved.
    public var snapshots = Snapshots.whenDue
    /// How often a command is decided in all, when others write to the same aggregate in between; 1 or more.
    public var decisionsMax = 20
    /// How often the same append is sent in all, when its outcome is not known or the server cannot be reached. The
    /// client itself tries for ``ClientConfiguration/retryBudget`` each time.
    public var sendsMax = 4
    /// How long to wait in between.
    public var backoff = Backoff(initial: .milliseconds(5), max: .seconds(1))

    /// The options that suit most.
    public init() {}
}

/// What a repository and its copies have done so far.
public struct RepositoryFigures: Hashable, Sendable {
    /// Loads, those of commands included.
    public var loads: UInt64 = 0
    /// Events that were applied to rebuild states.
    public var eventsReplayed: UInt64 = 0
    /// Loads that began with a snapshot.
    public var snapshotsUsed: UInt64 = 0
    /// Snapshots that the server passed over: of a schema that this program cannot read, damaged, or not upcast.
    public var snapshotsSkipped: UInt64 = 0
    /// Snapshots that came and could not be upcast or decoded here; the events were replayed instead.
    public var snapshotsUndecodable: UInt64 = 0
    /// Snapshots saved.
    public var snapshotsSaved: UInt64 = 0
    /// Snapshots that could not be saved; their commands were carried out all the same.
    public var snapshotSavesFailed: UInt64 = 0
    /// Commands that were carried out, those without events included.
    public var commands: UInt64 = 0
    /// Times that a command was decided again on what others had written.
    public var conflicts: UInt64 = 0
    /// Times that an append was sent again with the same event ids.
    public var resends: UInt64 = 0
    /// Events of unknown types that were left out, by ``UnknownEvents/skip``.
    public var unknownEventsSkipped: UInt64 = 0

    /// Nothing yet.
    public init() {}
}
