import FoundationEssentials
import MartletModel
import MartletStorage

/// The texts of the notifications that a batch sends: `tenant:position:recorded_at` of each tenant that has new events,
/// `tenant:0:0` of one that has other settings, with commas between; as many as it takes.
enum CommitNotice {
    /// PostgreSQL takes less than 8,000 bytes.
    private static let bytesMax = 7_900

    static func encode(_ heads: [(TenantID, TenantHead)]) -> [String] {
        var texts: [String] = []
        var text = ""
        for (tenant, head) in heads {
            let entry = "\(tenant):\(head.position):\(head.recordedAt.microseconds)"
            if text.utf8.count + entry.utf8.count + 1 > bytesMax {
                texts.append(text)
                text = ""
            }
            text += text.isEmpty ? entry : "," + entry
        }
        return text.isEmpty ? texts : texts + [text]
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
