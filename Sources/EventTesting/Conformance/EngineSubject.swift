import EventEncoding
import EventHub
public import EventModel
public import EventStorage
public import Logging
public import NIOCore

/// An engine under the server's own store, hub and subscriptions, without a network.
public final class EngineSubject: ConformanceSubject {
    private let store: EventStore
    private let hub: EventHub
    private let reads: SharedReads
    private let limits: Limits
    private let eventLoop: any EventLoop

    /// Starts the engine.
    public init(
        _ engine: any StorageEngine, clock: @escaping Clock = Timestamp.now, limits: Limits = Limits(),
        eventLoop: any EventLoop, logger: Logger
    ) throws(StorageError) {
        let hub = EventHub(limits: limits)
        self.hub = hub
        self.limits = limits
        self.eventLoop = eventLoop
        store = EventStore(engine: engine, limits: limits, clock: clock, logger: logger, onCommit: { hub.publish($0) })
        reads = SharedReads(source: store, limits: limits)
        try store.start()
    }

    /// Ends its threads.
    public func shutDown() async { await store.shutDown() }

    /// Appends.
    public func append(_ request: AppendRequest) async throws(MartletError) -> AppendReceipt {
        try await store.append(request)
    }

    /// Loads page by page.
    public func load(_ request: LoadRequest) async throws(MartletError) -> (view: LoadView, events: [RecordedEvent]) {
        let now = store.clock()
        let view = try await store.read { reader throws(StorageError) in
            try QueryResolution.view(of: request, now: now, reader: reader)
        }.get()
        return (view, try await events(of: QueryCursor(request, view: view)))
    }

    /// Reads page by page.
    public func read(_ request: ReadRequest) async throws(MartletError) -> (view: ReadView, events: [RecordedEvent]) {
        let now = store.clock()
        let view = try await store.read { reader throws(StorageError) in
            try QueryResolution.view(of: request, now: now, reader: reader)
        }.get()
        return (view, try await events(of: QueryCursor(request, view: view)))
    }

    private func events(of cursor: QueryCursor) async throws(MartletError) -> [RecordedEvent] {
        var cursor = cursor
        var events: [RecordedEvent] = []
        let limits = limits
        while !cursor.isDone {
            let current = cursor
            let page = try await store.read { reader throws(StorageError) in
                try current.read(reader, bytesMax: limits.pageBytesMax, scanMax: limits.pageScanEventsMax)
            }
            events += Self.decode(page.entries)
            cursor.advance(past: page)
        }
        return events
    }

    private static func decode(_ entries: ByteBuffer) -> [RecordedEvent] {
        do throws(RecordFault) { return try RecordedEntries.decode(entries) } catch {
            preconditionFailure("what was encoded here can be decoded: \(error)")
        }
    }

    /// A tenant's head.
    public func head(of tenant: TenantID) async throws(MartletError) -> TenantHead {
        try await store.read { reader throws(StorageError) in try reader.head(of: tenant) }
    }

    /// Follows with a driver on the event loop; credit is given back as messages are taken.
    public func subscribe(
        _ request: SubscribeRequest, _ take: @escaping @Sendable (FollowedItem) async throws -> Bool
    ) async throws {
        let (messages, continuation) = AsyncThrowingStream.makeStream(of: SubscriptionMessage.self)
        let (eventLoop, hub, reads, limits) = (eventLoop, hub, reads, limits)
        let driver = try await eventLoop.submit {
            let driver = SubscriptionDriver(
                request: request, creditBytes: 1 << 20, eventLoop: eventLoop, hub: hub, reads: reads, limits: limits,
                emit: { continuation.yield($0) }, onEnd: { continuation.finish(throwing: $0) })
            driver.start()
            return driver
        }.get()
        defer { eventLoop.execute { driver.cancel() } }
        for try await message in messages {
            if message.count > 0 {
                guard try await take(.events(Self.decode(message.entries), head: message.head)) else { return }
                let bytes = UInt64(message.entries.readableBytes)
                eventLoop.execute { driver.addCredit(bytes) }
            }
            if let signal = message.signal {
                guard try await take(.signal(signal, head: message.head)) else { return }
            }
        }
    }
}
