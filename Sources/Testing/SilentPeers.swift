import Glibc

/// Sockets that connect to a server on loopback and say nothing; closed with this object.
public final class SilentPeers {
    private var sockets: [Int32] = []

    /// None yet.
    public init() {}

    deinit { closeAll() }

    /// Connects that many more, each from an address of 127/8 that `source` tells (the last three bytes).
    /// - Returns: how many came to be connected.
    @discardableResult
    public func connect(_ count: Int, to port: Int, from source: UInt32 = 0x00_00_01) -> Int {
        var connected = 0
        for _ in 0..<count {
            let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            guard socket >= 0 else { break }
            var here = Self.address(source, port: 0)
            var there = Self.address(0x00_00_01, port: port)
            guard unsafe Self.call(bind, socket, &here) == 0, unsafe Self.call(Glibc.connect, socket, &there) == 0
            else {
                _ = Glibc.close(socket)
                continue
            }
            sockets.append(socket)
            connected += 1
        }
        return connected
    }

    /// How many of them the server has closed.
    public var closedCount: Int {
        sockets.count { socket in
            var byte: UInt8 = 0
            let count = unsafe recv(socket, &byte, 1, Int32(MSG_DONTWAIT))
            return count == 0 || count < 0 && errno != EAGAIN
        }
    }

    /// Closes all.
    public func closeAll() {
        for socket in sockets { _ = Glibc.close(socket) }
        sockets = []
    }

    private static func address(_ host: UInt32, port: Int) -> sockaddr_in {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = (127 << 24 | host).bigEndian
        return address
    }

    private static func call(
        _ function: (Int32, UnsafePointer<sockaddr>, socklen_t) -> Int32, _ socket: Int32, _ address: inout sockaddr_in
    ) -> Int32 {
        unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { rebound in
                unsafe function(socket, rebound, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
