import MartletModel
import MartletSession
import NIOCore

/// Any event in any state of the client's session: every call ends once, with no more bytes than it had credit for.
enum ClientSessions {
    static func run(_ bytes: [UInt8]) throws {
        var input = Input(bytes)
        var harness = Harness()
        while !input.isAtEnd { try harness.step(&input) }
        try harness.end()
    }

    private struct Harness: ~Copyable {
        var session = ClientSession(welcomeMillis: 50, keepaliveMillis: 100, now: .uptimeNanoseconds(0))
        var now = NIODeadline.uptimeNanoseconds(0)
        /// Calls that somebody waits for, with the credit that is left.
        var waiting: [CallID: UInt64] = [:]
        var isOpen = false
        var isClosed = false

        mutating func step(_ input: inout Input) throws {
            let id = CallID(UInt64(input.number(below: 6)))
            switch input.number(below: 16) {
            case 0, 1:
                var limits = Limits()
                limits.callsPerConnectionMax = Int(input.byte()) % 4
                try receive(
                    ServerFrame(
                        .connection,
                        .welcome(
                            Welcome(
                                protocolVersion: input.byte() == 255 ? 2 : protocolVersion, serverVersion: "1",
                                scope: .all, identity: "", limits: limits, serverTime: Timestamp(microseconds: 5)))))
            case 2: try receive(ServerFrame(id, .status(nil)))
            case 3: try receive(ServerFrame(id, .status(Sample.error)))
            case 4: try receive(ServerFrame(id, .goAway(lastCallID: CallID(UInt64(input.byte() % 6)), message: "")))
            case 5: try receive(ServerFrame(id, .ping(1)))
            case 6: try receive(ServerFrame(id, .pong(1)))
            case 7, 8, 9: try receive(ServerFrame(id, message(&input)))
            case 10, 11:
                guard isOpen || isClosed else { return }
                let credit = UInt64(input.byte())
                switch session.start(Sample.request(Int(input.byte())), creditBytes: credit) {
                case .send(let id):
                    try hold(!isClosed && waiting[id] == nil, "call \(id) began twice, or after the end")
                    waiting[id] = credit
                case .refuse(let error): try hold(error.isRetryable, "\(error) sends the caller away for good")
                }
            case 12:
                if session.cancel(id) { try hold(waiting.removeValue(forKey: id) != nil, "cancelled \(id) twice") }
                if session.takesReplies(id) { throw Finding("call \(id) was cancelled and takes replies") }
            case 13:
                let bytes = input.byte() == 255 ? UInt64.max : 20
                if session.credit(id, bytes: bytes) {
                    guard let credit = waiting[id] else { throw Finding("credit for call \(id)") }
                    let (sum, isTooMuch) = credit.addingReportingOverflow(bytes)
                    waiting[id] = isTooMuch ? .max : sum
                }
            case 14:
                now = now + .milliseconds(Int64(input.byte()))
                switch session.tick(now: now) {
                case .none: break
                case .ping: try hold(isOpen && !isClosed, "a ping before welcome or after the end")
                case .fail:
                    try hold(!isClosed, "failed twice")
                    isClosed = true
                }
            default:
                if case .fail = session.receiveFault(Sample.error) {
                    try hold(!isClosed, "failed twice")
                    isClosed = true
                } else {
                    try hold(isClosed, "a fault was ignored")
                }
            }
        }

        private func message(_ input: inout Input) -> CallMessage {
            let entries = ByteBuffer(repeating: 0x0A, count: Int(input.byte()))
            let isFirst = input.number(below: 2) == 0
            let messages: [CallMessage] = [
                .append(
                    AppendReceipt(
                        aggregates: [], firstPosition: Position(1), lastPosition: Position(1),
                        recordedAt: Timestamp(microseconds: 1), replayed: false)),
                .load(entries, isFirst ? LoadView(version: Version(1), position: Position(1)) : nil),
                .read(entries, isFirst ? ReadView(to: Position(7), head: Sample.head) : nil),
                .subscribe(
                    SubscriptionMessage(
                        entries: entries, head: Sample.head, signal: isFirst ? .started(after: .start) : nil)),
                .loadWaits(creditBytes: 9), .readWaits(creditBytes: 9), .head(Sample.head),
                .serverStatus(ServerStatus()), .snapshot(LoadedSnapshot()), .snapshots([]), .snapshotsDeleted(1),
                .settingsPut(revision: 1), .settings(SettingsDocument(document: entries, revision: 1)),
            ]
            let choice = Int(input.byte())
            // What the inputs of before meant stays.
            guard choice >= 234 else { return messages[choice % messages.count] }
            let ofWorkers: [CallMessage] = [
                .consume(.assigned([])), .consume(.events(entries, [])), .consume(.waits(creditBytes: 9)),
                .consumerDeleted, .consumerReached(Position(7)),
            ]
            return ofWorkers[choice % ofWorkers.count]
        }

        private mutating func receive(_ frame: ServerFrame) throws {
            let reaction = session.receive(frame, now: now)
            if isClosed { return try hold(reaction == .ignore, "\(reaction) after the end") }
            switch reaction {
            case .ready:
                try hold(!isOpen, "welcome twice")
                isOpen = true
            case .part(let id, let message):
                guard let credit = waiting[id] else { throw Finding("a part of call \(id), which nobody waits for") }
                try hold(message.entryBytes <= credit, "more bytes than call \(id) has credit for")
                waiting[id] = credit - message.entryBytes
            case .answer(let id, _), .end(let id, _):
                try hold(waiting.removeValue(forKey: id) != nil, "call \(id) ended twice")
            case .drain(let unseen):
                for id in unseen { try hold(waiting.removeValue(forKey: id) != nil, "gave back call \(id) twice") }
            case .fail: isClosed = true
            case .pong, .ignore: break
            }
        }

        mutating func end() throws {
            let rest = session.close()
            try hold(rest == waiting.keys.sorted(), "\(rest) are told of the end, \(waiting.keys) wait for it")
            try hold(session.openCallCount == 0, "calls are open after the end")
        }
    }
}
