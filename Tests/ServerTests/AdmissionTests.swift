import MartletModel
import MartletTesting
import NIOCore
import Testing

@testable import MartletServer

/// Which connections come in and which leave, without a socket.
@Suite struct AdmissionTests {
    private typealias Number = ConnectionAdmission.Number

    private static func limits(_ all: Int, perAddress: Int = 1_000, greeting: Int) -> Limits {
        var limits = Limits()
        limits.connectionsMax = all
        limits.connectionsPerAddressMax = perAddress
        limits.greetingConnectionsMax = greeting
        return limits
    }

    private func admitted(_ decision: ConnectionAdmission.Decision) -> (number: Number, evicted: Number?)? {
        guard case .admit(let number, let victim) = decision else { return nil }
        return (number, victim)
    }

    @Test func aFloodOfOneAddressPushesOutItselfOnly() throws {
        let admission = Books(Self.limits(10, greeting: 8))
        let honest = try #require(admitted(admission.accept(from: .v4(1)))).number
        var flood: [Number] = []
        for round in 0..<10_000 {
            let (number, victim) = try #require(admitted(admission.accept(from: .v4(2))))
            flood.append(number)
            #expect(victim == (round < 7 ? nil : flood[round - 7]))
            if let victim { admission.release(victim) }
            #expect(admission.greetingCount <= 8)
        }
        #expect(admission.establish(honest))
        #expect(admission.establishedCount == 1 && admission.greetingCount == 7)
        // Another one comes in beside the flood, which gives a place up.
        let (second, victim) = try #require(admitted(admission.accept(from: .v4(3))))
        #expect(victim == nil)
        let (third, pushedOut) = try #require(admitted(admission.accept(from: .v4(4))))
        #expect(pushedOut == flood[flood.count - 7])
        for number in [second, third] {
            #expect(admission.establish(number))
        }
    }

    @Test func whoHasSaidHelloIsNeverPushedOut() throws {
        let admission = Books(Self.limits(10, greeting: 2))
        let first = try #require(admitted(admission.accept(from: .v4(2)))).number
        #expect(admission.establish(first))
        for _ in 0..<100 {
            let victim = try #require(admitted(admission.accept(from: .v4(2)))).evicted
            #expect(victim != first)
        }
        #expect(!admission.establish(first), "once")
    }

    @Test func anEvictedConnectionCannotBeEstablished() throws {
        let admission = Books(Self.limits(10, greeting: 1))
        let first = try #require(admitted(admission.accept(from: .v4(1)))).number
        let (second, victim) = try #require(admitted(admission.accept(from: .v4(1))))
        #expect(victim == first)
        #expect(!admission.establish(first))
        #expect(admission.establish(second))
        #expect(admission.count == 2, "it is open until it is closed")
        admission.release(first)
        admission.release(first)
        #expect(admission.count == 1 && admission.greetingCount == 0 && admission.establishedCount == 1)
    }

    @Test func anAddressHasItsShare() throws {
        let admission = Books(Self.limits(100, perAddress: 3, greeting: 50))
        var numbers: [Number] = []
        for _ in 0..<3 { numbers.append(try #require(admitted(admission.accept(from: .v6(high: 7, low: 1)))).number) }
        // The same network of 64 bits, established or not.
        #expect(admission.establish(numbers[0]))
        #expect(admission.accept(from: .v6(high: 7, low: 2)) == .refuse(.address))
        #expect(admitted(admission.accept(from: .v6(high: 8, low: 1))) != nil)
        admission.release(numbers[0])
        #expect(admitted(admission.accept(from: .v6(high: 7, low: 2))) != nil)
    }

    @Test func aFullServerTellsAFewAndClosesTheOthers() throws {
        let admission = Books(Self.limits(2, greeting: 16))
        for _ in 0..<2 {
            let number = try #require(admitted(admission.accept(from: .v4(1)))).number
            #expect(admission.establish(number))
        }
        let told = try (0..<2).map { _ in try #require(admitted(admission.accept(from: .v4(1)))).number }
        #expect(admission.accept(from: .v4(1)) == .refuse(.server))
        #expect(!admission.establish(told[0]), "there is no place for it")
        admission.release(told[0])
        #expect(admitted(admission.accept(from: .v4(1))) != nil)
    }

    /// Whatever happens, the books agree with a count of what is open.
    @Test func theBooksAgreeWithACount() throws {
        var random = SeededGenerator.fromEnvironment()
        let admission = Books(Self.limits(20, perAddress: 9, greeting: 12))
        var open: [Number: (address: UInt32, state: Int)] = [:]
        for step in 0..<20_000 {
            switch Int.random(in: 0..<4, using: &random) {
            case 0, 1:
                let address = UInt32.random(in: 0..<5, using: &random)
                guard let (number, victim) = admitted(admission.accept(from: .v4(address))) else { continue }
                if let victim {
                    #expect(open[victim]?.state == 0)
                    open[victim]?.state = 2
                }
                open[number] = (address, 0)
            case 2:
                guard let number = open.keys.sorted().randomElement(using: &random) else { continue }
                if admission.establish(number) {
                    #expect(open[number]?.state == 0)
                    open[number]?.state = 1
                }
            default:
                guard let number = open.keys.sorted().randomElement(using: &random) else { continue }
                open[number] = nil
                admission.release(number)
            }
            let counts = [0, 1].map { state in open.values.count { $0.state == state } }
            guard admission.greetingCount == counts[0], admission.establishedCount == counts[1],
                admission.count == open.count, counts[0] <= 12, counts[1] <= 20,
                (0..<5).allSatisfy({ address in open.values.count { $0.address == address } <= 9 })
            else {
                Issue.record("step \(step), seed \(random.seed)")
                return
            }
        }
    }

    @Test(arguments: [
        ("127.0.0.1", true), ("127.255.0.9", true), ("127.1", true), ("::1", true), ("::ffff:127.0.0.1", true),
        ("localhost", true), ("0.0.0.0", false), ("::", false), ("10.0.0.1", false), ("128.0.0.1", false),
        ("::ffff:10.0.0.1", false), ("::2", false), ("fe80::1", false),
    ])
    func loopbackIsToldByTheAddress(host: String, isLoopback: Bool) throws {
        #expect(try ListenAddress(host: host, port: 0).isLoopback == isLoopback)
    }

    @Test func aNameThatLooksLikeLoopbackIsNot() throws {
        // What 127.attacker.example would resolve to.
        let resolved = try SocketAddress(ipAddress: "203.0.113.7", port: 7311)
        #expect(!ListenAddress(resolved).isLoopback)
        #expect(throws: (any Error).self) { try ListenAddress(host: "127.0.0.1.invalid", port: 0) }
    }

    @Test func aV4AddressInV6IsTheSameAddress() throws {
        let mapped = try SocketAddress(ipAddress: "::ffff:192.0.2.9", port: 1)
        #expect(PeerAddress(mapped) == .v4(0xC000_0209))
        #expect(PeerAddress(try SocketAddress(ipAddress: "192.0.2.9", port: 2)) == .v4(0xC000_0209))
        let network = PeerAddress(try SocketAddress(ipAddress: "2001:db8:1:2:3:4:5:6", port: 2)).network
        #expect(network == .v6(high: 0x2001_0DB8_0001_0002, low: 0))
    }

    @Test func aLineIsWrittenOnceInAWhile() {
        var throttle = LogThrottle()
        let start = NIODeadline.uptimeNanoseconds(5)
        let lines = (0..<100_000).map { throttle.admit(now: start + .milliseconds($0)) }
        #expect(lines.compactMap { $0 } == [0] + Array(repeating: 9_999, count: 9))
    }

    @Test func descriptorsAreCheckedAgainstTheConnections() throws {
        var limits = Limits()
        try DescriptorLimit.check(limits, available: 11_280)
        let error = #expect(throws: MartletError.self) { try DescriptorLimit.check(limits, available: 4_096) }
        #expect(error?.reason == .invalidLimits)
        #expect(error?.message.contains("connections_max 10000") == true)
        #expect(error?.message.contains("the process may open only 4096") == true)
        #expect(error?.message.contains("--connections-max") == true)
        limits.connectionsMax = 2_816
        try DescriptorLimit.check(limits, available: 4_096)
        #expect(error?.message.contains("2816") == true)
    }
}

/// `#expect` calls nothing that changes a value.
private final class Books {
    private var admission: ConnectionAdmission

    init(_ limits: Limits) { admission = ConnectionAdmission(limits) }

    var count: Int { admission.count }
    var greetingCount: Int { admission.greetingCount }
    var establishedCount: Int { admission.establishedCount }

    func accept(from address: PeerAddress) -> ConnectionAdmission.Decision { admission.accept(from: address) }
    func establish(_ number: ConnectionAdmission.Number) -> Bool { admission.establish(number) }
    func release(_ number: ConnectionAdmission.Number) { admission.release(number) }
}
