import Foundation
import Glibc
import Logging
import MartletStorage

/// The open connections of an engine: another thread can end what they wait for. Where the database grants fewer than the
/// engine would use, its threads share those that it has.
///
/// `@unchecked Sendable`: `condition` guards everything mutable.
final class OpenConnections: @unchecked Sendable {
    /// What a connection is for.
    enum Use: CaseIterable {
        case writing
        case reading
        case listening
        case other
    }

    /// As many connections as there may be of a use, as far as is known.
    private struct Bound {
        var count: Int
        var until: ContinuousClock.Instant
    }

    private static let passwordBytesMax = 4_096
    /// How long a thread waits for a connection where no more are granted.
    private static let waitSeconds = 10.0
    /// When it tries again to make one.
    private static let retrySeconds = 0.1
    /// For so long no more are asked for than there were when the database had no more.
    private static let boundFor = Duration.seconds(30)

    /// Those that read and are used by nobody right now.
    let idleReaders = IdleConnections()
    let idleWriters = WriterConnections()

    let now: @Sendable () -> ContinuousClock.Instant
    private let logger: Logger
    private let passwordFile: String?
    private let condition = NSCondition()
    /// By the connection's own number.
    private var sockets: [Int: (use: Use, socket: Int32)] = [:]
    private var connecting: [Use: Int] = [:]
    private var bounds: [Use: Bound] = [:]
    private var next = 0
    private var changes = 0
    private var lockWaits = 0
    private var isClosedToWrites = false
    private var isClosed = false
    private var preparation: Preparation?

    /// - Parameters:
    ///   - passwordFile: has the password, where the connection string has none.
    ///   - now: a clock that never goes back; all times of the engine are its.
    init(
        _ logger: Logger, passwordFile: String? = nil,
        now: @escaping @Sendable () -> ContinuousClock.Instant = { .now }
    ) {
        self.logger = logger
        self.passwordFile = passwordFile
        self.now = now
    }

    /// The password of a connection that is made now; nil where no file has one.
    func password() throws(PostgresFault) -> String? {
        guard let passwordFile else { return nil }
        func refusal(_ complaint: String) -> PostgresFault {
            PostgresFault(
                sqlState: "28000", message: "the file of the database's password \(complaint): \(passwordFile)",
                isConnectionLost: true)
        }
        guard let handle = FileHandle(forReadingAtPath: passwordFile),
            let bytes = try? handle.read(upToCount: Self.passwordBytesMax + 1) ?? Data()
        else { throw refusal("cannot be read; check its name and whose it is") }
        guard bytes.count <= Self.passwordBytesMax else {
            throw refusal("has more than \(Self.passwordBytesMax) bytes")
        }
        guard let text = String(validating: bytes, as: UTF8.self), !text.utf8.contains(0) else {
            throw refusal("is not UTF-8")
        }
        let password = text.hasSuffix("\r\n") || text.hasSuffix("\n") ? String(text.dropLast()) : text
        guard !password.isEmpty else { throw refusal("is empty") }
        return password
    }

    /// Prepares the database, before anything else can use it.
    typealias Preparation = @Sendable () throws(PostgresFault) -> Void

    /// Whether no connection of that use is to be made any more.
    func isClosed(to use: Use) -> Bool { condition.withLock { isClosedNow(to: use) } }

    private func isClosedNow(to use: Use) -> Bool { isClosed || (use == .writing && isClosedToWrites) }

    /// Notes a connection.
    /// - Returns: its number; nil where there are to be none any more.
    func add(_ socket: Int32, _ use: Use) -> Int? {
        condition.withLock {
            guard !isClosedNow(to: use) else { return nil }
            next += 1
            sockets[next] = (use, socket)
            return next
        }
    }

    /// Forgets a connection, before its socket is closed: the number may be another file's then.
    func remove(_ number: Int) {
        condition.withLock {
            _ = sockets.removeValue(forKey: number)
            change()
        }
    }

    /// Ends connections, under the feet of who waits for them, and lets no more be made.
    func close(_ work: StorageWork) {
        condition.withLock {
            isClosedToWrites = true
            if work == .all { isClosed = true }
            for (use, socket) in sockets.values where isClosedNow(to: use) {
                // It does not block: the thread that waits sees the end of the stream.
                _ = shutdown(socket, Int32(SHUT_RDWR))
            }
            change()
        }
    }

    // MARK: A database that is to be prepared later

    /// Has the database prepared before the next connection that uses it.
    func prepareLater(_ body: @escaping Preparation) { condition.withLock { preparation = body } }

    /// Prepares the database where that is still to be done; safe when several do so at once.
    func makeReady() throws(PostgresFault) {
        guard let preparation = condition.withLock({ preparation }) else { return }
        try preparation()
        condition.withLock { self.preparation = nil }
    }

    // MARK: Fewer connections than wanted

    /// A connection for a thread: one that is idle or, as long as the database grants more, a new one. Otherwise this waits
    /// for one that is given back.
    func connection<Connection>(
        for use: Use, idle: () -> Connection?, connect: () throws(PostgresFault) -> Connection
    ) throws(PostgresFault) -> Connection {
        let deadline = Date(timeIntervalSinceNow: Self.waitSeconds)
        var last = PostgresFault.allConnectionsInUse
        while true {
            if let found = idle() { return found }
            guard !isClosed(to: use) else { throw .ending }
            let (seen, mayConnect) = condition.withLock { (changes, beginConnecting(use)) }
            if mayConnect {
                defer { condition.withLock { connecting[use, default: 0] -= 1 } }
                do throws(PostgresFault) { return try connect() } catch {
                    guard error.sqlState == PostgresFault.tooManyConnections else { throw error }
                    last = error
                    // To try again at once is what was done here.
                    last.isConnectionLost = false
                }
            }
            if mayConnect { noMoreAreGranted(to: use) }
            guard wait(after: seen, until: deadline) else { throw last }
        }
    }

    /// The database grants no more: those that there are must do, and who has none gets one of others.
    func noMoreAreGranted(to use: Use) {
        let (gives, open, isNews) = condition.withLock { () -> (Use?, Int, Bool) in
            let until = now() + Self.boundFor
            let own = count(of: use)
            let isNews = !bounds.values.contains { $0.until > now() }
            if use != .listening || own > 0 { bounds[use] = Bound(count: max(1, own), until: until) }
            guard own == 0 else { return (nil, sockets.count, isNews) }
            let other = Use.allCases.max { count(of: $0) < count(of: $1) }
            guard let other, count(of: other) > 1 else {
                // To hear of other servers is a luxury: what they commit is also found by looking each second.
                if use != .listening { endListening(until) }
                return (nil, sockets.count, isNews)
            }
            bounds[other] = Bound(count: count(of: other) - 1, until: until)
            return (other, sockets.count, isNews)
        }
        if isNews {
            logger.warning(
                "the database grants no more connections: the server uses those it has; allow 10 for each server",
                metadata: ["open": "\(open)"])
        }
        switch gives {
        case .reading: idleReaders.drop()
        case .writing: idleWriters.drop()
        default: break
        }
    }

    private func endListening(_ until: ContinuousClock.Instant) {
        guard let listening = sockets.values.first(where: { $0.use == .listening }) else { return }
        bounds[.listening] = Bound(count: 0, until: until)
        _ = shutdown(listening.socket, Int32(SHUT_RDWR))
    }

    /// Whether there may be one connection of that use at all.
    func mayBeMade(for use: Use) -> Bool { condition.withLock { bound(of: use) > 0 } }

    /// Whether one commit more may wait for a lock: where the database grants few connections, half of those that write stay
    /// free for others. ``endLockWait()`` ends it.
    func beginLockWait() -> Bool {
        condition.withLock {
            let bound = bound(of: .writing)
            guard bound == .max || lockWaits < bound / 2 else { return false }
            lockWaits += 1
            return true
        }
    }

    func endLockWait() { condition.withLock { lockWaits -= 1 } }

    /// Whether a connection that was used is to be kept: there may be too many of its use.
    func keeps(_ use: Use) -> Bool { condition.withLock { count(of: use) <= bound(of: use) } }

    /// A connection was given back.
    func noteGivenBack() { condition.withLock { change() } }

    private func change() {
        changes += 1
        condition.broadcast()
    }

    private func count(of use: Use) -> Int { sockets.values.count { $0.use == use } }

    private func bound(of use: Use) -> Int {
        guard let bound = bounds[use], bound.until > now() else { return .max }
        return bound.count
    }

    private func beginConnecting(_ use: Use) -> Bool {
        guard count(of: use) + connecting[use, default: 0] < bound(of: use) else { return false }
        connecting[use, default: 0] += 1
        return true
    }

    /// Waits until connections have ended or been given back, or for a moment.
    /// - Returns: false after the deadline.
    private func wait(after seen: Int, until deadline: Date) -> Bool {
        let next = min(deadline, Date(timeIntervalSinceNow: Self.retrySeconds))
        return condition.withLock {
            while changes == seen {
                guard condition.wait(until: next) else { return Date() < deadline }
            }
            return Date() < deadline
        }
    }
}

/// Connections that no reader uses right now. The one that was used last is used next.
///
/// `@unchecked Sendable`: the lock guards them, and one reader has each at a time.
final class IdleConnections: @unchecked Sendable {
    private let lock = NSLock()
    private var idle: [PostgresConnection] = []

    func take() -> PostgresConnection? { lock.withLock { idle.popLast() } }

    func giveBack(_ connection: PostgresConnection) { lock.withLock { idle.append(connection) } }

    /// Ends one.
    func drop() { _ = lock.withLock { idle.isEmpty ? nil : idle.removeFirst() } }

    /// Ends all: one was lost, and others may be.
    func dropAll() {
        let all = lock.withLock {
            defer { idle = [] }
            return idle
        }
        _ = all
    }
}
