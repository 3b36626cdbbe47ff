import FoundationEssentials
import MartletAccess
import MartletModel
import MartletRecordCodec
import MartletStorage
import MartletStorageMemory
import MartletTesting
import MetricsTestKit
import NIOConcurrencyHelpers
import NIOCore
import NIOEmbedded
import Testing

@testable import MartletService

/// Servers with consumers on one storage, without threads: time moves when it is told to, storage works when something
/// waits.
final class ConsumerBench {
    /// One of them.
    final class Server {
        let loop = EmbeddedEventLoop()
        let metrics = TestMetrics()
        let service: EventService
        fileprivate let hands: StorageHands
        /// Nothing happens there.
        var isStopped = false
        /// Time that has passed meanwhile.
        fileprivate var missed = TimeAmount.nanoseconds(0)

        fileprivate init(_ engine: any StorageEngine, _ limits: Limits, _ clock: @escaping Clock) throws {
            let loop = loop
            (service, hands) = try EventService.startByHand(
                engine: engine, limits: limits, serverVersion: "1", clock: clock, logger: .silent,
                uptime: { loop.now }, metrics: metrics)
        }

        deinit { service.release() }
    }

    /// Memory that several servers write to.
    private struct SharedEngine: WrappingEngine {
        let base: any StorageEngine

        func makeListener() -> (any StorageListener)? { Listener() }

        private final class Listener: StorageListener {
            func wait(atMost milliseconds: Int) throws(StorageError) -> StorageNews { .moved([:]) }
            func interrupt() {}
        }
    }

    let tenant = TenantID(UUID(high: 1, low: 1))
    let engine: MemoryEngine
    let servers: [Server]
    private let micros = NIOLockedValueBox<Int64>(1_000_000)
    private let control: BenchConnection
    /// Transactions that were committed, with or without a change.
    private(set) var commits = 0
    /// Reads that were carried out.
    private(set) var reads = 0

    /// - Parameter wrapped: what the servers have in place of the engine, which is behind it.
    init(
        servers count: Int = 1, _ engine: MemoryEngine = MemoryEngine(), wrappedIn wrapped: (any StorageEngine)? = nil,
        _ change: (inout Limits) -> Void = { _ in }
    ) throws {
        self.engine = engine
        var limits = Limits()
        limits.consumerLeaseMillis = 3_000
        change(&limits)
        let micros = micros
        let wrapped = wrapped ?? engine
        let shared = count == 1 ? wrapped : SharedEngine(base: wrapped)
        servers = try (0..<count).map { _ in
            try Server(shared, limits) { Timestamp(microseconds: micros.withLockedValue { $0 }) }
        }
        control = BenchConnection(servers[0].service, servers[0].loop)
    }

    var service: EventService { servers[0].service }
    var metrics: TestMetrics { servers[0].metrics }
    var now: Timestamp { Timestamp(microseconds: micros.withLockedValue { $0 }) }

    func id(_ name: String = "balances") -> ConsumerID {
        guard let name = ConsumerName(name) else { preconditionFailure("a name") }
        return ConsumerID(tenant: tenant, name: name)
    }

    /// Until nothing is to be done now.
    func run() {
        if servers.count > 1 { for server in servers where !server.isStopped { server.service.take(.unknown) } }
        var isBusy = true
        while isBusy {
            isBusy = false
            for server in servers where !server.isStopped {
                server.loop.run()
                while true {
                    let isCommitted = server.hands.commitOne()
                    if isCommitted { commits += 1 }
                    if !isCommitted {
                        guard server.hands.readOne() else { break }
                        reads += 1
                    }
                    isBusy = true
                    server.loop.run()
                }
            }
        }
    }

    /// Lets time pass, in steps that timers notice.
    func advance(_ time: TimeAmount, step: TimeAmount = .milliseconds(50)) {
        var left = time
        while left > .nanoseconds(0) {
            let next = min(left, step)
            micros.withLockedValue { $0 += next.nanoseconds / 1_000 }
            for server in servers {
                guard !server.isStopped else {
                    server.missed = server.missed + next
                    continue
                }
                server.loop.advanceTime(by: server.missed + next)
                server.missed = .nanoseconds(0)
            }
            run()
            left = left - next
        }
    }

    /// Calls, and waits for the answer.
    func answer(_ request: CallRequest, timeoutMillis: UInt32 = 0) throws -> CallMessage {
        let call = control.start(request, timeoutMillis: timeoutMillis)
        run()
        for _ in 0..<200 where control.calls[call]?.isOver == false { advance(.milliseconds(50)) }
        let log = try #require(control.calls[call])
        if let error = log.error { throw error }
        return try #require(log.messages.first)
    }

    func put(
        _ definition: ConsumerDefinition, named name: String = "balances", expected: ExpectedDefinition = .any
    ) throws {
        _ = try answer(.putConsumer(PutConsumerRequest(id(name), definition, expected: expected)))
    }

    func describe() throws -> ConsumerDescription {
        guard case .consumer(let description) = try answer(.getConsumer(id())) else { throw Unexpected() }
        return description
    }

    /// A call that is left open.
    func open(_ request: CallRequest) -> CallKey { control.start(request) }

    /// How an open call was answered; nil while it is not.
    func answered(_ call: CallKey) -> CallMessage? { control.calls[call]?.messages.first }

    func cancel(_ call: CallKey) { control.cancel(call) }

    /// Appends one event to an aggregate.
    func append(_ payload: String, to aggregate: AggregateName, kind: String = "Happened") throws {
        let event = try EncodedEvent.sample(payload, kind: kind)
        _ = try answer(.append(.of([event], to: aggregate, tenant: tenant)))
    }

    func worker(
        _ name: String, of consumer: String = "balances", creditBytes: UInt64 = 1 << 20, epochAbove: UInt64 = 0,
        on number: Int = 0
    ) throws -> BenchWorker {
        let name = try #require(WorkerName(name))
        let server = servers[number]
        let request = ConsumeRequest(id(consumer), worker: name, epochAbove: epochAbove)
        let worker = BenchWorker(BenchConnection(server.service, server.loop), request, creditBytes)
        run()
        return worker
    }

    struct Unexpected: Error {}
}

/// A connection of a bench.
final class BenchConnection: CallTransport {
    struct Log {
        var messages: [CallMessage] = []
        var isOver = false
        var error: MartletError?
    }

    private(set) var calls: [CallKey: Log] = [:]
    var isWritable = true
    private let loop: EmbeddedEventLoop
    private(set) var connection: ConnectionCalls?
    private var last: CallKey = 0

    init(_ service: EventService, _ loop: EmbeddedEventLoop, as principal: Principal = .anybody) {
        self.loop = loop
        connection = ConnectionCalls(service: service, principal: principal, transport: self, eventLoop: loop)
    }

    /// An open call and its connection hold each other until the connection is closed.
    deinit {
        close()
        loop.run()
    }

    func start(_ request: CallRequest, timeoutMillis: UInt32 = 0, creditBytes: UInt64 = 0) -> CallKey {
        last += 1
        calls[last] = Log()
        connection?.start(last, request, timeoutMillis: timeoutMillis, creditBytes: creditBytes)
        return last
    }

    func take(_ replies: [WorkerReply], of call: CallKey) { connection?.take(replies, of: call) }
    func addCredit(_ call: CallKey, bytes: UInt64) { connection?.addCredit(call, bytes: bytes) }
    func cancel(_ call: CallKey) { connection?.cancel(call) }
    func pump() { connection?.pump() }

    func drain() { connection?.drain("the server ends") }
    func work(of call: CallKey) -> (any CallWork)? { connection?.work(of: call) }

    /// The connection is gone.
    func close() {
        connection?.close()
        connection = nil
    }

    /// The messages that came since the last time.
    func takeMessages(of call: CallKey) -> [CallMessage] {
        defer { calls[call]?.messages = [] }
        return calls[call]?.messages ?? []
    }

    func send(_ message: CallMessage, of call: CallKey, isLast: Bool) {
        calls[call]?.messages.append(message)
        if isLast { calls[call]?.isOver = true }
    }

    func end(_ call: CallKey, _ error: MartletError?) {
        calls[call]?.isOver = true
        calls[call]?.error = error
    }

    func flush() {}
}

/// A worker of a bench: sees what is delivered, and says what it is told to.
final class BenchWorker {
    struct Delivered {
        var delivery: ConsumeMessage.Delivery
        var event: RecordedEvent

        var payload: String { String(buffer: event.event.payload) }
    }

    let connection: BenchConnection
    private let call: CallKey
    private(set) var slots: [Int: ConsumeMessage.Slot] = [:]
    private(set) var committed: [Int: Checkpoint] = [:]
    private(set) var stopped: [Int: String] = [:]
    private(set) var isPaused = false
    private(set) var waitsForCredit: UInt64?
    private(set) var revocations = 0

    init(_ connection: BenchConnection, _ request: ConsumeRequest, _ creditBytes: UInt64) {
        self.connection = connection
        call = connection.start(.consume(request), creditBytes: creditBytes)
    }

    /// How the call ended; nil while it is open.
    var error: MartletError? { connection.calls[call]?.error }
    var isOver: Bool { connection.calls[call]?.isOver ?? true }

    /// How often the server looked at a slot of it.
    var slotVisits: UInt64 { (work as? ConsumeCall)?.slotVisits ?? 0 }

    /// What the server does for it; nil when the call is over.
    var work: (any CallWork)? { connection.work(of: call) }

    /// The messages that came since the last time.
    var messages: [ConsumeMessage] {
        (connection.calls[call]?.messages ?? []).compactMap {
            if case .consume(let message) = $0 { message } else { nil }
        }
    }

    /// What was delivered since the last time.
    func take() throws -> [Delivered] {
        var delivered: [Delivered] = []
        for case .consume(let message) in connection.takeMessages(of: call) {
            switch message {
            case .assigned(let new): for slot in new { slots[slot.number] = slot }
            case .revoked(let numbers):
                revocations += 1
                for number in numbers { slots[number] = nil }
            case .events(let entries, let deliveries):
                let events = try RecordedEntries.decode(entries)
                try #require(events.count == deliveries.count)
                delivered += zip(deliveries, events).map { Delivered(delivery: $0, event: $1) }
            case .committed(let slot, let checkpoint): committed[slot] = checkpoint
            case .stopped(let slot, let reason): stopped[slot] = reason
            case .paused(let isPaused): self.isPaused = isPaused
            case .waits(let bytes): waitsForCredit = bytes
            case .joined, .left: Issue.record("a worker of one tenant's consumer was told of \(message)")
            }
        }
        return delivered
    }

    func say(_ replies: WorkerReply...) { connection.take(replies, of: call) }
    func say(_ replies: [WorkerReply]) { connection.take(replies, of: call) }
    func acknowledge(_ delivered: [Delivered]) {
        connection.take(delivered.map { .acknowledge($0.delivery.number, upTo: false) }, of: call)
    }
    func addCredit(_ bytes: UInt64) { connection.addCredit(call, bytes: bytes) }
    func leave() { connection.cancel(call) }
}
