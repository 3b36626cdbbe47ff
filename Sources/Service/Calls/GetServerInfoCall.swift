public import MartletAccess
public import MartletModel

/// Answers what the server is, and what the caller may use of it.
final class GetServerInfoCall: CallWork {
    private let handle: CallHandle

    init(_ handle: CallHandle) { self.handle = handle }

    func start() { handle.answer(.serverInfo(handle.service.info(for: handle.calls.principal))) }

    func pump() {}

    func cancel() {}
}

extension EventService {
    /// What the server is now, and what a principal may use of it.
    public func info(for principal: Principal) -> ServerInfo {
        ServerInfo(
            serverVersion: serverVersion, scope: principal.tenants, identity: principal.identity, limits: limits,
            serverTime: clock(), features: ServerInfo.currentFeatures)
    }
}
