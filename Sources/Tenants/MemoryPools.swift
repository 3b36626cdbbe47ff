public import MartletModel

/// The memory that peers can make the service hold, beside what the appends' queue, the feeds and the caches bound
/// themselves: each pool is bounded over all connections, with a fair share for each tenant.
public struct MemoryPools: Sendable {
    /// Frames that are under way to the server, from ``Limits/inboundFreeBytes`` on each.
    public let inbound: FairPool
    /// Pages and answers that are being read from storage, and bytes that sockets do not take yet.
    public let outbound: FairPool
    /// Open calls: what they were asked, and their state.
    public let calls: FairPool

    /// Empty pools.
    public init(limits: Limits) {
        inbound = FairPool(bytesMax: limits.inboundBytesMax)
        outbound = FairPool(bytesMax: limits.outboundBytesMax)
        calls = FairPool(bytesMax: limits.callBytesMax)
    }
}
