import MartletConsumers
import MartletModel
import NIOCore

/// The readings of the log for a worker's slots: one at its end, and one behind it for slots that have not come so far.
final class SlotRuns {
    /// For so long nothing is read where there was no memory for what came, and so long an event waits for its slot before
    /// the others go on without it.
    static let patience = TimeAmount.seconds(1)

    private(set) var all: [SlotRun] = []
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

    /// Has slots that want events take part in a reading.
    func attach(_ slots: WorkerSlots, _ definition: ConsumerDefinition, now: NIODeadline) {
        if let time = waitsUntil, now < time { return }
        waitsUntil = nil
        var waiting: [WorkerSlot] = []
        for slot in slots.all.values where slot.run == nil && !slot.isReturning && slot.machine.hasRoom {
            // One that was left behind comes back when it can take more than a few.
            guard slot.machine.underWayCount <= definition.delivery.inFlightMax / 2 else { continue }
            if let run = all.first(where: { $0.position <= slot.machine.readTo.position }) {
                Self.join(slot, run)
            } else {
                waiting.append(slot)
            }
        }
        guard !waiting.isEmpty, all.count < 2, let first = waiting.map(\.machine.readTo.position).min() else { return }
        let run = make(after: first, definition)
        for slot in waiting { Self.join(slot, run) }
        run.start()
    }

    /// Slots that have come as far as the first reading go on with it.
    func merge(_ slots: WorkerSlots) {
        for run in all where run.slots.isEmpty { drop(run) }
        guard all.count == 2, all[1].position >= all[0].position else { return }
        let second = all[1]
        for number in second.slots {
            if let slot = slots[number] { Self.join(slot, all[0]) }
        }
        drop(second)
    }

    /// Ends all.
    func end() {
        for run in all { run.end() }
        all = []
    }

    private static func join(_ slot: WorkerSlot, _ run: SlotRun) {
        run.slots.insert(slot.number)
        slot.run = run
    }

    private func drop(_ run: SlotRun) {
        run.end()
        all.removeAll { $0 === run }
    }

    private func make(after position: Position, _ definition: ConsumerDefinition) -> SlotRun {
        weak var made: SlotRun?
        let run = SlotRun(
            after: position, of: tenant, definition, handle, onPage: onPage,
            onEnd: { [weak self] error in
                guard let self else { return }
                all.removeAll { $0 === made }
                if let error { return onEnd(error) }
                waitsUntil = handle.eventLoop.now + Self.patience
            })
        made = run
        all.append(run)
        return run
    }
}
