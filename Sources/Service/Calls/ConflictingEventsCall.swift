import MartletModel
import MartletQueries
import MartletStorage

/// What remains of an append that lost: reads the events that came in between, as a load would deliver them, and ends
/// the call with them. The conflict stands without them where they cannot be read.
enum ConflictingEventsCall {
    static func make(_ conflicts: [VersionConflict], _ tenant: TenantID, _ handle: CallHandle) -> ReadingCall {
        let (queries, counters) = (handle.service.queries, handle.service.counters)
        return ReadingCall(tenant: tenant, answerBytesMax: handle.limits.pageBytesMax, handle) { reader in
            let filled = queries.fill(conflicts, of: tenant, reader: reader)
            if filled.failureCount > 0 { counters.failUpcasts(filled.failureCount) }
            return .failure(.versionConflicts(filled.conflicts))
        }
    }
}
