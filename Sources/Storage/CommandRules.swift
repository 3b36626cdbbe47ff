public import MartletModel

/// What tenants' settings say of what they write. A command waits in its tenant's queue until it is complete by them, so that
/// commands are decided in the order in which they came, whatever had to be read before.
public protocol CommandRules: Sendable {
    /// The command as it is decided, by settings that are known; nil where those of its tenant are not. On any thread, at once.
    ///
    /// `isOld` where they may have changed on another server meanwhile: then they are to be read again, for those that follow.
    func complete(_ command: WriteCommand) -> (command: WriteCommand, isOld: Bool)?

    /// Reads what the tenant's settings say; on a reader's thread.
    func read(_ tenant: TenantID, _ reader: any StorageReader) throws(StorageError) -> CommandCompletion
}

/// Completes the commands of one tenant.
public typealias CommandCompletion = @Sendable (WriteCommand) -> WriteCommand

/// No settings: every command is complete as it is.
struct NoRules: CommandRules {
    func complete(_ command: WriteCommand) -> (command: WriteCommand, isOld: Bool)? { (command, false) }

    func read(_ tenant: TenantID, _ reader: any StorageReader) throws(StorageError) -> CommandCompletion { { $0 } }
}

extension WriteCommand {
    /// Settings only say what to advise, so that it can be decided without them where they cannot be read.
    var isDecidedWithoutRules: Bool {
        switch self {
        case .append(let request): !request.aggregates.contains { $0.snapshot != nil }
        case .change: false
        }
    }
}
