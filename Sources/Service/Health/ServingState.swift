/// What of the storage a service needs so that its calls can succeed.
public struct StorageNeeds: OptionSet, Hashable, Sendable {
    /// One bit for each need.
    public let rawValue: UInt8

    /// Needs of those bits.
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// It must answer reads.
    public static let reads = StorageNeeds(rawValue: 1)
    /// It must take commits.
    public static let writes = StorageNeeds(rawValue: 2)
}

/// What a server can do for its callers right now.
public struct ServingState: Hashable, Sendable {
    /// It is shutting down: no call should be begun.
    public var isDraining = false
    /// What its storage does.
    public var storage: StorageNeeds = [.reads, .writes]

    /// It can do everything.
    public init() {}

    /// Whether calls that need this of the storage can succeed.
    public func serves(_ needs: StorageNeeds) -> Bool { !isDraining && storage.isSuperset(of: needs) }
}
