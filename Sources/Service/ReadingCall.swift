import MartletTenants
import MartletModel
import MartletStorage
import NIOCore

/// A unary call that is answered by one read of storage.
///
/// It reads only while the connection takes bytes and there is room for the answer, so that what is read can leave.
/// While it waits it holds its request.
final class ReadingCall: CallWork {
    typealias Body = @Sendable (any StorageReader) throws(StorageError) -> Result<CallMessage, MartletError>

    private enum State {
        case idle
        case waitsForRoom
        case reading(StoreTicket)
        case ended
    }

    private let tenant: TenantID
    private let handle: CallHandle
    private let body: Body
    private let answerBytesMax: Int
    private let room: AnswerRoom?
    private var state = State.idle

    /// - Parameter answerBytesMax: what the answer holds at most; 0 for one of a fixed, small size.
    init(tenant: TenantID, answerBytesMax: Int = 0, _ handle: CallHandle, _ body: @escaping Body) {
        self.tenant = tenant
        self.handle = handle
        self.body = body
        self.answerBytesMax = answerBytesMax
        room = answerBytesMax == 0 ? nil : handle.makeRoom(for: tenant)
    }

    func start() { pump() }

    func pump() {
        guard case .idle = state, handle.isWritable else { return }
        if let room, !room.take(answerBytesMax, granted: { [weak self] in self?.roomGranted() }) {
            state = .waitsForRoom
            return
        }
        read()
    }

    private func roomGranted() {
        guard case .waitsForRoom = state else { return }
        guard handle.isWritable else {
            // Somebody else may use it while the socket takes nothing.
            room?.give()
            state = .idle
            return
        }
        read()
    }

    private func read() {
        state = .reading(
            handle.read(for: tenant, body) { [self] result in
                defer { room?.give() }
                guard case .reading = state else { return }
                state = .ended
                switch result.flatMap({ $0 }) {
                case .success(let message): handle.answer(message)
                case .failure(let error): handle.end(error)
                }
            })
    }

    func cancel() {
        if case .reading(let ticket) = state, !handle.service.store.cancel(ticket) {
            // It has begun: what it brings is held until then.
            state = .ended
            return
        }
        state = .ended
        room?.give()
    }
}
