import MartletModel

/// Names work that was given to an ``EventStore``, so that it can be cancelled. A plain value.
public struct StoreTicket: Hashable, Sendable {
    enum Kind: UInt8, Sendable {
        case write
        case read
    }

    let kind: Kind
    let tenant: TenantID
    let number: UInt64
}
