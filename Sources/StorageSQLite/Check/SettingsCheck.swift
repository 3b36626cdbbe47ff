import MartletModel

/// Whether the settings of each tenant can be read, and were counted.
struct SettingsCheck {
    private let context: CheckContext
    private(set) var count: UInt64 = 0

    init(_ context: CheckContext) { self.context = context }

    mutating func run() throws(SQLiteFault) {
        let tenants = try TenantLookUp(context.connection)
        try context.connection.prepare(CheckStatements.settings).visit { row throws(SQLiteFault) in
            count += 1
            let (tenantNo, kind) = (row.integer(0), row.text(1))
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
            guard let complaint = unsafe complaint(row.blob(2)) else { return }
            context.find(.settings, tenant.name, kind, complaint, "a JSON document")
        }
    }

    @unsafe private func complaint(_ document: UnsafeRawBufferPointer) -> String? {
        do throws(JSONText.Fault) {
            _ = try unsafe JSONText.check(document)
            return nil
        } catch { return "\(error.complaint) at byte \(error.offset)" }
    }
}
