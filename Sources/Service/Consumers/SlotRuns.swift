import MartletConsumers
import MartletModel
import NIOCore

/// The readings of the log for a worker's slots: one at its end, and one behind it for slots that have not come so far.
final class SlotRuns {
    /// For so long nothing is read where there was no memory for what came, and so long an event waits for its slot before
    /// the others go on without it.
    static let patience = TimeAmount.seconds(1)

    private(set) var all: [SlotRun] = []
    /// Slots that want events and take part in no reading.
    private var wanting: [Int: WorkerSlot] = [:]
    /// Those of them that are behind all readings, while there may be no more of these.
    private var behind: [Int: WorkerSlot] = [:]
    private let tenant: TenantID
    private let handle: CallHandle
    private var waitsUntil: NIODeadline?
    private let onPage: () -> Void
    private let onEnd: (MartletError) -> Void

    init(
        of tenant: TenantID, _ handle: CallHandle, onPage: @escaping () -> Void,
        onEnd: @escaping (MartletError) -> Void
    ) {
        self.tenant = tenant
        self.handle = handle
        self.onPage = onPage
        self.onEnd = onEnd
    }

    /// Whether something is waited for that only time brings.
    var isWaiting: Bool { waitsUntil != nil || all.contains { $0.waitingSince != nil } }

    /// A slot wants events, and takes part in no reading.
    func want(_ slot: WorkerSlot) { if behind[slot.number] !== slot { wanting[slot.number] = slot } }

    /// A slot is the worker's no longer.
    func forget(_ slot: WorkerSlot) {
        if wanting[slot.number] === slot { wanting[slot.number] = nil }
        if behind[slot.number] === slot { behind[slot.number] = nil }
    }

    /// Has slots that want events take part in a reading.
    func attach(_ definition: ConsumerDefinition, now: NIODeadline) {
        if let time = waitsUntil, now < time { return }
        waitsUntil = nil
        if all.count < 2, !behind.isEmpty {
            wanting.merge(behind) { newer, _ in newer }
            behind = [:]
        }
        guard !wanting.isEmpty else { return }
        var left: [Int: WorkerSlot] = [:]
        for slot in wanting.values where slot.wantsRun(definition.delivery, now: now) {
            if let run = all.first(where: { $0.position <= slot.machine.readTo.position }) {
                run.join(slot)
            } else {
                left[slot.number] = slot
            }
        }
        wanting = [:]
        guard let first = left.values.map({ $0.machine.readTo.position }).min() else { return }
        // What no reading will come to waits until one is over.
        guard all.count < 2 else { return behind.merge(left) { _, newer in newer } }
        let run = make(after: first, definition)
        for slot in left.values { run.join(slot) }
        run.start()
    }

    /// Slots that have come as far as the first reading go on with it.
    func merge() {
        for run in all where run.slots.isEmpty { drop(run) }
        guard all.count == 2, all[1].position >= all[0].position else { return }
        for slot in all[1].slots.values { all[0].join(slot) }
        drop(all[1])
    }

    /// Ends all.
    func end() { for run in all { drop(run) } }

    /// Ends a reading, or takes off one that is over: its slots want another one.
    private func drop(_ run: SlotRun) {
        run.end()
        all.removeAll { $0 === run }
        for slot in run.slots.values {
            slot.leaveRun()
            want(slot)
        }
    }

    private func make(after position: Position, _ definition: ConsumerDefinition) -> SlotRun {
        weak var made: SlotRun?
        let run = SlotRun(
            after: position, by: ReadingKey(tenant, definition), handle, onPage: onPage,
            onEnd: { [weak self] error in
                guard let self else { return }
                if let made { drop(made) }
                if let error { return onEnd(error) }
                waitsUntil = handle.eventLoop.now + Self.patience
            })
        made = run
        all.append(run)
        return run
    }
}
