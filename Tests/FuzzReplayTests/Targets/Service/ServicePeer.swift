import MartletAccess
import MartletModel
import MartletSession
import NIOCore

@testable import MartletFrameCodec
@testable import MartletService

/// A connection, and the client at its other end. Bound to its event loop.
///
/// What must hold of each message of the service: its frame is within the limit; decoded, a client's session takes it,
/// which knows what may answer which call and how much credit is left; the connection is open; its call is.
final class ServicePeer: CallTransport, ServedConnection {
    private let world: ServiceWorld
    private var session = ClientSession(welcomeMillis: 1_000, keepaliveMillis: 1_000, now: .uptimeNanoseconds(0))
    private(set) var isWritable = true
    private(set) var isDraining = false
    private(set) var isClosed = false
    /// Calls that the service carries out and has not ended.
    private(set) var open: Set<CallID> = []
    private(set) var calls: ConnectionCalls?
    private var complaint: String?

    init(_ world: ServiceWorld, principal: Principal, eventLoop: any EventLoop) {
        self.world = world
        let welcome = Welcome(
            protocolVersion: protocolVersion, serverVersion: "1", scope: principal.tenants, identity: "",
            limits: ServiceWorld.limits, serverTime: Timestamp(microseconds: 1))
        receive(ServerFrame(.connection, .welcome(welcome)))
        calls = ConnectionCalls(
            service: world.service, principal: principal, transport: self, eventLoop: eventLoop)
        world.service.connectionOpened(self, eventLoop: eventLoop)
    }

    /// Throws what did not hold.
    func check() throws { if let complaint { throw Finding(complaint) } }

    // MARK: What the client does

    /// Sends a request through the codec, as the service gets requests from there.
    func start(_ request: CallRequest, timeoutMillis: UInt32, creditBytes: UInt64) throws {
        guard !isDraining, !isClosed, case .send(let id) = session.start(request, creditBytes: creditBytes) else {
            return
        }
        var frame = ByteBuffer()
        let sent = ClientFrame(id, .request(request), timeoutMillis: timeoutMillis, creditBytes: creditBytes)
        ClientFrameCodec.encode(sent, to: &frame)
        let message = try FrameStream.message(of: frame)
        guard let came = try? ClientFrameCodec.decode(message, limits: ServiceWorld.limits),
            case .request(let decoded) = came.body
        else {
            // As a transport refuses it.
            world.service.callRefused()
            return receive(ServerFrame(id, .status(Sample.error)))
        }
        open.insert(id)
        calls?.start(id.rawValue, decoded, timeoutMillis: came.timeoutMillis, creditBytes: came.creditBytes)
    }

    private func openCall(_ number: Int) -> CallID? {
        let sorted = open.sorted()
        return sorted.isEmpty ? nil : sorted[number % sorted.count]
    }

    func cancel(_ number: Int) throws {
        guard let id = openCall(number), session.cancel(id) else { return }
        calls?.cancel(id.rawValue)
        try hold(!open.contains(id), "call \(id) was cancelled and is open")
    }

    func grant(_ number: Int, bytes: UInt64) throws {
        guard let id = openCall(number), session.credit(id, bytes: bytes) else { return }
        calls?.addCredit(id.rawValue, bytes: bytes)
        try check()
    }

    func grantAll() throws {
        for id in open.sorted() where session.credit(id, bytes: 1 << 40) {
            calls?.addCredit(id.rawValue, bytes: 1 << 40)
        }
        try check()
    }

    func setWritable(_ value: Bool) throws {
        isWritable = value
        calls?.pump()
        try check()
    }

    /// The connection is gone.
    func close() {
        guard !isClosed else { return }
        isClosed = true
        _ = session.close()
        open = []
        calls?.close()
        world.service.connectionClosed(self)
    }

    // MARK: What the service does

    func send(_ message: CallMessage, of call: CallKey, isLast: Bool) {
        let id = CallID(call)
        checkIsOpen(id)
        if !open.contains(id) { complaint = complaint ?? "a message of call \(id), which is not open" }
        if isLast { open.remove(id) }
        take(ServerFrame(id, message))
    }

    func end(_ call: CallKey, _ error: MartletError?) {
        let id = CallID(call)
        checkIsOpen(id)
        if open.remove(id) == nil { complaint = complaint ?? "call \(id) ended, but is not open" }
        take(ServerFrame(id, .status(error)))
    }

    func flush() {}

    func drain() {
        guard !isClosed else { return }
        isDraining = true
        calls?.drain("draining")
    }

    func abort() { close() }

    func recheck() {}

    /// No call is open once the connection is closed: this is told first.
    private func checkIsOpen(_ id: CallID) {
        if isClosed { complaint = complaint ?? "call \(id) got something after the connection's end" }
    }

    private func take(_ frame: ServerFrame) {
        var encoded = ByteBuffer()
        ServerFrameCodec.encode(frame, to: &encoded)
        let bytes = encoded.readableBytes - FrameDecoder.prefixBytes
        if bytes > ServiceWorld.limits.frameBytesMax {
            complaint = complaint ?? "a frame of \(bytes) bytes, the limit is \(ServiceWorld.limits.frameBytesMax)"
            return
        }
        do {
            let message = try FrameStream.message(of: encoded)
            receive(try ServerFrameCodec.decode(message, limits: ServiceWorld.limits))
        } catch {
            complaint = complaint ?? "a frame that no client decodes: \(error)"
        }
    }

    private func receive(_ frame: ServerFrame) {
        if case .fail(let error) = session.receive(frame, now: .uptimeNanoseconds(0)) {
            complaint = complaint ?? "the client gives up: \(error)"
        }
    }
}
