import FoundationEssentials
import MartletAccess
import MartletFrameCodec
import MartletHTTP2Transport
import MartletModel
import MartletRecordCodec
import MartletService
import MartletTenants
import MartletTesting
import NIOCore
import NIOHPACK
import NIOHTTP2
import Testing

/// Calls over gRPC, frame by frame.
@Suite struct CallTests {
    private let tenant = TenantID(UUID())
    private let order = AggregateName.new()

    private func request(_ count: Int = 1, expecting expected: ExpectedVersion = .any, bytes: Int = 10) throws
        -> AppendRequest
    {
        let events = try (0..<count).map { _ in
            try EncodedEvent.sample(String(repeating: "x", count: bytes), contentType: "text/plain")
        }
        return AppendRequest(
            tenant: tenant, aggregates: [AggregateAppend(aggregate: order, expected: expected, events: events)])
    }

    private func subscribe(_ peer: HTTP2Peer) throws -> UInt64 {
        let request = SubscribeRequest(tenant: tenant, start: .after(.start))
        return try peer.call("/martlet.v1.SubscribeService/Subscribe", BareMessages.encode(.subscribe(request)).message)
    }

    /// The positions that a subscription brought.
    private func positions(_ peer: HTTP2Peer, _ stream: UInt64) throws -> [UInt64] {
        try peer.answer(stream).messages.flatMap { message -> [UInt64] in
            guard
                case .subscribe(let part) = try BareMessages.answer(message, to: .subscribe, limits: Limits())
            else { return [] }
            return try RecordedEntries.decode(part.entries).map(\.position.rawValue)
        }
    }

    private func receipt(_ peer: HTTP2Peer, _ stream: UInt64) throws -> AppendReceipt {
        let message = try #require(peer.answer(stream).messages.first)
        guard case .append(let receipt) = try BareMessages.answer(message, to: .append, limits: Limits()) else {
            throw MartletError(.internal, reason: .internalError, message: "another answer")
        }
        return receipt
    }

    private func take(_ count: Int, from bytes: inout ByteBuffer) -> ByteBuffer? { bytes.readSlice(length: count) }

    @Test func anAppendIsAnswered() throws {
        let peer = try HTTP2Peer()
        let stream = try peer.append(try request(3))
        let answer = peer.answer(stream)
        #expect(answer.code == .ok)
        #expect(answer.headers.first?.first(name: "content-type") == "application/grpc")
        #expect(try receipt(peer, stream).lastPosition == Position(3))
        #expect(answer.reset == nil)
    }

    // MARK: Messages

    @Test func aMessageOfTheGreatestSizeIsLetInOnTheAccount() throws {
        let peer = try HTTP2Peer()
        let pool = peer.service.pools.inbound
        let stream = try peer.begin("/martlet.v1.AppendService/Append")
        var bytes = HTTP2Peer.prefixed(BareMessages.encode(.append(try request(bytes: 1_000_000))).message)
        let first = try #require(take(60_000, from: &bytes))
        try peer.send(first, on: stream)
        #expect(pool.bytes > 1_000_000, "the whole message is on the account")
        #expect(peer.windowUpdates[stream, default: 0] >= 900_000, "and may come")
        try peer.send(bytes, on: stream, isLast: true)
        #expect(peer.answer(stream).code == .ok)
        #expect(pool.bytes == 0)
    }

    /// Around the window and what is free of an account, each length comes through.
    @Test(arguments: [65_529, 65_530, 65_531, 65_532, 65_536, 65_541, 65_542])
    func aMessageAboutAsLongAsTheWindowIsLetIn(_ bytes: Int) throws {
        let peer = try HTTP2Peer()
        let empty = BareMessages.encode(.append(try request(bytes: 60_000))).message.readableBytes - 60_000
        let message = BareMessages.encode(.append(try request(bytes: bytes - empty))).message
        try #require(message.readableBytes == bytes)
        let stream = try peer.begin("/martlet.v1.AppendService/Append")
        var prefixed = HTTP2Peer.prefixed(message)
        let first = try #require(take(65_535, from: &prefixed) ?? take(prefixed.readableBytes, from: &prefixed))
        let isWhole = prefixed.readableBytes == 0
        try peer.send(first, on: stream, isLast: isWhole)
        if !isWhole { try peer.send(prefixed, on: stream, isLast: true) }
        #expect(peer.answer(stream).code == .ok)
        #expect(peer.service.pools.inbound.bytes == 0)
    }

    /// Calls that send in turns, each a piece of its message, must not fill the connection's window with pieces.
    @Test(arguments: [8, 100])
    func messagesThatComeInPiecesDoNotBlockEachOther(_ count: Int) throws {
        let peer = try HTTP2Peer()
        var rest = try (0..<count).map { _ in
            HTTP2Peer.prefixed(BareMessages.encode(.append(try request(bytes: 45_000))).message)
        }
        let streams = try (0..<count).map { _ in try peer.begin("/martlet.v1.AppendService/Append") }
        while rest.contains(where: { $0.readableBytes > 0 }) {
            for index in 0..<count {
                guard let part = take(min(9_000, rest[index].readableBytes), from: &rest[index]) else { continue }
                let isLast = rest[index].readableBytes == 0
                if part.readableBytes > 0 { try peer.send(part, on: streams[index], isLast: isLast) }
            }
        }
        for stream in streams { #expect(peer.answer(stream).code == .ok) }
        #expect(peer.service.pools.inbound.bytes == 0)
    }

    @Test func aLargeMessageWaitsForRoomAndSmallOnesPass() throws {
        var limits = Limits()
        limits.writeStallMillis = 1_000
        let peer = try HTTP2Peer(limits)
        let pool = peer.service.pools.inbound
        let rival = FairPool.Holder.tenant(TenantID(UUID()))
        _ = pool.takeAlways(pool.bytesMax, for: rival)
        let stream = try peer.begin("/martlet.v1.AppendService/Append")
        var bytes = HTTP2Peer.prefixed(BareMessages.encode(.append(try request(bytes: 1_000_000))).message)
        let first = try #require(take(60_000, from: &bytes))
        try peer.send(first, on: stream)
        #expect(peer.windowUpdates[stream] == nil, "no more may come")
        #expect(peer.answer(try peer.append(try request())).code == .ok)
        for _ in 0..<8 { try peer.advance(.seconds(1)) }
        #expect(peer.answer(stream).code == .resourceExhausted, "it waited too long")
        #expect(peer.isOpen)
        #expect(peer.answer(try peer.append(try request())).code == .ok)
        pool.give(pool.bytesMax, for: rival)
        try peer.run()
        #expect(pool.bytes == 0)
    }

    /// A worker whose stream is ended by the server has left its consumer, too.
    @Test func aStreamThatWaitsTooLongGivesBackWhatItsCallHolds() throws {
        var limits = Limits()
        limits.writeStallMillis = 1_000
        let peer = try HTTP2Peer(limits)
        let consumer = ConsumerID(tenant: tenant, name: try #require(ConsumerName("c")))
        let put = CallRequest.putConsumer(PutConsumerRequest(consumer, ConsumerDefinition()))
        let made = try peer.call("/martlet.v1.ConsumerService/PutConsumer", BareMessages.encode(put).message)
        #expect(peer.answer(made).code == .ok)
        let stream = try peer.begin("/martlet.v1.ConsumerService/Consume")
        let start = CallRequest.consume(ConsumeRequest(consumer, worker: try #require(WorkerName("w"))))
        let content = BareMessages.encode(start).message
        var message = ByteBuffer(bytes: [1 << 3 | 2, UInt8(content.readableBytes)])
        message.writeImmutableBuffer(content)
        try peer.send(message: message, on: stream)
        #expect(peer.service.pools.calls.bytes > 0)
        let pool = peer.service.pools.inbound
        let rival = FairPool.Holder.tenant(TenantID(UUID()))
        _ = pool.takeAlways(pool.bytesMax, for: rival)
        // The prefix of a message of 1 MiB, which finds no room.
        try peer.send(ByteBuffer(bytes: [0, 0, 0x10, 0, 0]), on: stream)
        for _ in 0..<8 { try peer.advance(.seconds(1)) }
        #expect(peer.answer(stream).code == .resourceExhausted)
        #expect(peer.service.pools.calls.bytes == 0)
        pool.give(pool.bytesMax, for: rival)
    }

    @Test func whatBreaksTheFramingEndsTheCallAlone() throws {
        let peer = try HTTP2Peer()
        let path = "/martlet.v1.AppendService/Append"
        let message = BareMessages.encode(.append(try request())).message
        let none = try peer.begin(path)
        try peer.send(ByteBuffer(), on: none, isLast: true)
        #expect(peer.answer(none).code == .unimplemented)
        let two = try peer.begin(path)
        try peer.send(message: message, on: two)
        try peer.send(message: message, on: two, isLast: true)
        #expect(peer.answer(two).code == .unimplemented)
        let cut = try peer.begin(path)
        var part = HTTP2Peer.prefixed(message)
        let half = try #require(take(20, from: &part))
        try peer.send(half, on: cut, isLast: true)
        #expect(peer.answer(cut).code == .internal)
        let long = try peer.begin(path)
        try peer.send(ByteBuffer(bytes: [0, 0x7F, 0xFF, 0xFF, 0xFF]), on: long)
        #expect(peer.answer(long).code == .resourceExhausted)
        #expect(peer.answer(long).message.contains("frame_bytes_max"))
        #expect(peer.answer(long).reset == .noError, "the client may stop")
        let flag = try peer.begin(path)
        try peer.send(message: message, flag: 2, on: flag, isLast: true)
        #expect(peer.answer(flag).code == .internal)
        let unannounced = try peer.begin(path)
        try peer.send(message: message, flag: 1, on: unannounced, isLast: true)
        #expect(peer.answer(unannounced).code == .internal)
        #expect(peer.answer(try peer.append(try request())).code == .ok)
    }

    @Test func fieldsThatAreWrongAreNamed() throws {
        let peer = try HTTP2Peer()
        let message = BareMessages.encode(.append(try request())).message
        let path = "/martlet.v1.AppendService/Append"
        #expect(peer.answer(try peer.call("/martlet.v1.AppendService/Nope", message)).code == .unimplemented)
        #expect(peer.answer(try peer.call("/nowhere.Service/Nope", message)).code == .unimplemented)
        #expect(peer.answer(try peer.call(path, message, [("grpc-timeout", "1x")])).code == .invalidArgument)
        let encoded = peer.answer(try peer.call(path, message, [("grpc-encoding", "br")]))
        #expect(encoded.code == .unimplemented)
        #expect(encoded.headers.last?.first(name: "grpc-accept-encoding") == "identity,gzip")
    }

    // MARK: Errors

    /// Trailers cannot hold events: the details say that there are some.
    @Test func conflictingEventsAreTruncatedInTrailers() throws {
        let peer = try HTTP2Peer()
        _ = try peer.append(try request(3))
        for (expected, isTruncated) in [(ExpectedVersion.exact(Version(1)), true), (.exact(Version(7)), false)] {
            var late = try request(expecting: expected)
            late.includeConflictingEvents = true
            let answer = peer.answer(try peer.append(late))
            #expect(answer.code == .aborted)
            let details = try #require(answer.headers.last?.first(name: "grpc-status-details-bin"))
            let padded = details + String(repeating: "=", count: (4 - details.utf8.count % 4) % 4)
            let bytes = try #require(Data(base64Encoded: padded))
            // The last field of the conflict, which ends the details: events_truncated.
            #expect((bytes.suffix(2) == Data([5 << 3, 1])) == isTruncated, "\(Array(bytes.suffix(8)))")
        }
    }

    @Test func detailsOfManyConflictsStayWithinTrailers() throws {
        let peer = try HTTP2Peer()
        let names = (0..<100).map { _ in AggregateName.new() }
        let parts = try names.map { name in
            AggregateAppend(aggregate: name, expected: .exact(Version(9)), events: [try EncodedEvent.sample("{}")])
        }
        let answer = peer.answer(try peer.append(AppendRequest(tenant: tenant, aggregates: parts)))
        #expect(answer.code == .aborted)
        let details = try #require(answer.headers.last?.first(name: "grpc-status-details-bin"))
        #expect((1_000...4_096).contains(details.utf8.count))
    }

    // MARK: Windows

    @Test func aClientWithoutWindowCostsNothingAndGetsAllInTheEnd() throws {
        let peer = try HTTP2Peer(window: 0)
        let stream = try subscribe(peer)
        for _ in 0..<100 { _ = try peer.append(try request(10, bytes: 1_000)) }
        #expect(peer.answer(stream).bytes.readableBytes == 0)
        #expect(peer.service.pools.outbound.bytes == 0, "nothing is held for it")
        // 3,000 bytes at a time: less than a page.
        for _ in 0..<400 { try peer.giveWindow(3_000, on: stream) }
        try peer.giveWindow(2_000_000, on: 0)
        for _ in 0..<10 { try peer.giveWindow(100_000, on: stream) }
        #expect(try positions(peer, stream) == Array(1...1_000))
    }

    @Test func theConnectionsWindowHoldsAllStreams() throws {
        let peer = try HTTP2Peer(window: 1 << 20)
        let streams = try (0..<10).map { _ in try subscribe(peer) }
        for _ in 0..<50 { _ = try peer.append(try request(10, bytes: 1_000)) }
        let sent = streams.reduce(0) { $0 + peer.answer($1).bytes.readableBytes }
        #expect((40_000...65_535).contains(sent), "\(sent): HTTP/2 begins with 65,535")
        #expect(peer.service.pools.outbound.bytes <= 10 << 20)
        for _ in 0..<100 { try peer.giveWindow(100_000, on: 0) }
        for stream in streams { #expect(try positions(peer, stream) == Array(1...500)) }
        #expect(peer.service.pools.outbound.bytes == 0)
    }

    @Test func aLaterInitialWindowMovesOpenStreams() throws {
        let peer = try HTTP2Peer(window: 0)
        let stream = try subscribe(peer)
        _ = try peer.append(try request(10))
        #expect(peer.answer(stream).bytes.readableBytes == 0)
        let settings: HTTP2Settings = [HTTP2Setting(parameter: .initialWindowSize, value: 50_000)]
        try peer.write(HTTP2Frame(streamID: .rootStream, payload: .settings(.settings(settings))))
        #expect(try positions(peer, stream) == Array(1...10))
    }

    // MARK: Ends

    @Test func aResetGivesEverythingBack() throws {
        let peer = try HTTP2Peer(window: 0)
        let streams = try (0..<50).map { _ in try subscribe(peer) }
        #expect(peer.service.pools.calls.bytes > 0)
        for stream in streams { try peer.reset(stream) }
        #expect(peer.service.pools.calls.bytes == 0)
        #expect(peer.answer(try peer.append(try request())).code == nil, "its window is 0, too")
    }

    @Test func aCallEndsAtItsDeadlineWhateverItsClientSends() throws {
        let peer = try HTTP2Peer()
        let silent = try peer.begin("/martlet.v1.AppendService/Append", [("grpc-timeout", "500m")])
        let session = try peer.begin("/martlet.v1.AppendService/AppendSession", [("grpc-timeout", "2S")])
        try peer.advance(.milliseconds(499))
        #expect(peer.answer(silent).code == nil)
        try peer.advance(.milliseconds(2))
        #expect(peer.answer(silent).code == .deadlineExceeded)
        #expect(peer.answer(session).code == nil)
        try peer.advance(.seconds(2))
        #expect(peer.answer(session).code == .deadlineExceeded)
        #expect(peer.answer(try peer.append(try request())).code == .ok)
    }

    @Test func aDrainEndsSubscriptionsAndClosesWhenAllIsAnswered() throws {
        let peer = try HTTP2Peer()
        let stream = try subscribe(peer)
        let unfinished = try peer.begin("/martlet.v1.AppendService/Append")
        try peer.drain()
        #expect(peer.goAways.first?.last == .maxID)
        #expect(peer.answer(stream).code == .unavailable)
        #expect(peer.goAways.count == 2, "the answer to the ping brings the second")
        #expect(peer.goAways.last?.last == HTTP2StreamID(Int(unfinished)))
        #expect(peer.isOpen)
        try peer.send(message: BareMessages.encode(.append(try request())).message, on: unfinished, isLast: true)
        #expect(peer.answer(unfinished).code == .ok)
        #expect(!peer.isOpen)
    }

    @Test func aConnectionOfSomeAgeIsDrained() throws {
        var limits = Limits()
        limits.connectionAgeMillis = 100_000
        let peer = try HTTP2Peer(limits)
        for _ in 0..<20 { try peer.advance(.seconds(4)) }
        #expect(peer.goAways.isEmpty)
        for _ in 0..<10 { try peer.advance(.seconds(4)) }
        #expect(peer.goAways.first?.code == .noError)
        #expect(!peer.isOpen)
    }

    @Test func whoMayNotCallIsToldByEachCall() throws {
        let peer = try HTTP2Peer(principal: nil)
        let answer = peer.answer(try peer.append(try request()))
        #expect(answer.code == .unauthenticated)
        #expect(answer.message.contains("client certificate"))
        for _ in 0..<6 { try peer.advance(.seconds(3)) }
        #expect(!peer.isOpen, "it has as long as a handshake")
    }

    @Test func theTenantIsCheckedAgainstThePrincipal() throws {
        let peer = try HTTP2Peer(principal: Principal(identity: "me", tenants: .only([TenantID(UUID())])))
        #expect(peer.answer(try peer.append(try request())).code == .permissionDenied)
    }

    @Test func trustThatEndsEndsTheConnection() throws {
        let peer = try HTTP2Peer()
        peer.warrant.fault_ = MartletError(.unauthenticated, reason: .certificateExpired, message: "expired")
        try peer.advance(.seconds(3))
        #expect(peer.goAways.last?.text.contains("CERTIFICATE_EXPIRED") == true)
        #expect(!peer.isOpen)
    }

    @Test func endlessPingsAreAnsweredWithGoAway() throws {
        var limits = Limits()
        limits.controlFramesMax = 100
        let peer = try HTTP2Peer(limits)
        for number in 0..<200 where peer.isOpen {
            let ping = HTTP2PingData(withInteger: UInt64(number))
            try peer.write(HTTP2Frame(streamID: .rootStream, payload: .ping(ping, ack: false)))
        }
        #expect(!peer.isOpen)
        #expect(peer.goAways.last?.code == .enhanceYourCalm)
        #expect(peer.goAways.last?.text.contains("too_many_pings") == true)
    }

    /// The clock is moved by hand. Pings are answered, and nothing of the subscription is taken.
    @Test func aZeroWindowForAnHourIsASlowSubscriber() throws {
        let peer = try HTTP2Peer(window: 0)
        let stream = try subscribe(peer)
        let pool = peer.service.pools.outbound
        var appended = 0
        for second in stride(from: 0, to: 3_600, by: 2) {
            try peer.advance(.seconds(2))
            guard second % 60 == 0 else { continue }
            let append = try peer.append(request(bytes: 1_000))
            #expect(peer.answer(append).headers.count == 1, "the answer waits for its window, too")
            try peer.giveWindow(1_000, on: append)
            #expect(peer.answer(append).code == .ok)
            appended += 1
        }
        #expect(peer.isOpen && peer.goAways.isEmpty && peer.answer(stream).bytes.readableBytes == 0)
        #expect(appended == 60 && pool.bytes == 0, "\(pool.bytes) bytes are held")
        try peer.giveWindow(1 << 20, on: stream)
        try peer.giveWindow(1 << 20, on: 0)
        #expect(try positions(peer, stream) == (1...60).map { UInt64($0) })
        #expect(!peer.answer(stream).isEnded)
    }
}
