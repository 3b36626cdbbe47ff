import MartletModel

/// Which connections a server has, and which it lets in: how many in all, how many of one address, and how many that have
/// not said who they are. Without I/O.
///
/// A connection is greeting from accept to Hello, and established afterwards. Those that are greeting have a pool of their
/// own. When it is full, the newcomer comes in and the longest-greeting connection of the address that has most of them
/// leaves, so that a flood from few addresses pushes out its own connections and not those of others.
struct ConnectionAdmission {
    /// Names a connection; later ones have greater numbers.
    struct Number: Hashable, Comparable, Sendable {
        var rawValue: UInt64
        static func < (a: Number, b: Number) -> Bool { a.rawValue < b.rawValue }
    }

    enum Refusal: Hashable, Sendable {
        /// The address has `connections_per_address_max` connections.
        case address
        /// The server has `connections_max` established connections, and tells enough others so already.
        case server
    }

    enum Decision: Equatable, Sendable {
        /// It comes in; the other one is to be closed.
        case admit(Number, evict: Number?)
        /// It is to be closed at once.
        case refuse(Refusal)
    }

    private enum Phase { case greeting, evicted, established }

    private struct Connection {
        let address: PeerAddress
        var phase = Phase.greeting
    }

    private let connectionsMax: Int
    private let perAddressMax: Int
    private let greetingMax: Int
    private var connections: [Number: Connection] = [:]
    private var countByAddress: [PeerAddress: Int] = [:]
    /// Those that are greeting, oldest first; an address without one is not in it.
    private var greetingByAddress: [PeerAddress: [Number]] = [:]
    private var lastNumber: UInt64 = 0
    private(set) var greetingCount = 0
    private(set) var establishedCount = 0

    init(_ limits: Limits) {
        connectionsMax = limits.connectionsMax
        perAddressMax = limits.connectionsPerAddressMax
        greetingMax = limits.greetingConnectionsMax
    }

    /// Those that are open, greeting or not.
    var count: Int { connections.count }

    /// Whether a connection that has come this far must be told that there is no place for it.
    var isFull: Bool { establishedCount >= connectionsMax }

    mutating func accept(from address: PeerAddress) -> Decision {
        let address = address.network
        guard countByAddress[address, default: 0] < perAddressMax else { return .refuse(.address) }
        // A few of those for whom there is no place get a handshake, and the reason in words.
        if isFull, greetingCount >= max(1, greetingMax / 8) { return .refuse(.server) }
        let victim = greetingCount >= greetingMax ? evict() : nil
        lastNumber += 1
        let number = Number(rawValue: lastNumber)
        connections[number] = Connection(address: address)
        countByAddress[address, default: 0] += 1
        greetingByAddress[address, default: []].append(number)
        greetingCount += 1
        return .admit(number, evict: victim)
    }

    /// The oldest of those that greet, of the address that has most of them. The caller closes it.
    mutating func evict() -> Number? {
        var busiest: (address: PeerAddress, count: Int, oldest: Number)?
        for (address, numbers) in greetingByAddress {
            guard let oldest = numbers.first else { continue }
            guard let best = busiest else {
                busiest = (address, numbers.count, oldest)
                continue
            }
            if numbers.count > best.count || numbers.count == best.count && oldest < best.oldest {
                busiest = (address, numbers.count, oldest)
            }
        }
        guard let busiest else { return nil }
        endGreeting(busiest.oldest, address: busiest.address)
        connections[busiest.oldest]?.phase = .evicted
        return busiest.oldest
    }

    /// The connection has said Hello.
    /// - Returns: whether there is a place for it.
    mutating func establish(_ number: Number) -> Bool {
        guard let connection = connections[number], connection.phase == .greeting, !isFull else { return false }
        endGreeting(number, address: connection.address)
        connections[number]?.phase = .established
        establishedCount += 1
        return true
    }

    /// The connection is closed; more than once is once.
    mutating func release(_ number: Number) {
        guard let connection = connections.removeValue(forKey: number) else { return }
        switch connection.phase {
        case .greeting: endGreeting(number, address: connection.address)
        case .established: establishedCount -= 1
        case .evicted: break
        }
        let left = countByAddress[connection.address, default: 0] - 1
        countByAddress[connection.address] = left > 0 ? left : nil
    }

    private mutating func endGreeting(_ number: Number, address: PeerAddress) {
        guard let index = greetingByAddress[address]?.firstIndex(of: number) else { return }
        greetingByAddress[address]?.remove(at: index)
        if greetingByAddress[address]?.isEmpty == true { greetingByAddress[address] = nil }
        greetingCount -= 1
    }
}
