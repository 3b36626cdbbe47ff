import MartletModel
import MartletRecordCodec
import MartletStorage
import NIOCore
import Testing

@testable import MartletHTTP2Transport
@testable import MartletService

/// `grpc.health.v1.Health`, frame by frame.
@Suite struct HealthTests {
    private static let services = GRPCService.martlet + GRPCService.reflection + [GRPCService.health]
    private static let append = "martlet.v1.AppendService"
    private static let query = "martlet.v1.QueryService"

    private func request(_ service: String) -> ByteBuffer {
        var message = ByteBuffer()
        if !service.isEmpty { message.writeProtoText(1, service) }
        return message
    }

    private func peer(window: Int = 1 << 20) throws -> HTTP2Peer {
        let peer = try HTTP2Peer(window: window, services: Self.services)
        peer.service.startHealth(on: peer.loop)
        return peer
    }

    private func check(_ peer: HTTP2Peer, _ service: String) throws -> ServingStatus? {
        let stream = try peer.call("/grpc.health.v1.Health/Check", request(service))
        guard peer.answer(stream).code == .ok else { return nil }
        return Self.statuses(peer, stream).first
    }

    private func watch(_ peer: HTTP2Peer, _ service: String) throws -> UInt64 {
        try peer.call("/grpc.health.v1.Health/Watch", request(service))
    }

    private static func statuses(_ peer: HTTP2Peer, _ stream: UInt64) -> [ServingStatus] {
        peer.answer(stream).messages.compactMap { message in
            guard message.readableBytes == 2, let value: UInt8 = message.getInteger(at: message.readerIndex + 1) else {
                return nil
            }
            return ServingStatus(rawValue: Int(value))
        }
    }

    private func setWrites(_ peer: HTTP2Peer, fail: Bool) throws {
        if fail {
            peer.service.health.note(.failed(.writes, .full))
            try peer.run()
        } else {
            // The probe finds the storage well.
            try peer.advance(.seconds(20))
        }
    }

    @Test func eachServiceIsKnown() throws {
        let peer = try peer()
        for service in [""] + Self.services.map(\.name) { #expect(try check(peer, service) == .serving, "\(service)") }
    }

    @Test func anUnknownServiceIsNotFound() throws {
        let peer = try peer()
        for service in ["martlet.v1", "martlet.v1.AppendService/Append", " ", String(repeating: "x", count: 100_000)] {
            let stream = try peer.call("/grpc.health.v1.Health/Check", request(service))
            #expect(peer.answer(stream).code == .notFound)
            #expect(peer.answer(stream).message.utf8.count < 1_000)
        }
    }

    /// A text that is cut off, one that is not UTF-8, a number in its place, and no field.
    private static let wrong: [[UInt8]] = [[0x0A, 0x05, 0x61], [0x0A, 0x01, 0xFF], [0x08, 0x01], [0x00]]

    @Test(arguments: ["Check", "Watch"], wrong)
    func bytesThatAreNoRequestAreRefused(_ method: String, _ bytes: [UInt8]) throws {
        let peer = try peer()
        let stream = try peer.call("/grpc.health.v1.Health/\(method)", ByteBuffer(bytes: bytes))
        #expect(peer.answer(stream).code == .invalidArgument)
        #expect(try check(peer, "") == .serving)
    }

    @Test func theListHasAll() throws {
        let peer = try peer()
        try setWrites(peer, fail: true)
        let stream = try peer.call("/grpc.health.v1.Health/List", ByteBuffer())
        let message = try #require(peer.answer(stream).messages.first)
        let state = peer.service.health.state
        #expect(message == HealthMessages.list(GRPCServices(Self.services), state) && !state.serves(.writes))
        var names: [String] = []
        let bytes = Array(message.readableBytesView)
        _ = ProtoMessage.fields(of: bytes, in: bytes.indices) { entry in
            _ = ProtoMessage.fields(of: bytes, in: entry.content ?? 0..<0) { field in
                if field.number == 1 { names += ProtoMessage.text(field, of: bytes).map { [$0] } ?? [] }
            }
        }
        #expect(names == ([""] + Self.services.map(\.name)).sorted())
    }

    @Test func servicesThatWriteFollowTheWrites() throws {
        let peer = try peer()
        try setWrites(peer, fail: true)
        let writing = [
            "martlet.v1.AppendService", "martlet.v1.ConsumerService", "martlet.v1.ScheduleService",
            "martlet.v1.SettingsService", "martlet.v1.SnapshotService",
        ]
        for service in [""] + Self.services.map(\.name) {
            #expect(try check(peer, service) == (writing.contains(service) ? .notServing : .serving), "\(service)")
        }
        try setWrites(peer, fail: false)
        for service in Self.services.map(\.name) { #expect(try check(peer, service) == .serving) }
    }

    @Test func servicesThatReadFollowTheReads() throws {
        let peer = try peer()
        peer.service.health.note(.failed(.reads, .full))
        try peer.run()
        let others = [Self.append, "martlet.v1.AdminService", "grpc.health.v1.Health"]
        for service in [""] + Self.services.map(\.name) {
            let isServing = others.contains(service) || service.hasPrefix("grpc.reflection.")
            #expect(try check(peer, service) == (isServing ? .serving : .notServing), "\(service)")
        }
    }

    @Test func aWatcherIsToldOfEachChangeAndOfNothingElse() throws {
        let peer = try peer()
        let appends = try watch(peer, Self.append)
        let queries = try watch(peer, Self.query)
        #expect(Self.statuses(peer, appends) == [.serving])
        for _ in 0..<3 {
            try setWrites(peer, fail: true)
            peer.service.health.note(.failed(.writes, .full))
            peer.service.health.note(.failed(.writes, .unavailable))
            try peer.run()
            try setWrites(peer, fail: false)
        }
        #expect(
            Self.statuses(peer, appends)
                == [.serving, .notServing, .serving, .notServing, .serving, .notServing, .serving])
        #expect(Self.statuses(peer, queries) == [.serving], "what others need is not its matter")
        #expect(!peer.answer(appends).isEnded)
    }

    @Test func aWatcherOfAnUnknownServiceStays() throws {
        let peer = try peer()
        let stream = try watch(peer, "martlet.v1.NoService")
        try setWrites(peer, fail: true)
        #expect(Self.statuses(peer, stream) == [.serviceUnknown] && !peer.answer(stream).isEnded)
        try peer.drain()
        #expect(Self.statuses(peer, stream) == [.serviceUnknown] && peer.answer(stream).code == .unavailable)
    }

    @Test func aWatcherThatDoesNotReadHasTheNewestStateWaiting() throws {
        // Room for the first message: 5 bytes and 2.
        let peer = try peer(window: 7)
        let stream = try watch(peer, Self.append)
        #expect(Self.statuses(peer, stream) == [.serving])
        for _ in 0..<5 {
            try setWrites(peer, fail: true)
            try setWrites(peer, fail: false)
        }
        try setWrites(peer, fail: true)
        #expect(peer.answer(stream).bytes.readableBytes == 7)
        try peer.giveWindow(1_000, on: stream)
        #expect(Self.statuses(peer, stream) == [.serving, .notServing])
        // What it knows already is not said again.
        try peer.giveWindow(1_000, on: stream)
        #expect(Self.statuses(peer, stream).count == 2)
    }

    @Test func aDrainIsToldBeforeItReachesTheConnection() throws {
        let peer = try peer()
        let whole = try watch(peer, "")
        let health = try watch(peer, "grpc.health.v1.Health")
        let told = peer.service.health.startDraining(on: peer.loop)
        try peer.run()
        try told.wait()
        for stream in [whole, health] {
            #expect(Self.statuses(peer, stream) == [.serving, .notServing] && !peer.answer(stream).isEnded)
        }
        #expect(peer.goAways.isEmpty)
        #expect(try check(peer, "") == .notServing)
        try peer.drain()
        for stream in [whole, health] {
            #expect(Self.statuses(peer, stream).count == 2 && peer.answer(stream).code == .unavailable)
        }
        #expect(!peer.goAways.isEmpty && peer.service.health.watcherCount(on: peer.loop) == 0)
    }

    @Test func aWatcherWithoutRoomIsToldOfTheDrainWithItsEnd() throws {
        let peer = try peer(window: 7)
        let stream = try watch(peer, "")
        _ = peer.service.health.startDraining(on: peer.loop)
        try peer.run()
        try peer.drain()
        #expect(!peer.answer(stream).isEnded)
        try peer.giveWindow(7, on: stream)
        #expect(Self.statuses(peer, stream) == [.serving, .notServing] && peer.answer(stream).code == .unavailable)
    }

    @Test func aConnectionThatIsTooOldEndsItsWatchersAndNoState() throws {
        let peer = try peer()
        let stream = try watch(peer, "")
        try peer.drain()
        #expect(Self.statuses(peer, stream) == [.serving] && peer.answer(stream).code == .unavailable)
    }

    @Test func aWatchBegunWhileTheConnectionLeavesIsToldTheState() throws {
        let peer = try peer()
        // Keeps the connection.
        let open = try peer.begin("/martlet.v1.AppendService/AppendSession")
        let stream = try peer.begin("/grpc.health.v1.Health/Watch")
        _ = peer.service.health.startDraining(on: peer.loop)
        try peer.drain()
        #expect(!peer.answer(stream).isEnded)
        try peer.send(message: request(""), on: stream, isLast: true)
        #expect(Self.statuses(peer, stream) == [.notServing] && peer.answer(stream).code == .unavailable)
        #expect(peer.service.health.watcherCount(on: peer.loop) == 0)
        _ = open
    }

    @Test func aWatcherThatLeavesIsForgotten() throws {
        let peer = try peer()
        let streams = try (0..<10).map { _ in try watch(peer, Self.append) }
        #expect(peer.service.health.watcherCount(on: peer.loop) == 10)
        for stream in streams { try peer.reset(stream) }
        #expect(peer.service.health.watcherCount(on: peer.loop) == 0)
        try setWrites(peer, fail: true)
        #expect(streams.allSatisfy { Self.statuses(peer, $0) == [.serving] })
    }

    @Test func whatAWatchSendsIsDecidedByTheNewestState() {
        var watch = HealthWatch(needs: .writes)
        var failing = ServingState()
        failing.storage = .reads
        #expect(watch.next(failing, hasRoom: false) == nil && watch.told == nil)
        #expect(watch.next(ServingState(), hasRoom: true) == .serving)
        #expect(watch.next(failing, hasRoom: false) == nil)
        #expect(watch.next(ServingState(), hasRoom: true) == nil, "it was told so")
        #expect(watch.next(failing, hasRoom: true) == .notServing)
    }
}
