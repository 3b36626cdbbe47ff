public import MartletModel

extension MartletError {
    /// How a storage failure is answered to a peer. Of ``StorageError/description``, which may name hosts, paths and what
    /// libraries said, nothing is in it: that goes to the server's log.
    public init(_ error: StorageError) {
        switch error.kind {
        case .unavailable:
            self.init(
                error,
                "storage cannot be reached or accepts no writes, nothing was written: retry later; the server's log "
                    + "tells the operator why")
        case .outcomeUnknown:
            self.init(
                error,
                "it is unknown whether the call was stored: retry with the same event ids, which is safe either "
                    + "way; the server's log tells the operator why")
        case .full:
            self.init(error, "storage is full, nothing was written: retry once the server's operator has freed space")
        case .corrupted:
            let place = error.place.map { " at \($0)" } ?? ""
            self.init(
                error,
                "stored data is damaged\(place): tell the server's operator to look up the place in the "
                    + "server's log and restore a backup")
        case .schemaTooNew, .misconfigured:
            self.init(
                error,
                "storage is not set up as this server needs it: tell the server's operator to look up the cause in "
                    + "the server's log")
        case .locked:
            self.init(
                error,
                "another program has locked the tenant's data in the database for \(LockWait.max.components.seconds) s, "
                    + "nothing was written: retry later; the server's log tells the operator more")
        case .memoryFull: self.init(error, error.description)
        case .historyChanged: self = .historyChanged(comparableTo: nil)
        }
    }

    /// How a storage failure is told to who runs the server: with all that is known of it. Never for a peer.
    public init(forOperator error: StorageError) {
        switch error.kind {
        case .unavailable:
            self.init(
                error,
                "storage cannot be reached, nothing was written: \(error); check --storage, and that it is there")
        case .outcomeUnknown: self.init(error, "it is unknown whether it was stored: \(error)")
        case .full: self.init(error, "storage is full, nothing was written: \(error)")
        case .corrupted: self.init(error, "storage is damaged: \(error); restore a backup")
        case .schemaTooNew, .misconfigured: self.init(error, "storage cannot be used: \(error)")
        case .locked: self.init(error, "storage is locked, nothing was written: \(error)")
        case .memoryFull: self.init(error, error.description)
        case .historyChanged: self = .historyChanged(comparableTo: nil)
        }
    }

    private init(_ error: StorageError, _ message: String) {
        switch error.kind {
        case .unavailable, .locked:
            self.init(.unavailable, reason: .storageUnavailable, message: message, isRetryable: true)
        case .outcomeUnknown: self.init(.unknown, reason: .outcomeUnknown, message: message, isRetryable: true)
        case .full: self.init(.resourceExhausted, reason: .storageFull, message: message, isRetryable: true)
        case .corrupted: self.init(.dataLoss, reason: .storageCorrupted, message: message)
        case .schemaTooNew, .misconfigured:
            self.init(.failedPrecondition, reason: .storageMisconfigured, message: message)
        case .memoryFull: self.init(.resourceExhausted, reason: .tooManyCalls, message: message, isRetryable: true)
        case .historyChanged: self = .historyChanged(comparableTo: nil)
        }
    }

    /// The storage was restored or failed over, and has a different history.
    ///
    /// - Parameter position: up to here the server knows that nothing has changed; nil where the call delivers to nobody who
    ///   would go on from there.
    public static func historyChanged(comparableTo position: Position?) -> MartletError {
        let next =
            position.map {
                "events up to position \($0) have not changed: undo what was derived from later ones, and subscribe "
                    + "again from there"
            } ?? "start the call again"
        return MartletError(
            .failedPrecondition, reason: .historyChanged,
            message:
                "the storage no longer has the events that this call has read, as after a restore or "
                + "a failover: \(next)", comparablePosition: position)
    }

    /// The storage has no number left for what the call would add.
    public static func storageLimitReached(_ limit: StorageLimit) -> MartletError {
        MartletError(
            .resourceExhausted, reason: .storageLimitReached,
            message: "\(limit): nothing was written; \(limit.advice)")
    }

    /// Expected versions did not hold.
    public static func versionConflicts(_ conflicts: [VersionConflict]) -> MartletError {
        let list = conflicts.prefix(3)
            .map { "\($0.aggregate) is at version \($0.actual), expected \($0.expected)" }
            .joined(separator: "; ")
        let more = conflicts.count > 3 ? "; and \(conflicts.count - 3) more" : ""
        return MartletError(
            .aborted, reason: .versionConflict,
            message: "\(list)\(more): nothing was written; load the new events, decide again and append again",
            conflicts: conflicts)
    }

    /// Event ids are stored with other content, or elsewhere.
    public static func eventIDsReused(_ ids: [ReusedEventID]) -> MartletError {
        let first = ids.first.map { "event id \($0.id) is stored at position \($0.position) in \($0.aggregate)" } ?? ""
        let more = ids.count > 1 ? " and \(ids.count - 1) more" : ""
        return MartletError(
            .alreadyExists, reason: .eventIDReused,
            message: "\(first)\(more), with different content or at another place: nothing was written; "
                + "give new events new ids, and retry a call exactly as it was sent",
            reusedEventIDs: ids)
    }

    static func writeQueueFull(_ limits: Limits, _ command: WriteCommand) -> MartletError {
        let message =
            switch command {
            case .append:
                "the tenant's share of waiting_append_bytes_max, \(limits.waitingAppendBytesMax), is used up "
                    + "by appends waiting to be committed: retry later, or append more slowly"
            case .change:
                "the tenant's share of the room for snapshots and settings waiting to be stored, "
                    + "\(limits.waitingChangeBytesMax) bytes (a quarter of waiting_append_bytes_max), is used up: "
                    + "retry later, or save more slowly"
            }
        return MartletError(.resourceExhausted, reason: .appendQueueFull, message: message, isRetryable: true)
    }

    /// - Parameter count: reads that the tenant has waiting.
    static func readQueueFull(_ limits: Limits, count: Int) -> MartletError {
        MartletError(
            .resourceExhausted, reason: .readQueueFull,
            message: "the tenant's share of waiting_reads_max, \(limits.waitingReadsMax), is used up: "
                + "\(count) of its reads are waiting for storage, as many as are still free for others; "
                + "retry later, or send fewer reads at a time",
            isRetryable: true)
    }

    static func snapshotBeyond(_ version: Version) -> MartletError {
        MartletError(
            .failedPrecondition, reason: .snapshotBeyondAggregate,
            message: "the aggregate is at version \(version): save a snapshot of this version or an earlier one")
    }

    static func settingsConflict(_ revision: UInt64) -> MartletError {
        MartletError(
            .aborted, reason: .settingsConflict,
            message: "the tenant's settings are at revision \(revision): get them, decide again and put them again")
    }

    static var shuttingDown: MartletError {
        MartletError(
            .unavailable, reason: .draining, message: "the server is shutting down: send the call again elsewhere",
            isRetryable: true)
    }
}

extension WriteOutcome {
    /// How a command with this result is answered: nil if it was carried out and has an answer of its own.
    public var refusal: MartletError? {
        switch self {
        case .appended, .snapshotSaved, .snapshotsDeleted, .settingsPut: nil
        case .versionConflict(let conflicts): .versionConflicts(conflicts)
        case .eventIDsReused(let ids): .eventIDsReused(ids)
        case .refused(let error): error
        case .checkpointRefused(let refusal): refusal.error
        case .snapshotBeyondAggregate(let version): .snapshotBeyond(version)
        case .settingsConflict(let revision): .settingsConflict(revision)
        case .limitReached(let limit): .storageLimitReached(limit)
        case .consumer(let outcome): outcome.refusal
        case .schedules(let outcome): outcome.refusal
        case .firing: nil
        }
    }
}
