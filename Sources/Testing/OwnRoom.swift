public import MartletModel
public import MartletTenants
public import NIOCore

extension AnswerRoom {
    /// Room in a pool and a connection's window that nobody else uses.
    public static func alone(for tenant: TenantID, limits: Limits, on eventLoop: any EventLoop) -> AnswerRoom {
        AnswerRoom(
            pool: MemoryPools(limits: limits).outbound, window: ReadWindow(), tenant: tenant, eventLoop: eventLoop)
    }
}
