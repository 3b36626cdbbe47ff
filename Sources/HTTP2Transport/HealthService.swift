import MartletModel
import MartletRecordCodec
import MartletService
import NIOCore

extension GRPCService {
    /// `grpc.health.v1.Health`: whether the server, and each of its services, can serve.
    public static let health = GRPCService(
        name: "grpc.health.v1.Health",
        methods: [
            "Check": GRPCMethod { _ in HealthCheckHandler() },
            "List": GRPCMethod { _ in HealthListHandler() },
            "Watch": GRPCMethod(streamsResponses: true) { HealthWatchHandler($0) },
        ])
}

/// `grpc.health.v1.HealthCheckResponse.ServingStatus`.
enum ServingStatus: Int {
    case serving = 1
    case notServing = 2
    case serviceUnknown = 3

    /// - Parameter needs: what the service needs; nil for one that the server does not have.
    init(_ state: ServingState, needs: StorageNeeds?) {
        guard let needs else {
            self = .serviceUnknown
            return
        }
        self = state.serves(needs) ? .serving : .notServing
    }

    /// `HealthCheckResponse`.
    var message: ByteBuffer {
        var message = ByteBuffer()
        message.writeProtoNumber(1, rawValue)
        return message
    }
}

/// What the messages of `grpc.health.v1` say.
enum HealthMessages {
    /// What the server as a whole needs: one that answers reads is of use, even while it takes no appends.
    static let needsOfWhole = StorageNeeds.reads

    /// The service that a `HealthCheckRequest` asks for; empty for the whole server.
    static func service(_ message: ByteBuffer) throws(MartletError) -> String {
        let bytes = Array(message.readableBytesView)
        var name: String? = ""
        let isMessage = ProtoMessage.fields(of: bytes, in: bytes.indices) { field in
            if field.number == 1 { name = ProtoMessage.text(field, of: bytes) }
        }
        guard isMessage, let name else { throw .unreadableMessage(message, "HealthCheckRequest") }
        return name
    }

    /// What a service needs, by its name; nil where the server does not have it.
    static func needs(of service: String, among services: GRPCServices) -> StorageNeeds? {
        service.isEmpty ? needsOfWhole : services.needs[service]
    }

    /// `HealthListResponse`: the whole server, and each service by name.
    static func list(_ services: GRPCServices, _ state: ServingState) -> ByteBuffer {
        var message = ByteBuffer()
        for name in [""] + services.services.map(\.name).sorted() {
            var entry = ByteBuffer()
            entry.writeProtoText(1, name)
            entry.writeProtoMessage(2, ServingStatus(state, needs: needs(of: name, among: services)).message)
            message.writeProtoMessage(1, entry)
        }
        return message
    }
}

/// Answers `Check`.
private final class HealthCheckHandler: GRPCHandler {
    private var message: ByteBuffer?

    func received(_ message: ByteBuffer, of call: GRPCCall) { self.message = message }

    func receivedEnd(of call: GRPCCall) {
        guard let connection = call.connection, let message else { return }
        do throws(MartletError) {
            let name = try HealthMessages.service(message)
            guard let needs = HealthMessages.needs(of: name, among: connection.services) else {
                connection.service.callRefused()
                return call.end(
                    GRPCStatus(.notFound, "the server has no service \(PrintableText.escape(name, bytesMax: 256))"))
            }
            call.send(ServingStatus(connection.service.health.state, needs: needs).message)
            call.end(.ok)
        } catch { connection.end(call, error) }
    }
}

/// Answers `List`.
private final class HealthListHandler: GRPCHandler {
    func received(_ message: ByteBuffer, of call: GRPCCall) {}

    func receivedEnd(of call: GRPCCall) {
        guard let connection = call.connection else { return }
        call.send(HealthMessages.list(connection.services, connection.service.health.state))
        call.end(.ok)
    }
}

/// What a watcher is told: its service's status, and then each change. Of what it is not told yet, only the newest waits.
struct HealthWatch {
    /// What the service needs; nil for one that the server does not have.
    let needs: StorageNeeds?
    private(set) var told: ServingStatus?

    init(needs: StorageNeeds?) { self.needs = needs }

    /// What to send now; nil where the watcher knows it, or cannot take it.
    mutating func next(_ state: ServingState, hasRoom: Bool) -> ServingStatus? {
        let status = ServingStatus(state, needs: needs)
        guard status != told, hasRoom else { return nil }
        told = status
        return status
    }
}

/// Carries out `Watch`.
private final class HealthWatchHandler: GRPCHandler, HealthWatcher {
    private weak var call: GRPCCall?
    private let eventLoop: any EventLoop
    private let health: ServerHealth?
    private var message: ByteBuffer?
    private var watch: HealthWatch?
    private var isDraining = false

    init(_ call: GRPCCall) {
        self.call = call
        eventLoop = call.eventLoop
        health = call.connection?.service.health
    }

    func received(_ message: ByteBuffer, of call: GRPCCall) { self.message = message }

    func receivedEnd(of call: GRPCCall) {
        guard let connection = call.connection, let health, let message else { return }
        self.message = nil
        do throws(MartletError) {
            let name = try HealthMessages.service(message)
            watch = HealthWatch(needs: HealthMessages.needs(of: name, among: connection.services))
            guard !isDraining else { return endDraining(call) }
            health.watch(self, on: eventLoop)
            healthChanged()
        } catch { connection.end(call, error) }
    }

    func healthChanged() { tell(evenWithoutRoom: false) }

    func pump(_ call: GRPCCall) { tell(evenWithoutRoom: false) }

    private func tell(evenWithoutRoom: Bool) {
        guard let call, !call.isOver, let health, watch != nil else { return }
        let state = health.state
        // Room is asked for only where there is something to say: whoever asks is told when there is some.
        guard ServingStatus(state, needs: watch?.needs) != watch?.told else { return }
        let hasRoom = evenWithoutRoom || call.room > 0
        if let status = watch?.next(state, hasRoom: hasRoom) { call.send(status.message) }
    }

    /// Says what the state is now, however little the client takes, then ends the stream.
    func drain(_ call: GRPCCall) {
        isDraining = true
        if watch != nil { endDraining(call) }
    }

    private func endDraining(_ call: GRPCCall) {
        tell(evenWithoutRoom: true)
        ended(call)
        call.end(GRPCStatus(.draining))
    }

    func ended(_ call: GRPCCall) {
        health?.forget(self, on: eventLoop)
    }
}
