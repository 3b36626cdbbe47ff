import MartletConsumers
import MartletModel
import NIOCore

/// One worker of a consumer, until either end has enough, or the worker falls silent.
final class ConsumeCall: CallWork {
    private let handle: CallHandle
    private let stream: WorkerStream
    private let worker: ConsumerWorker
    private let epochAbove: UInt64

    init(_ request: ConsumeRequest, _ creditBytes: UInt64, _ handle: CallHandle) {
        self.handle = handle
        epochAbove = request.epochAbove
        stream = WorkerStream(handle, creditBytes: creditBytes, isShared: false) { _, error in
            if handle.isOpen { handle.end(error) }
        }
        worker = ConsumerWorker(request, on: stream)
    }

    /// How often a slot was looked at, over the call's life.
    var slotVisits: UInt64 { worker.slots.visits }

    func start() {
        handle.service.counters.subscriptionOpened()
        if let error = ConsumeRequest.fault(ofEpochAbove: epochAbove) { return handle.end(error) }
        worker.start()
    }

    func addCredit(_ bytes: UInt64) {
        stream.addCredit(bytes)
        worker.pump()
    }

    func take(_ replies: [WorkerReply]) {
        do throws(MartletError) { _ = try stream.take(replies, now: handle.moment) } catch { return handle.end(error) }
        worker.pump()
    }

    func pump() { worker.pump() }

    func cancel() {
        handle.service.counters.subscriptionClosed()
        worker.cancel()
    }
}

extension ConsumeRequest {
    /// What is wrong with a request's ``epochAbove``; nil for nothing.
    static func fault(ofEpochAbove epoch: UInt64) -> MartletError? {
        epoch <= epochMax ? nil : .invalidField("epoch_above", "must be at most \(epochMax)")
    }
}

extension CallHandle {
    /// The time for slots.
    var moment: SlotMachine.Moment { SlotMachine.Moment(uptime: eventLoop.now, time: service.clock()) }
}
