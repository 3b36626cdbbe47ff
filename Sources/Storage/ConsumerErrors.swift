public import MartletModel

extension ConsumerOutcome {
    /// How a change with this result is answered: nil if it was carried out.
    public var refusal: MartletError? {
        switch self {
        case .put, .deleted, .reset, .tended, .progress, .unblocked: nil
        case .missing: .consumerNotFound
        case .exists(let revision):
            MartletError(
                .alreadyExists, reason: .consumerExists,
                message: "the consumer exists with a different definition, of revision \(revision): get it, and put "
                    + "yours with this revision to replace it")
        case .revisionConflict(0):
            MartletError(
                .aborted, reason: .consumerRevisionConflict,
                message: "there is no such consumer, so its definition has no revision: put it as a new one")
        case .revisionConflict(let revision):
            MartletError(
                .aborted, reason: .consumerRevisionConflict,
                message: "the consumer's definition has revision \(revision): get it, decide again and put it again")
        case .divisionInUse(isPaused: false):
            MartletError(
                .failedPrecondition, reason: .consumerInUse,
                message: "slots or key would change, which divides the keys differently: pause the consumer first")
        case .divisionInUse(isPaused: true):
            MartletError(
                .failedPrecondition, reason: .consumerInUse,
                message: "slots or key would change, which divides the keys differently, and keys are blocked: "
                    + "retry or skip them first")
        case .tooMany(let max):
            MartletError(
                .resourceExhausted, reason: .tooManyConsumers,
                message: "the tenant has \(max) consumers, the most that it may have: delete one")
        case .unreadable(let error): error
        }
    }
}

extension CheckpointRefusal {
    /// How the append is answered.
    var error: MartletError {
        switch self {
        case .fenced(epoch: 0):
            MartletError(
                .failedPrecondition, reason: .fenced,
                message: "no worker has the checkpoint's slot: the consumer was reset or deleted; consume again")
        case .fenced(let epoch):
            MartletError(
                .failedPrecondition, reason: .fenced,
                message:
                    "the checkpoint's slot has epoch \(epoch): another worker has it, or the consumer was changed; "
                    + "drop what you have of the slot and wait for it to be assigned again")
        case .settled(let position):
            MartletError(
                .failedPrecondition, reason: .eventSettled,
                message: "the checkpoint's event is settled already, up to position \(position): acknowledge it")
        case .takenBack:
            MartletError(
                .failedPrecondition, reason: .eventTakenBack,
                message: "the checkpoint's event was taken back, since its key was blocked: drop it, it comes again")
        case .missing:
            MartletError(
                .failedPrecondition, reason: .historyChanged,
                message:
                    "the checkpoint's event is not stored at its position: the storage came back with another past; "
                    + "consume again")
        }
    }
}

extension MartletError {
    /// There is no such consumer.
    public static let consumerNotFound = MartletError(
        .notFound, reason: .consumerNotFound, message: "there is no such consumer in the tenant: put it first")

    /// How far slots have come cannot be read.
    static func damagedSlots(_ numbers: Set<Int>) -> MartletError {
        let some = numbers.sorted().prefix(8).map { "\($0)" }.joined(separator: ", ")
        return MartletError(
            .dataLoss, reason: .storageCorrupted,
            message: "what is stored of the consumer's slots \(some) is damaged: reset the consumer to where its "
                + "events are to come again from, or delete it")
    }
}
