public import NIOCore

/// Where a server listens: one address, resolved once, so that what was checked is what is bound.
public struct ListenAddress: Sendable {
    /// The address.
    public let socketAddress: SocketAddress

    /// Resolves a name or reads an address. It blocks while the name is looked up.
    ///
    /// - Throws: what the system says if the name has no address.
    public init(host: String, port: Int) throws {
        socketAddress = try SocketAddress.makeAddressResolvingHost(host, port: port)
    }

    /// That address.
    public init(_ socketAddress: SocketAddress) { self.socketAddress = socketAddress }

    /// An address and its port, as a user writes them: `127.0.0.1:7311`, `[::1]:7311`, or the path of a Unix socket.
    public static func text(of address: SocketAddress) -> String {
        let port = address.port.map { ":\($0)" } ?? ""
        return switch address {
        case .v4: (address.ipAddress ?? "") + port
        case .v6: "[\(address.ipAddress ?? "")]\(port)"
        case .unixDomainSocket: address.pathname ?? ""
        }
    }

    /// The numbers of the address, without the port.
    public var host: String { socketAddress.ipAddress ?? "" }

    /// Whether only this machine can reach it: 127.0.0.0/8, also as IPv6 writes it, `::1`, or a Unix socket.
    public var isLoopback: Bool {
        switch PeerAddress(socketAddress) {
        case .v4(let number): number >> 24 == 127
        case .v6(let high, let low): high == 0 && low == 1
        case .local: true
        case .unknown: false
        }
    }
}

/// Numbers of an address, without the port.
enum PeerAddress: Hashable, Sendable {
    /// IPv4, also where it came as an IPv4-mapped IPv6 address.
    case v4(UInt32)
    case v6(high: UInt64, low: UInt64)
    case local
    case unknown

    init(_ address: SocketAddress?) {
        switch address {
        case .v4?:
            // Behind the family and the port.
            self = .v4(UInt32(truncatingIfNeeded: Self.number(in: address, at: 4) >> 32))
        case .v6?:
            // Behind the family, the port and the flow.
            let high = Self.number(in: address, at: 8)
            let low = Self.number(in: address, at: 16)
            self = high == 0 && low >> 32 == 0xFFFF ? .v4(UInt32(truncatingIfNeeded: low)) : .v6(high: high, low: low)
        case .unixDomainSocket?: self = .local
        case nil: self = .unknown
        }
    }

    /// Eight bytes of the system's form of an address, as a number in network order.
    private static func number(in address: SocketAddress?, at offset: Int) -> UInt64 {
        unsafe address?.withSockAddr { pointer, size in
            let bytes = unsafe UnsafeRawBufferPointer(start: pointer, count: size)
            guard offset + 8 <= size else { return 0 }
            return UInt64(bigEndian: unsafe bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        } ?? 0
    }

    /// Who is counted as one: an IPv4 address, or an IPv6 network of 64 bits, which one customer commonly has.
    var network: PeerAddress {
        if case .v6(let high, _) = self { .v6(high: high, low: 0) } else { self }
    }
}
