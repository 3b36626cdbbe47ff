import FoundationEssentials
import MartletModel
import MartletStorage

/// The text of the one notification that a batch sends: `tenant:position:recorded_at` of each, with commas
/// between; `*` where that is too long for a notification.
enum CommitNotice {
    /// PostgreSQL takes less than 8,000 bytes.
    private static let bytesMax = 7_900

    /// Something changed that is not told.
    static let unknown = "*"

    static func encode(_ heads: [(TenantID, TenantHead)]) -> String {
        let text = heads.map { "\($0):\($1.position):\($1.recordedAt.microseconds)" }.joined(separator: ",")
        return text.utf8.count <= bytesMax ? text : unknown
    }

    /// Nil for what does not say which tenants moved.
    static func decode(_ text: String) -> [TenantID: TenantHead]? {
        var heads: [TenantID: TenantHead] = [:]
        for entry in text.split(separator: ",") {
            let parts = entry.split(separator: ":")
            guard parts.count == 3, let uuid = UUID(text: parts[0]), let position = UInt64(parts[1]),
                position <= Position.max.rawValue,
                let micros = Int64(parts[2])
            else { return nil }
            heads[TenantID(uuid)] = TenantHead(
                position: Position(position), recordedAt: Timestamp(microseconds: micros))
        }
        return heads
    }
}
