public import MartletModel

/// What a principal may do: the one place where that is decided, for every call and every transport.
public enum AccessTable {
    /// How much of the server's own state a principal sees.
    public enum StatusView: Hashable, Sendable {
        /// Everything.
        case whole
        /// Whether it serves: nothing that tells of other tenants' activity.
        case health
    }

    /// Why the principal may not make the call; nil where it may.
    public static func refusal(of request: CallRequest, to principal: Principal) -> MartletError? {
        let refused =
            if case .consumeTenants(let request) = request {
                request.tenants.first { !principal.tenants.allows($0) }
            } else {
                request.tenant.flatMap { principal.tenants.allows($0) ? nil : $0 }
            }
        guard let tenant = refused else { return nil }
        return MartletError(
            .permissionDenied, reason: .tenantNotAllowed,
            message: "the connection's certificate does not name tenant \(tenant): use one that does")
    }

    /// What `GetStatus` answers to the principal.
    public static func statusView(of principal: Principal) -> StatusView {
        switch principal.tenants {
        case .all: .whole
        case .only: .health
        }
    }
}
