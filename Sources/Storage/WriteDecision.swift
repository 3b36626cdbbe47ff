import FoundationEssentials
public import MartletModel
import MartletRecordCodec
import NIOCore

/// The decision on what is written: which commands of a batch are stored, under which versions and positions.
///
/// A pure function of the batch and of ``BatchFacts``, which the engine looked up in the transaction that
/// will store the plan. The commands are decided one after the other, each as if the ones before it were
/// stored already.
///
/// An append, in this order:
///
/// 1. *Replay.* Every event id is stored, each in the aggregate that the call names, with the same
///    content, at consecutive positions in the order of the call: the answer is the original one, whatever
///    the expected versions say. A checkpoint in the call is stored, if it is still to be stored; schedules are not.
/// 2. *Reuse.* Otherwise, any event id that is stored: `EVENT_ID_REUSED`, naming all of them.
/// 3. *Fence.* A checkpoint whose slot another worker has, or whose event is settled or comes again: `FENCED`,
///    `EVENT_SETTLED`, `EVENT_TAKEN_BACK`. Likewise schedules that cannot be set: `EVENT_ID_REUSED`, `TOO_MANY_SCHEDULES`.
/// 4. *Conflict.* Any expected version that does not hold: `VERSION_CONFLICT`, naming all of them.
/// 5. *Limit.* What the storage has no number left for: `STORAGE_LIMIT_REACHED`.
/// 6. *Append.* Versions and positions go on from what is there, in the order of the call.
///    The commit time is `now`, or the tenant's last one where that is later. A snapshot in the call is one of
///    the state after the call's events of its aggregate; which others stay is up to ``SnapshotDecision``.
///
/// A snapshot is saved where its version is one that the aggregate has. Settings are put where they have the revision that
/// is expected; then they have the next one.
public enum WriteDecision {
    /// The facts that deciding this batch takes. An engine looks these up, in any order, in few round trips.
    public static func questions(of batch: [WriteCommand]) -> BatchQuestions {
        var questions = BatchQuestions()
        for command in batch {
            questions.tenants.insert(command.tenant)
            switch command {
            case .append(let request):
                questions.movingTenants.insert(request.tenant)
                if request.hasExtras { questions.addExtras(of: request) }
                for part in request.aggregates {
                    let key = AggregateKey(tenant: request.tenant, name: part.aggregate)
                    questions.aggregates.insert(key)
                    if part.snapshot != nil { questions.snapshots.insert(key) }
                    for event in part.events {
                        questions.events.insert(EventKey(tenant: request.tenant, id: event.id))
                    }
                }
            case .change(.putSettings): questions.movingTenants.insert(command.tenant)
            case .change(.consumer(let change)):
                questions.consumers.add(change)
                if change.movesTenant { questions.movingTenants.insert(command.tenant) }
            case .change(.schedules(let change)):
                questions.schedules.add(change)
                if change.makesTenant { questions.madeTenants.insert(command.tenant) }
                if case .asked(let changes) = change.kind { questions.addEvents(of: changes, command.tenant) }
            case .change(let change):
                guard let name = change.aggregate else { continue }
                let key = AggregateKey(tenant: change.tenant, name: name)
                questions.aggregates.insert(key)
                questions.snapshots.insert(key)
            }
        }
        return questions
    }

    /// Decides a batch.
    ///
    /// - Precondition: within one append, aggregates and event ids are distinct and every aggregate has events;
    ///   the transports refuse others.
    public static func decide(_ batch: [WriteCommand], facts: BatchFacts, now: Timestamp) -> BatchPlan {
        var state = WriteState(facts: facts, now: now)
        state.reserve(for: batch)
        var outcomes: [WriteOutcome] = []
        outcomes.reserveCapacity(batch.count)
        for command in batch {
            switch command {
            case .append(let request): outcomes.append(state.decide(request))
            case .change(let change): outcomes.append(state.decide(change))
            }
        }
        return BatchPlan(outcomes: outcomes, tenants: state.plans())
    }
}

extension BatchQuestions {
    fileprivate mutating func addExtras(of request: AppendRequest) {
        if let checkpoint = request.checkpoint { consumers.add(checkpoint, of: request.tenant) }
        schedules.add(request)
        addEvents(of: request.schedules, request.tenant)
    }

    /// Whether the events of schedules are stored already.
    fileprivate mutating func addEvents(of changes: [ScheduleChange], _ tenant: TenantID) {
        for case .set(let schedule) in changes { events.insert(EventKey(tenant: tenant, id: schedule.event.id)) }
    }
}
