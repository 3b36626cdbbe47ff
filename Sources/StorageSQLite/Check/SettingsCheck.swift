import MartletModel
import MartletStorage
import NIOCore

/// Whether the documents of each tenant are what was written, and were counted.
struct SettingsCheck {
    private let context: CheckContext
    private(set) var count: UInt64 = 0

    init(_ context: CheckContext) { self.context = context }

    mutating func run() throws(SQLiteFault) {
        let tenants = try TenantLookUp(context.connection)
        try context.connection.prepare(CheckStatements.documents).visit { row throws(SQLiteFault) in
            let isCopy = row.text(1) == "revision"
            let (tenantNo, kind) = (row.integer(0), isCopy ? "the copy of its settings revision" : row.text(2))
            if !isCopy { count += 1 }
            guard let tenant = try tenants.find(tenantNo) else {
                return context.find(
                    .settings, "number \(tenantNo), which has no row", kind, "that tenant number",
                    "the number of a row of tenants")
            }
            if tenant.settingsRevision < 1 {
                context.find(
                    .settings, tenant.name, "row of tenants", "settings revision \(tenant.settingsRevision)",
                    "1 or more, because it has \(kind)")
            }
            if !(1...max(1, tenant.settingsRevision)).contains(row.integer(3)) {
                context.find(
                    .settings, tenant.name, kind, "revision \(row.integer(3))",
                    "from 1 to \(tenant.settingsRevision), the tenant's")
            }
            if !row.isNull(5), let id = tenant.id {
                let sum = Seal.document(
                    unsafe ByteBuffer(bytes: row.blob(4)), kind: row.text(1), key: row.text(2),
                    revision: UInt64(bitPattern: row.integer(3)), tenant: id)
                if row.integer(5) != Int64(sum) {
                    context.find(
                        .settings, tenant.name, kind, "a document with checksum \(sum)",
                        "\(row.integer(5)), that of the document that was written")
                }
            }
            guard row.text(1) == "settings", let complaint = unsafe complaint(row.blob(4)) else { return }
            context.find(.settings, tenant.name, kind, complaint, "a JSON document")
        }
        try context.connection.prepare(CheckStatements.revisions).visit { row throws(SQLiteFault) in
            let name = try tenants.find(row.integer(0))?.name ?? "number \(row.integer(0))"
            context.find(
                .settings, name, "row of tenants", "settings revision \(row.integer(1))",
                "\(row.integer(2)), as in its copy in documents")
        }
    }

    @unsafe private func complaint(_ document: UnsafeRawBufferPointer) -> String? {
        do throws(JSONText.Fault) {
            _ = try unsafe JSONText.check(document)
            return nil
        } catch { return "\(error.complaint) at byte \(error.offset)" }
    }
}
