import FoundationEssentials
import MartletConsumers
import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletTenants
import NIOCore

/// One worker of a consumer: has slots of it, reads their events, delivers them on the worker's stream, and has stored how far
/// they have come. Used on the stream's event loop.
final class ConsumerWorker {
    private enum State {
        case idle
        case working
        case ended
    }

    /// A slot that only read on is stored so often, or after so many positions.
    private static let idleSave = TimeAmount.seconds(10)
    private static let idleSavePositions: UInt64 = 10_000
    private static let readingKeysMax = 4

    private let request: ConsumeRequest
    private let stream: WorkerStream
    private let handle: CallHandle
    private let session = UUID()
    private var state = State.idle
    private var definition = ConsumerDefinition()
    private var revision: UInt64 = 0
    let slots = WorkerSlots()
    private var runs: SlotRuns?
    /// Slots that may have events of keys that are tried again to deliver.
    private var retrying = SlotQueue()
    /// Slots that may have a key to read.
    private var wantingKeys = SlotQueue()
    /// Slots that are being opened, with their epochs.
    private var opening: [Int: UInt64] = [:]
    private var openings: [StoreTicket] = []
    /// Slots that were given back, with their epochs, until a view is without them: one that is older names them still.
    private var returned: [Int: UInt64] = [:]
    private var readingKeys = 0
    private var batch = DeliveryBatch()
    private var timer: Scheduled<Void>?
    private var memory: WorkerMemory
    private var isPumping = false
    private var hasToldSlots = false
    /// It waits for its turn on the stream, which sets these: with something to do, and with something to deliver.
    var isDue = false
    var isWaiting = false
    /// What is left of its turn, in bytes; nil where that has not begun.
    var turnLeft: Int?
    private var hasToldPause = false
    private let metrics: WorkerMetrics

    init(_ request: ConsumeRequest, on stream: WorkerStream) {
        let handle = stream.handle
        self.request = request
        self.stream = stream
        self.handle = handle
        memory = WorkerMemory(handle.service.pools.calls, .tenant(request.consumer.tenant))
        metrics = WorkerMetrics(handle.service, request.consumer, session, now: handle.eventLoop.now)
        slots.worker = self
    }

    private var service: EventService { handle.service }
    var id: ConsumerID { request.consumer }
    var isWorking: Bool { if case .working = state { true } else { false } }
    private var now: SlotMachine.Moment {
        SlotMachine.Moment(uptime: handle.eventLoop.now, time: service.clock())
    }

    // MARK: What its call says

    func start() {
        state = .working
        runs = SlotRuns(
            of: id.tenant, handle, onPage: { [weak self] in self?.pump() },
            onEnd: { [weak self] error in
                self?.end(error.reason == .historyChanged ? .consumerHistoryChanged(nil) : error)
            })
        let bound = NIOLoopBound(self, eventLoop: handle.eventLoop)
        let worker = GroupTending.Worker(
            session: session, name: request.worker, epochAbove: request.epochAbove, isNew: true)
        service.groups.join(worker, of: id, now: handle.eventLoop.now) { news in
            bound.eventLoop.execute { bound.value.take(news) }
        }
        scheduleTick()
    }

    /// It has nothing to do with the stream any more.
    func cancel() {
        state = .ended
        timer?.cancel()
        runs?.end()
        for ticket in openings { service.store.cancel(ticket) }
        var savings: [SlotSaving] = []
        for slot in slots.all.values {
            if let ticket = slot.readingKey { service.store.cancel(ticket) }
            // What was settled is stored as far as nobody else has the slot by then: less comes again. What is on its way
            // comes before it, or not at all.
            slot.machine.notSaved()
            slot.readOn()
            if let change = slot.machine.nextChange() { savings.append(SlotSaving(slot: slot.number, change: change)) }
        }
        let now = handle.eventLoop.now
        service.progress.saveLast(savings, of: id, now: now)
        service.groups.leave(session, of: id, now: now)
        metrics.end(slots.takeCounts())
        memory.giveBack()
        slots.removeAll()
    }

    private func end(_ error: MartletError) {
        guard case .working = state else { return }
        stream.ended(self, error)
    }

    private func send(_ message: ConsumeMessage) { stream.send(message, of: id.tenant) }

    // MARK: Which slots it has

    private func take(_ news: ConsumerGroups.News) {
        guard case .working = state else { return }
        switch news {
        case .failed(let error): end(error)
        case .refused(.replaced): end(.workerReplaced)
        case .refused(.full): end(.tooManyWorkers(handle.limits))
        case .view(let view, let worker): take(view, worker)
        }
    }

    private func take(_ view: GroupView, _ worker: GroupView.Worker) {
        if view.revision != revision {
            // Nothing is read on as it was defined before.
            runs?.end()
            definition = view.definition
            revision = view.revision
        }
        let granted = Dictionary(worker.slots.map { ($0.number, $0.epoch) }) { $1 }
        revoke(slots.all.values.filter { granted[$0.number] != $0.epoch })
        opening = opening.filter { granted[$0.key] == $0.value }
        returned = returned.filter { granted[$0.key] == $0.value }
        open(
            worker.slots.filter {
                slots[$0.number] == nil && opening[$0.number] == nil && returned[$0.number] == nil
            })
        // Those that the view still has though they are given back are some of them.
        giveBack(excess: worker.excess - returned.count)
        metrics.begin(now: handle.eventLoop.now)
        if !hasToldSlots, opening.isEmpty { tell([]) }
        tellPause()
        pump()
    }

    private func revoke(_ lost: [WorkerSlot]) {
        guard !lost.isEmpty else { return }
        for slot in lost {
            slot.machine.fence()
            forget(slot)
        }
        send(.revoked(lost.map(\.number).sorted()))
    }

    private func forget(_ slot: WorkerSlot) {
        slot.leaveRun()
        runs?.forget(slot)
        if let ticket = slot.readingKey, service.store.cancel(ticket) { readingKeys -= 1 }
        slot.readingKey = nil
        if slot.stopReason != nil { service.groups.forgetStop(of: slot.number, session, of: id) }
        stream.deliveries.forget(slot)
        _ = slots.remove(slot.number)
    }

    private func open(_ new: [GroupView.Slot]) {
        guard !new.isEmpty else { return }
        for slot in new { opening[slot.number] = slot.epoch }
        let id = id
        openings.append(
            handle.read(
                for: id.tenant,
                { reader throws(StorageError) in try SlotOpening.read(new, of: id, reader: reader) }
            ) { [self] result in
                guard case .working = state else { return }
                openings.removeFirst()
                switch result.flatMap({ $0 }) {
                case .success(let (opened, head)): take(opened, head: head)
                case .failure(let error) where error.isRetryable:
                    // The group says again that they are this worker's.
                    for slot in new where opening[slot.number] == slot.epoch { opening[slot.number] = nil }
                case .failure(let error): end(error)
                }
            })
    }

    private func take(_ opened: [OpenedSlot], head: Position) {
        var assigned: [ConsumeMessage.Slot] = []
        for slot in opened where opening[slot.number] == slot.epoch {
            opening[slot.number] = nil
            let machine = SlotMachine(
                epoch: slot.epoch, progress: slot.progress, repeatedTo: head, settings: definition.delivery,
                keepsTime: request.keepsTime)
            slots.add(WorkerSlot(number: slot.number, epoch: slot.epoch, machine: machine, now: handle.eventLoop.now))
            assigned.append(
                ConsumeMessage.Slot(number: slot.number, epoch: slot.epoch, checkpoint: slot.progress.floor))
        }
        tell(assigned)
        pump()
    }

    private func tell(_ assigned: [ConsumeMessage.Slot]) {
        guard !assigned.isEmpty || !hasToldSlots else { return }
        hasToldSlots = true
        send(.assigned(assigned))
        tellPause()
    }

    /// Not before the worker was told of its slots, which comes first.
    private func tellPause() {
        guard hasToldSlots, definition.isPaused != hasToldPause else { return }
        hasToldPause = definition.isPaused
        send(.paused(hasToldPause))
    }

    /// Has the last slots run dry, so that others get them.
    private func giveBack(excess: Int) {
        let returning = slots.all.values.count { $0.isReturning }
        guard excess > returning else { return }
        let left = slots.all.values.filter { !$0.isReturning }.sorted { $0.number > $1.number }
        for slot in left.prefix(excess - returning) { giveBack(slot) }
    }

    private func giveBack(_ slot: WorkerSlot) {
        slot.isReturning = true
        slot.machine.drain()
        slot.leaveRun()
        slots.touch(slot)
    }

    private func giveBack(drained: [WorkerSlot]) {
        guard !drained.isEmpty else { return }
        for slot in drained {
            forget(slot)
            returned[slot.number] = slot.epoch
        }
        send(.revoked(drained.map(\.number).sorted()))
        service.groups.giveBack(
            drained.map { GroupTending.Returned(slot: $0.number, epoch: $0.epoch) }, of: id,
            now: handle.eventLoop.now)
    }

    // MARK: Reading and delivering

    /// Does what can be done now, when it is its turn.
    func pump() { stream.pump(self) }

    /// Does what can be done now, and delivers as far as its turn takes it.
    func takeTurn() {
        guard case .working = state, !isPumping else { return }
        isPumping = true
        defer { isPumping = false }
        let now = now
        for slot in slots.touched {
            if slot.wantsRun(definition.delivery, now: now.uptime) { runs?.want(slot) }
            guard slot.machine.hasBlockedKeys else { continue }
            slot.machine.beginRetries(now: now)
            slot.dropRetried()
            retrying.add(slot.number)
        }
        runs?.attach(definition, now: now.uptime)
        if stream.mayDeliver {
            deliverRetried(now)
            for run in runs?.all ?? [] { take(run, now) }
            flush()
        }
        guard case .working = state else { return }
        runs?.merge()
        var drained: [WorkerSlot] = []
        for slot in slots.takeTouched() {
            slot.readOn()
            save(slot, now.uptime)
            if slot.machine.wantsKey != nil { wantingKeys.add(slot.number) }
            if slot.isReturning, slot.machine.isDrained { drained.append(slot) }
            tellStop(of: slot)
            slots.count(slot)
        }
        readKeys()
        giveBack(drained: drained)
        memory.hold(slots.bytes)
    }

    /// Takes what a reading has, as far as slots and credit allow.
    private func take(_ run: SlotRun, _ now: SlotMachine.Moment) {
        while stream.mayDeliver {
            guard let next = run.next else {
                guard run.leavePage() else { return run.wait() }
                continue
            }
            let slot = next.slot
            guard slot.machine.readTo.position < next.position else {
                run.advance()
                continue
            }
            guard !memory.isFull else { return }
            guard slot.machine.hasRoom else {
                let since = run.waitingSince ?? now.uptime
                run.waitingSince = since
                if slot.machine.stop == nil, now.uptime - since < SlotRuns.patience { return }
                slot.leaveRun()
                run.waitingSince = nil
                continue
            }
            guard has(credit: next.bytes), let (event, entry) = run.nextEvent() else { return }
            let taken = SlotMachine.Event(
                place: Checkpoint(position: event.position, eventID: event.id), key: event.key,
                recordedAt: event.recordedAt)
            slots.touch(slot)
            if let delivery = slot.machine.deliver(next: taken, now: now) {
                deliver(delivery, RetriedEvent(entry: entry, upcastFailure: event.upcastFailure), of: slot, now)
                // A worker that keeps progress of its own learns that the key is blocked before any later event comes: the
                // slot begins again.
                if event.upcastFailure != nil, !slot.isReturning { giveBack(slot) }
            }
            run.advance()
        }
    }

    private func deliverRetried(_ now: SlotMachine.Moment) {
        while let number = retrying.popFirst() {
            guard let slot = slots.visit(number) else { continue }
            while let next = slot.machine.nextRetry {
                let event = slot.retried[next.key]?[next.place.position] ?? RetriedEvent(entry: ByteBuffer())
                // Without credit it is another slot's turn the next time.
                guard has(credit: event.entry.readableBytes) else { return retrying.add(number) }
                guard let delivery = slot.machine.retries(now: now, countMax: 1).first else { break }
                slots.touch(slot)
                slot.retried[next.key]?[next.place.position] = nil
                deliver(delivery, event, of: slot, now)
            }
        }
    }

    private func deliver(
        _ delivery: SlotMachine.Delivery, _ event: RetriedEvent, of slot: WorkerSlot, _ now: SlotMachine.Moment
    ) {
        guard event.upcastFailure == nil, event.entry.readableBytes > 0 else {
            let reason = event.upcastFailure.map { "it cannot be upcast: \($0)" } ?? "it was not there"
            _ = slot.machine.reject(delivery.number, .park, reason: reason, now: now)
            return
        }
        // A page at a time, or one event that is larger.
        if batch.bytes + event.entry.readableBytes > handle.limits.pageBytesMax { flush() }
        stream.take(event.entry.readableBytes)
        let number = stream.deliveries.add(delivery.number, of: slot)
        batch.add(event.entry, slots.deliver(delivery, of: slot, as: number))
        if slot.openCount > slot.machine.underWayCount { stream.deliveries.forgetTakenBack(of: slot) }
    }

    /// Whether the worker has granted that much; where not, it is told so once.
    private func has(credit bytes: Int) -> Bool {
        if stream.has(credit: bytes) { return true }
        // Nothing is on its way that it could grant again.
        if batch.isEmpty, stream.isToTell(of: bytes) { send(.waits(creditBytes: UInt64(bytes))) }
        return false
    }

    private func flush() {
        guard let (message, count) = batch.takeMessage() else { return }
        service.counters.deliver(count)
        send(message)
    }

    /// Reads events of keys that are tried again.
    private func readKeys() {
        while readingKeys < Self.readingKeysMax, !memory.isFull, let number = wantingKeys.popFirst() {
            guard let slot = slots.visit(number), slot.readingKey == nil, let range = slot.machine.wantsKey else {
                continue
            }
            readingKeys += 1
            let (tenant, definition, queries, limits) = (id.tenant, definition, service.queries, handle.limits)
            let time = service.clock()
            slot.readingKey = handle.read(
                for: tenant,
                { reader throws(StorageError) in
                    try KeyReading.read(
                        range, of: tenant, definition, queries, limits, now: time, reader: reader)
                }
            ) { [weak self] result in
                guard let self, case .working = state else { return }
                readingKeys -= 1
                guard slots[slot.number] === slot else { return }
                slot.readingKey = nil
                slots.touch(slot)
                take(result.flatMap { $0 }, range, of: slot)
            }
        }
    }

    private func take(
        _ result: Result<KeyReading.Found, MartletError>, _ range: SlotMachine.KeyRange, of slot: WorkerSlot
    ) {
        switch result {
        case .success(let found):
            for (event, retried) in found.events {
                slot.retried[range.key, default: [:]][event.place.position] = retried
            }
            slot.machine.take(found.events.map(\.event), of: range, scannedTo: found.scannedTo)
        // It is asked for again.
        case .failure(let error) where error.isRetryable: return
        case .failure(let error): slot.machine.giveUp(range, reason: error.message)
        }
        pump()
    }

    private func tellStop(of slot: WorkerSlot) {
        guard slot.stopReason == nil, let reason = slot.machine.stop?.message else { return }
        slot.stopReason = reason
        service.groups.stopped(
            ConsumerGroups.Stop(slot: slot.number, epoch: slot.epoch, reason: reason), session, of: id)
        send(.stopped(slot: slot.number, reason: reason))
    }

    // MARK: How far it has come

    private func isDue(_ slot: WorkerSlot, _ now: NIODeadline) -> Bool {
        let unsaved = slot.machine.unsavedPositions
        return unsaved >= Self.idleSavePositions || (unsaved > 0 && now - slot.savedAt >= Self.idleSave)
    }

    private func save(_ slot: WorkerSlot, _ now: NIODeadline) {
        guard slot.machine.isWorthSaving || isDue(slot, now), let change = slot.machine.nextChange() else { return }
        slot.savedAt = now
        let bound = NIOLoopBound(slot, eventLoop: handle.eventLoop)
        let call = NIOLoopBound(self, eventLoop: handle.eventLoop)
        service.progress.save(
            SlotSaving(slot: slot.number, change: change), of: id, on: handle.eventLoop
        ) { result in
            call.eventLoop.execute { call.value.saved(bound.value, result) }
        }
    }

    private func saved(_ slot: WorkerSlot, _ result: Result<SlotSaved, MartletError>) {
        guard case .working = state, slots[slot.number] === slot else { return }
        slots.touch(slot)
        switch result {
        case .success(.saved):
            send(.committed(slot: slot.number, slot.machine.saved()))
            pump()
        case .success(.fenced):
            revoke([slot])
            service.groups.tend(id, now: handle.eventLoop.now)
        case .failure:
            // With the next tick.
            slot.machine.notSaved()
        }
    }

    // MARK: Time

    private var leaseMillis: Int { handle.limits.consumerLeaseMillis }

    private func scheduleTick() {
        let isWaiting =
            runs?.isWaiting == true || memory.isFull
            || slots.all.values.contains { $0.machine.hasBlockedKeys }
        let delay = isWaiting ? 100 : min(1_000, max(1, leaseMillis / 6))
        let bound = NIOLoopBound(self, eventLoop: handle.eventLoop)
        timer = handle.eventLoop.scheduleTask(in: .milliseconds(Int64(delay))) { bound.value.tick() }
    }

    private func tick() {
        guard case .working = state else { return }
        let now = now
        guard !stream.isSilent(now.uptime) else { return end(.workerSilent(millis: leaseMillis)) }
        for slot in slots.all.values {
            let underWay = slot.machine.underWayCount
            slot.machine.tick(now: now)
            slot.readOn()
            let isWaiting = slot.run == nil || slot.machine.hasBlockedKeys || isDue(slot, now.uptime)
            if isWaiting || slot.machine.underWayCount != underWay { slots.touch(slot) }
        }
        service.groups.tendIfDue(id, now: now.uptime)
        pump()
        if metrics.isDue(now.uptime) { metrics.tell(slots.takeCounts(), slots, runs?.all ?? [], now: now) }
        if case .working = state { scheduleTick() }
    }
}
