public import MartletModel
public import MartletStorage
public import NIOCore

/// What the snapshot policies of tenants say of what they write: when a snapshot is due, and how many are kept.
public struct SettingsRules: CommandRules {
    private let settings: SettingsCache
    private let uptime: @Sendable () -> NIODeadline

    /// Rules by those settings.
    /// - Parameter uptime: the clock of the event loops.
    public init(_ settings: SettingsCache, uptime: @escaping @Sendable () -> NIODeadline) {
        self.settings = settings
        self.uptime = uptime
    }

    /// By what is known of the tenant's settings.
    public func complete(_ command: WriteCommand) -> (command: WriteCommand, isOld: Bool)? {
        guard command.goesByPolicies else { return (command, false) }
        guard let known = settings.known(command.tenant, now: uptime()) else { return nil }
        return (command.under(known.settings.policies), known.isOld)
    }

    /// By what storage has.
    public func read(_ tenant: TenantID, _ reader: any StorageReader) throws(StorageError) -> CommandCompletion {
        let policies = try settings.resolve(tenant, try reader.tenantState(of: tenant), reader: reader).policies
        return { $0.under(policies) }
    }
}

extension WriteCommand {
    fileprivate var goesByPolicies: Bool {
        switch self {
        case .append, .change(.saveSnapshot): true
        case .change: false
        }
    }

    fileprivate func under(_ policies: SnapshotPolicies) -> WriteCommand {
        switch self {
        case .append(let request): .append(request.under(policies))
        case .change(.saveSnapshot(let request, _)):
            .change(.saveSnapshot(request, kept: policies[request.aggregate.type].kept))
        case .change: self
        }
    }
}
