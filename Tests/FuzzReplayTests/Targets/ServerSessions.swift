import FoundationEssentials
import MartletModel
import MartletSession
import NIOCore

/// What sessions of both ends are fed with.
enum Sample {
    static let tenant = TenantID(UUID(high: 1, low: 1))
    static let error = MartletError(.unavailable, reason: .storageUnavailable, message: "away", isRetryable: true)
    static let aggregate = AggregateName(type: "order", id: UUID(high: 2, low: 2))
    static let head = TenantHead(position: Position(7), recordedAt: Timestamp(microseconds: 9))

    static func request(_ kind: Int) -> CallRequest {
        let requests: [CallRequest] = [
            .append(AppendRequest(tenant: tenant, aggregates: [])), .read(ReadRequest(tenant: tenant)),
            .subscribe(SubscribeRequest(tenant: tenant)), .getHead(tenant), .getStatus,
            .getSettings(tenant, .snapshotPolicies),
        ]
        let named: [CallRequest] = [
            .load(LoadRequest(tenant: tenant, aggregate: aggregate)), .listSnapshots(tenant, aggregate),
            .loadSnapshot(LoadSnapshotRequest(tenant: tenant, aggregate: aggregate)),
            .deleteSnapshots(DeleteSnapshotsRequest(tenant: tenant, aggregate: aggregate)),
        ]
        let all = requests + named
        // What the inputs of before meant stays.
        return kind >= 240 ? consume ?? .getStatus : all[kind % all.count]
    }

    private static let consume = ConsumerName("c").flatMap { name in
        WorkerName("w").map {
            CallRequest.consume(ConsumeRequest(ConsumerID(tenant: tenant, name: name), worker: $0))
        }
    }
}

/// Any event in any state of the server's session: every call is answered once, frames that open no call are bounded, and
/// nothing traps.
enum ServerSessions {
    static func run(_ bytes: [UInt8]) throws {
        var limits = Limits()
        limits.callsPerConnectionMax = 3
        limits.keepaliveMillis = 100
        limits.handshakeMillis = 50
        limits.controlFramesMax = 12
        limits.controlFramesPerSecondMax = 20
        var input = Input(bytes)
        var harness = Harness(limits: limits)
        while !input.isAtEnd { try harness.step(&input) }
        try harness.end()
    }

    private struct Harness: ~Copyable {
        var session: ServerSession
        let callsMax: Int
        /// Frames that opened no call, and how many of them the limits allow by now.
        var controlFrames = 0
        var controlFramesMax: Int
        let controlFramesPerSecondMax: Int
        var now = NIODeadline.uptimeNanoseconds(0)
        var open: Set<CallID> = []
        /// Those of workers, which take replies.
        var workers: Set<CallID> = []
        /// Calls that the peer has opened, and how often each was answered or refused.
        var answers: [CallID: Int] = [:]
        var isClosed = false
        var isDraining = false

        init(limits: Limits) {
            callsMax = limits.callsPerConnectionMax
            controlFramesMax = limits.controlFramesMax
            controlFramesPerSecondMax = limits.controlFramesPerSecondMax
            session = ServerSession(limits: limits, now: .uptimeNanoseconds(0))
        }

        mutating func step(_ input: inout Input) throws {
            let id = CallID(UInt64(input.number(below: 8)))
            switch input.number(below: 16) {
            case 0: try receive(ClientFrame(id, .hello(Hello(clientName: "c"))))
            case 1: try receive(ClientFrame(.connection, .hello(Hello(clientName: "c"))))
            case 2:
                try receive(
                    ClientFrame(
                        .connection, .hello(Hello(protocolVersions: [UInt32(input.byte())], clientName: "c"))))
            case 3, 4: try receive(ClientFrame(id, .request(Sample.request(Int(input.byte())))))
            case 5:
                let bytes = Int(input.byte())
                session.sent(.read(ByteBuffer(repeating: 0, count: bytes), nil))
                controlFramesMax += 1 + bytes / 64
            case 6: try receive(ClientFrame(id, .malformed(Sample.error)))
            case 7: try receive(ClientFrame(id, .credit(UInt64(input.byte()))))
            case 8: try receive(ClientFrame(id, .cancel))
            case 9: try receive(ClientFrame(id, .ping(UInt64(input.byte()))))
            case 10:
                let byte = input.byte()
                switch byte {
                case ..<128: try receive(ClientFrame(id, .pong(UInt64(byte))))
                case ..<176: try receive(ClientFrame(id, .replies([.alive])))
                case ..<224: try receive(ClientFrame(id, .replies([.alive, .acknowledge(UInt64(byte), upTo: true)])))
                default: try receive(ClientFrame(id, .malformedReplies(Sample.error)))
                }
            case 11: if let id = open.min() { try finish(id) }
            case 12:
                switch session.drain() {
                case .none: try hold(isClosed || isDraining, "a drain without a word")
                case .goAway: try hold(!open.isEmpty, "GoAway, but nothing is open")
                case .goAwayAndClose:
                    try hold(open.isEmpty, "the connection closes with \(open) open")
                    isClosed = true
                case .close: throw Finding("closed by a drain without GoAway")
                }
                isDraining = true
            case 13:
                pass(.milliseconds(Int64(input.byte())))
                switch session.tick(now: now) {
                case .none: break
                case .ping: try hold(!isClosed, "a ping after the end")
                case .fail:
                    try hold(!isClosed, "failed after the end")
                    isClosed = true
                }
            case 14:
                switch session.receiveFault(Sample.error) {
                case .ignore: try hold(isClosed, "a fault was ignored")
                case .fail:
                    try hold(!isClosed, "failed twice")
                    isClosed = true
                default: throw Finding("a fault started something")
                }
            default: pass(.seconds(Int64(input.byte())))
            }
            try hold(session.openCallCount == open.count, "\(session.openCallCount) open, should be \(open)")
            try hold(open.count <= callsMax, "more calls are open than allowed")
        }

        private mutating func pass(_ time: TimeAmount) {
            now = now + time
            controlFramesMax += Int(time.nanoseconds / (1_000_000_000 / Int64(controlFramesPerSecondMax))) + 1
        }

        private mutating func finish(_ id: CallID) throws {
            try hold(session.isOpen(id), "call \(id) is not open")
            open.remove(id)
            answers[id, default: 0] += 1
            if case .close = session.finish(id) {
                try hold(open.isEmpty && isDraining && !isClosed, "closed with \(open) open")
                isClosed = true
            }
        }

        private mutating func receive(_ frame: ClientFrame) throws {
            let reaction = session.receive(frame, now: now)
            if isClosed { return try hold(reaction == .ignore, "\(reaction) after the end") }
            switch reaction {
            case .start, .cancel, .end, .fail, .welcome: break
            case .reply(_, let replies) where replies != [.alive]: break
            default:
                controlFrames += 1
                let complaint = "\(controlFrames) frames that open no call, \(controlFramesMax) are allowed"
                try hold(controlFrames <= controlFramesMax, complaint)
            }
            switch reaction {
            case .start(let id, _, _, _):
                try hold(id == frame.callID && answers[id] == nil && !open.contains(id), "call \(id) began twice")
                try hold(!isDraining, "call \(id) began in a drain")
                open.insert(id)
                if case .request(.consume) = frame.body { workers.insert(id) }
            case .refuse(let id, _):
                try hold(id == frame.callID && answers[id] == nil && !open.contains(id), "call \(id) is answered twice")
                answers[id] = 1
            case .credit(let id, _): try hold(open.contains(id), "credit for call \(id)")
            case .cancel(let id):
                try hold(open.contains(id), "cancel for call \(id)")
                try finish(id)
            case .reply(let id, let replies):
                try hold(open.contains(id) && workers.contains(id), "replies for call \(id)")
                try hold(frame.body == .replies(replies), "other replies than came")
            case .end(let id, _):
                try hold(open.contains(id) && workers.contains(id), "an end for call \(id)")
                try finish(id)
            case .fail: isClosed = true
            case .welcome, .pong: break
            case .ignore:
                switch frame.body {
                case .request, .malformed: throw Finding("call \(frame.callID) was ignored")
                default: break
                }
            }
        }

        mutating func end() throws {
            let rest = session.close()
            try hold(rest == open, "\(rest) were open, should be \(open)")
            for (id, count) in answers { try hold(count == 1, "call \(id) was answered \(count) times") }
            try hold(session.openCallCount == 0, "calls are open after the end")
            try hold(session.receive(ClientFrame(CallID(9), .cancel), now: .uptimeNanoseconds(0)) == .ignore, "")
        }
    }
}
