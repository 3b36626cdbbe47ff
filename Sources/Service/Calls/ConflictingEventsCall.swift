import MartletModel
import MartletQueries
import MartletStorage

/// What remains of an append that lost: reads the events that came in between when there is room for them, as a load would
/// deliver them, and ends the call with them. The conflict stands without them where they cannot be read.
enum ConflictingEventsCall {
    /// Goes on with an append whose call is open.
    static func start(_ conflicts: [VersionConflict], _ tenant: TenantID, _ handle: CallHandle) {
        // The append has left its queue: what waits is on the account of the calls.
        let isReplaced = handle.calls.replace(handle.key, of: tenant, stateBytes: conflicts.stateBytes) {
            make(conflicts, tenant, handle)
        }
        if !isReplaced { handle.end(.versionConflicts(conflicts.map(\.withoutEvents))) }
    }

    private static func make(_ conflicts: [VersionConflict], _ tenant: TenantID, _ handle: CallHandle) -> ReadingCall {
        let (queries, counters) = (handle.service.queries, handle.service.counters)
        return ReadingCall(tenant: tenant, answerBytesMax: handle.limits.pageBytesMax, handle) { reader in
            let filled = queries.fill(conflicts, of: tenant, reader: reader)
            if filled.failureCount > 0 { counters.failUpcasts(filled.failureCount) }
            return .failure(.versionConflicts(filled.conflicts))
        }
    }
}

extension VersionConflict {
    /// The conflict where nobody reads the events after the version that the caller knew.
    fileprivate var withoutEvents: VersionConflict {
        var conflict = self
        switch expected {
        case .exact(let version): conflict.eventsTruncated = version < actual
        case .none: conflict.eventsTruncated = .none < actual
        case .any, .exists: break
        }
        return conflict
    }
}
