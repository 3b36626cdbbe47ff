import MartletModel
import MartletQueries
import MartletStorage
import NIOCore

/// Waits until a consumer has come to a position: what a read model shows has that event in it then. Ends with its
/// deadline where it does not come so far.
final class AwaitConsumerCall: CallWork {
    private let request: AwaitConsumerRequest
    private let handle: CallHandle
    private var reading: StoreTicket?
    private var timer: Scheduled<Void>?
    private var isEnded = false

    init(_ request: AwaitConsumerRequest, _ handle: CallHandle) {
        self.request = request
        self.handle = handle
    }

    func start() { look() }

    func pump() {}

    func cancel() {
        isEnded = true
        timer?.cancel()
        if let reading { handle.service.store.cancel(reading) }
    }

    private func look() {
        let (request, limits) = (request, handle.limits)
        reading = handle.read(
            for: request.consumer.tenant,
            { reader throws(StorageError) in try Self.look(request, limits, reader: reader) }
        ) { [self] result in
            guard !isEnded else { return }
            reading = nil
            switch result.flatMap({ $0 }) {
            case .success(let settledTo?):
                isEnded = true
                handle.answer(.consumerReached(settledTo))
            case .success: lookAgain()
            case .failure(let error) where error.isRetryable: lookAgain()
            case .failure(let error):
                isEnded = true
                handle.end(error)
            }
        }
    }

    /// What is stored moves that often.
    private func lookAgain() {
        let bound = NIOLoopBound(self, eventLoop: handle.eventLoop)
        timer = handle.eventLoop.scheduleTask(in: .milliseconds(Int64(handle.limits.consumerProgressMillis))) {
            if !bound.value.isEnded { bound.value.look() }
        }
    }

    /// How far the consumer has come, where that is far enough.
    private static func look(
        _ request: AwaitConsumerRequest, _ limits: Limits, reader: any StorageReader
    ) throws(StorageError) -> Result<Position?, MartletError> {
        guard let group = try reader.group(request.consumer) else { return .failure(.consumerNotFound) }
        let head = try reader.head(of: request.consumer.tenant).position
        guard request.position <= head else { return .success(nil) }
        do throws(MartletError) {
            let definition = try ConsumerDefinition(document: group.consumer.document)
            let settled = try settled(group, definition, request, limits, reader).get()
            return .success(settled >= request.position ? settled : nil)
        } catch { return .failure(error) }
    }

    private static func settled(
        _ group: StoredGroup, _ definition: ConsumerDefinition, _ request: AwaitConsumerRequest, _ limits: Limits,
        _ reader: any StorageReader
    ) -> Result<Position, MartletError> {
        do throws(StorageError) {
            return .success(
                try ConsumerBacklog.find(
                    of: group, definition, request.consumer, to: request.position, scanMax: limits.pageScanEventsMax,
                    bytesMax: limits.pageBytesMax, reader: reader
                ).settledTo)
        } catch { return .failure(MartletError(error)) }
    }
}
