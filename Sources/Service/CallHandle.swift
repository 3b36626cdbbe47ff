import MartletModel
import MartletStorage
import MartletTenants
import NIOCore

/// An open call, as what carries it out sees it. Used on its connection's event loop.
struct CallHandle {
    let calls: ConnectionCalls
    let key: CallKey

    var service: EventService { calls.service }
    var limits: Limits { calls.service.limits }
    var eventLoop: any EventLoop { calls.eventLoop }

    /// How many bytes of events the peer takes now, as one message; 0 for none. The call is pumped when it takes some again.
    var room: Int { calls.room(for: key) }

    /// Whether the peer takes events now; the call is pumped when that changes.
    var isWritable: Bool { room > 0 }

    /// Whether the call has not ended.
    var isOpen: Bool { calls.isOpen(key) }

    /// Sends a message of a stream.
    func send(_ message: CallMessage) { calls.send(key, message) }

    /// Sends the one answer of a unary call.
    func answer(_ message: CallMessage) { calls.answer(key, message) }

    /// Ends the call with a status; nil is OK.
    func end(_ error: MartletError?) { calls.end(key, error) }

    /// Room for what is read for the call.
    func makeRoom(for tenant: TenantID) -> AnswerRoom {
        AnswerRoom(pool: service.pools.outbound, window: calls.window, tenant: tenant, eventLoop: eventLoop)
    }

    /// Reads on a storage thread, on the tenant's account; the result comes back on the event loop, unless the read is
    /// cancelled before it begins.
    func read<Value: Sendable>(
        for tenant: TenantID, _ body: @escaping @Sendable (any StorageReader) throws(StorageError) -> Value,
        _ completion: @escaping (Result<Value, MartletError>) -> Void
    ) -> StoreTicket {
        let bound = NIOLoopBound(completion, eventLoop: eventLoop)
        return service.store.read(for: tenant, body) { result in
            bound.eventLoop.execute { bound.value(result) }
        }
    }
}
