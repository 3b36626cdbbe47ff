public import FoundationEssentials
public import MartletEventSourcing
public import MartletModel

/// What an instance of a process does about an event: all of it in one append, or none.
///
///     Plan()
///         .execute(.withdraw(cents: 500), on: Account.self, from) { refusal in Plan().record(.rejected("\(refusal)")) }
///         .record(.withdrawn)
///         .setTimeOut("arrival", after: .seconds(60), .overdue)
///
/// A plan that does anything records an event of the instance: that guards it against plans for other events of the same
/// instance that are made at the same time.
public struct ProcessPlan<State: Aggregate>: Sendable {
    /// When a time-out is due.
    enum Due: Hashable, Sendable {
        case after(Duration)
        case at(Timestamp)
    }

    /// A command to an aggregate of some type.
    struct Command: Sendable {
        var carryOut: @Sendable (inout Reaction) async throws -> Void
        var ifRefused: (@Sendable (any Error) throws -> ProcessPlan)?
    }

    enum Step: Sendable {
        case record([State.Event])
        case execute(Command)
        case append([NewEvent], AggregateName, ExpectedVersion)
        case setTimeOut(String, Due, State.Event)
        case cancelTimeOut(String)
    }

    private(set) var steps: [Step] = []

    /// A plan that does nothing: the event is acknowledged.
    public init() {}

    private func adding(_ step: Step) -> ProcessPlan {
        var plan = self
        plan.steps.append(step)
        return plan
    }

    var isEmpty: Bool { steps.isEmpty }

    /// Records events of the instance. They do not come back to the process.
    public func record(_ events: State.Event...) -> ProcessPlan { adding(.record(events)) }

    /// Has another aggregate decide on a command. What it decides is appended on the condition that nobody has changed it;
    /// otherwise it is asked again.
    /// - Parameter ifRefused: what the instance does instead of this whole plan if `decide` throws. Without it, the event
    ///   fails with the refusal, and is tried again.
    public func execute<A: CommandHandling>(
        _ command: A.Command, on type: A.Type, _ id: UUID,
        ifRefused: (@Sendable (_ refusal: any Error) throws -> ProcessPlan)? = nil
    ) -> ProcessPlan {
        adding(
            .execute(
                Command(
                    carryOut: { reaction in try await reaction.decide(command, type, id) }, ifRefused: ifRefused)))
    }

    /// Appends events to an aggregate that does not decide on them: one of another program, or an inbox.
    /// - Parameter expected: what its version must be before the append. If it is not, the plan is made again, and the event
    ///   fails if that does not help.
    public func append(
        _ events: NewEvent..., to aggregate: AggregateName, expecting expected: ExpectedVersion = .any
    ) -> ProcessPlan { adding(.append(events, aggregate, expected)) }

    /// Has the server append an event to the instance when that time has passed since the event that is planned for was
    /// recorded. It then comes to the process like any other event.
    /// - Parameter name: names it within the instance: setting it again moves it. Characters of `[A-Za-z0-9_.:-]`; with the
    ///   type of the process, at most 90.
    public func setTimeOut(_ name: String, after delay: Duration, _ event: State.Event) -> ProcessPlan {
        adding(.setTimeOut(name, .after(delay), event))
    }

    /// As ``setTimeOut(_:after:_:)``, at that time.
    public func setTimeOut(_ name: String, at time: Timestamp, _ event: State.Event) -> ProcessPlan {
        adding(.setTimeOut(name, .at(time), event))
    }

    /// Cancels a time-out of the instance; nothing happens if there is none of that name.
    public func cancelTimeOut(_ name: String) -> ProcessPlan { adding(.cancelTimeOut(name)) }
}
