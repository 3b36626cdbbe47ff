import MartletModel
import MartletStorage

/// Answers which schedules a tenant has.
enum ListSchedulesCall {
    /// What the answer tells of one schedule at most, but for why it is parked.
    private static let scheduleBytes = 1_024

    static func make(_ request: ListSchedulesRequest, _ handle: CallHandle) -> ReadingCall {
        let bytesMax = request.count * (scheduleBytes + BlockedKey.reasonBytesMax)
        return ReadingCall(tenant: request.tenant, answerBytesMax: bytesMax, handle) { reader throws(StorageError) in
            .success(
                .schedules(
                    try reader.schedules(
                        of: request.tenant, after: request.after, isParkedOnly: request.isParkedOnly,
                        countMax: request.count)))
        }
    }
}
