public import MartletModel
import NIOCore

/// All that one call writes: decided as a whole by ``WriteDecision``, stored as a whole or not at all.
public enum WriteCommand: Hashable, Sendable {
    /// Events of one tenant, and snapshots of the states after them.
    case append(AppendRequest)
    /// A change beside the events.
    case change(TenantChange)

    /// Whose it is.
    public var tenant: TenantID {
        switch self {
        case .append(let request): request.tenant
        case .change(let change): change.tenant
        }
    }

    /// Whether it changes nothing but how far consumers have come and who works on them: nothing by which an append without
    /// a checkpoint is decided, and nothing that depends on one. The two may be committed in any order, or side by side.
    public var isOfConsumers: Bool {
        if case .change(.consumer(let change)) = self { !change.movesTenant } else { false }
    }

    /// Bytes that it carries.
    public var contentBytes: Int {
        switch self {
        case .append(let request): request.contentBytes
        case .change(let change): change.contentBytes
        }
    }

    /// Memory that it keeps; 0 where nobody has said (``AppendRequest/heldBytes``).
    public var heldBytes: Int { if case .append(let request) = self { request.heldBytes } else { 0 } }

    /// How many rows it adds, about: an append's events and schedules, what a change writes.
    public var rowCount: Int {
        switch self {
        case .append(let request): request.eventCount + (request.hasExtras ? request.schedules.count : 0)
        case .change(let change): change.rowCount
        }
    }
}

/// A change that a tenant asks for beside its events. Boxed: it is passed on many times.
public indirect enum TenantChange: Hashable, Sendable {
    /// Saves a snapshot; of those that the aggregate then has, this many are kept.
    case saveSnapshot(SaveSnapshotRequest, kept: Int)
    /// Deletes snapshots.
    case deleteSnapshots(DeleteSnapshotsRequest)
    /// Replaces settings.
    case putSettings(PutSettingsRequest)
    /// Changes a consumer, or what is stored of it.
    case consumer(ConsumerChange)
    /// Changes schedules.
    case schedules(SchedulesChange)

    /// The tenant.
    public var tenant: TenantID {
        switch self {
        case .saveSnapshot(let request, _): request.tenant
        case .deleteSnapshots(let request): request.tenant
        case .putSettings(let request): request.tenant
        case .consumer(let change): change.consumer.tenant
        case .schedules(let change): change.tenant
        }
    }

    /// The aggregate whose snapshots it is about; nil where it is about none.
    public var aggregate: AggregateName? {
        switch self {
        case .saveSnapshot(let request, _): request.aggregate
        case .deleteSnapshots(let request): request.aggregate
        case .putSettings, .consumer, .schedules: nil
        }
    }

    /// Bytes that it carries.
    public var contentBytes: Int {
        switch self {
        case .saveSnapshot(let request, _): request.snapshot.payload.readableBytes
        case .deleteSnapshots: 0
        case .putSettings(let request): request.document.readableBytes
        case .consumer(let change): change.contentBytes
        case .schedules(let change): change.contentBytes
        }
    }

    fileprivate var rowCount: Int {
        switch self {
        case .consumer(let change): change.rowCount
        case .schedules(let change): change.keys.count
        case .saveSnapshot, .deleteSnapshots, .putSettings: 1
        }
    }
}

/// The result of a command: the caller decides what to make of it, so these are values, not errors.
public enum WriteOutcome: Hashable, Sendable {
    /// The events are stored, now or (replayed) before.
    case appended(AppendReceipt)
    /// These expected versions did not hold; nothing was written.
    case versionConflict([VersionConflict])
    /// These ids are stored with other content or elsewhere; nothing was written.
    case eventIDsReused([ReusedEventID])
    /// None of it is stored, and a rule for new events keeps it out (``AppendRequest/admission``); nothing was written.
    indirect case refused(MartletError)
    /// The call's checkpoint cannot be stored; nothing was written.
    case checkpointRefused(CheckpointRefusal)
    /// The snapshot was saved, or was not worth keeping.
    case snapshotSaved(SaveSnapshotReceipt)
    /// The aggregate has only that version; nothing was written.
    case snapshotBeyondAggregate(Version)
    /// The number of snapshots deleted.
    case snapshotsDeleted(Int)
    /// The settings have that revision now.
    case settingsPut(revision: UInt64)
    /// The settings have that revision, not the expected one; nothing was written.
    case settingsConflict(revision: UInt64)
    /// What became of a change of a consumer.
    indirect case consumer(ConsumerOutcome)
    /// What became of a change of schedules.
    indirect case schedules(SchedulesOutcome)
    /// Why the event of a schedule was not appended.
    indirect case firing(FiringOutcome)
    /// The storage has no number left for what the command would add; nothing was written.
    case limitReached(StorageLimit)

    /// The receipt of an accepted append.
    public var receipt: AppendReceipt? {
        if case .appended(let receipt) = self { receipt } else { nil }
    }
}
