import MartletModel
import MartletRecordCodec
import NIOCore
import Testing

@testable import MartletHTTP2Transport

/// `grpc.reflection.v1.ServerReflection`, message by message.
@Suite struct ReflectionTests {
    private static let services = GRPCService.martlet + GRPCService.reflection + [GRPCService.health]
    private static let reflection = Reflection(index: .own, services: services.map(\.name).sorted())

    private func request(_ field: UInt32, _ text: String, host: String = "") -> ByteBuffer {
        var message = ByteBuffer()
        if !host.isEmpty { message.writeProtoText(1, host) }
        message.writeProtoText(field, text)
        return message
    }

    /// The fields of an answer, by number.
    private func fields(_ message: ByteBuffer) -> [UInt32: ByteBuffer] {
        let bytes = Array(message.readableBytesView)
        var fields: [UInt32: ByteBuffer] = [:]
        let isMessage = ProtoMessage.fields(of: bytes, in: bytes.indices) { field in
            if let content = field.content { fields[field.number] = ByteBuffer(bytes: bytes[content]) }
        }
        #expect(isMessage)
        return fields
    }

    /// The names of the files of an answer, in order; nil where it has none.
    private func files(_ answer: ByteBuffer) -> [String]? {
        guard let response = fields(answer)[4] else { return nil }
        let bytes = Array(response.readableBytesView)
        var names: [String] = []
        _ = ProtoMessage.fields(of: bytes, in: bytes.indices) { file in
            if let content = file.content {
                names += fields(ByteBuffer(bytes: bytes[content]))[1].map { [String(buffer: $0)] } ?? []
            }
        }
        return names
    }

    private func errorCode(_ answer: ByteBuffer) -> UInt64? {
        guard let error = fields(answer)[7] else { return nil }
        let bytes = Array(error.readableBytesView)
        var code: UInt64?
        _ = ProtoMessage.fields(of: bytes, in: bytes.indices) { if $0.number == 1 { code = $0.varint } }
        return code
    }

    @Test func theServicesAreListed() throws {
        let request = request(7, "*", host: "here")
        let answer = try Self.reflection.answer(request)
        let list = try #require(fields(answer)[6])
        let bytes = Array(list.readableBytesView)
        var names: [String] = []
        _ = ProtoMessage.fields(of: bytes, in: bytes.indices) { service in
            if let content = service.content {
                names += fields(ByteBuffer(bytes: bytes[content]))[1].map { [String(buffer: $0)] } ?? []
            }
        }
        #expect(names == Self.services.map(\.name).sorted())
        #expect(fields(answer)[1] == ByteBuffer(string: "here") && fields(answer)[2] == request)
    }

    @Test func symbolsOfEveryKindAreFound() throws {
        let health = "grpc/health/v1/health.proto"
        for symbol in [
            "grpc.health.v1.Health", "grpc.health.v1.Health.Watch", "grpc.health.v1.HealthCheckRequest",
            "grpc.health.v1.HealthCheckRequest.service", "grpc.health.v1.HealthCheckResponse.ServingStatus",
            "grpc.health.v1.HealthCheckResponse.SERVING", "grpc.health.v1.HealthListResponse.StatusesEntry",
        ] {
            #expect(try files(Self.reflection.answer(request(4, symbol))) == [health], "\(symbol)")
        }
        let v1 = "grpc/reflection/v1/reflection.proto"
        #expect(
            try files(Self.reflection.answer(request(4, "grpc.reflection.v1.ServerReflectionRequest.message_request")))
                == [v1])
        for symbol in ["", "grpc.health.v1", ".grpc.health.v1.Health", "Health", "grpc.health.v1.Health.Nothing"] {
            let answer = try Self.reflection.answer(request(4, symbol))
            #expect(errorCode(answer) == 5 && files(answer) == nil, "\(symbol)")
        }
    }

    @Test func aFileComesWithAllThatItImports() throws {
        for name in DescriptorIndex.own.names {
            let files = try #require(try files(Self.reflection.answer(request(3, name))))
            #expect(files.first == name && Set(files).count == files.count)
            // What these import comes along.
            for file in files {
                let imported = try #require(try self.files(Self.reflection.answer(request(3, file))))
                #expect(Set(imported).isSubset(of: files), "\(file) of \(name)")
            }
        }
        #expect(DescriptorIndex.own.names.contains { $0.hasPrefix("martlet/v1/") })
        for name in ["", "health.proto", "/etc/passwd", String(repeating: "x", count: 4_000)] {
            let answer = try Self.reflection.answer(request(3, name))
            #expect(errorCode(answer) == 5 && answer.readableBytes < 5_000)
        }
    }

    @Test func everyMethodThatIsServedIsDescribed() throws {
        for service in Self.services {
            for method in service.methods.keys {
                #expect(
                    DescriptorIndex.own.file(containing: "\(service.name).\(method)") != nil,
                    "\(service.name).\(method)")
            }
        }
    }

    @Test func messagesHaveNoExtensions() throws {
        var question = ByteBuffer()
        question.writeProtoText(1, "grpc.health.v1.HealthCheckRequest")
        question.writeProtoNumber(2, 100)
        var message = ByteBuffer()
        message.writeProtoMessage(5, question)
        #expect(try errorCode(Self.reflection.answer(message)) == 5)
        let known = try Self.reflection.answer(request(6, "grpc.health.v1.HealthCheckRequest"))
        let numbers = try #require(fields(known)[5])
        #expect(fields(numbers) == [1: ByteBuffer(string: "grpc.health.v1.HealthCheckRequest")])
        #expect(try errorCode(Self.reflection.answer(request(6, "grpc.health.v1.Health"))) == 5)
    }

    @Test func ofSeveralQuestionsTheLastOneCounts() throws {
        var message = request(3, "grpc/health/v1/health.proto")
        message.writeImmutableBuffer(request(7, ""))
        #expect(try fields(Self.reflection.answer(message))[6] != nil)
        // An unknown field, and a known number of another wire type.
        message.writeProtoNumber(3, 1)
        message.writeProtoNumber(99, 1)
        #expect(throws: MartletError.self) { try Self.reflection.answer(message) }
    }

    @Test func aRequestThatAsksForNothingIsAnsweredWithAnError() throws {
        #expect(try errorCode(Self.reflection.answer(ByteBuffer())) == 3)
        #expect(try errorCode(Self.reflection.answer(request(99, "x"))) == 3)
    }

    // MARK: The stream

    @Test(arguments: ["v1", "v1alpha"])
    func eachRequestOfAStreamIsAnswered(_ version: String) throws {
        let peer = try HTTP2Peer(services: Self.services)
        let stream = try peer.begin("/grpc.reflection.\(version).ServerReflection/ServerReflectionInfo")
        let requests = [request(7, ""), request(3, "nothing"), ByteBuffer(), request(4, "grpc.health.v1.Health")]
        for request in requests { try peer.send(message: request, on: stream) }
        #expect(try peer.answer(stream).messages == requests.map { try Self.reflection.answer($0) })
        #expect(!peer.answer(stream).isEnded)
        try peer.send(ByteBuffer(), on: stream, isLast: true)
        #expect(peer.answer(stream).code == .ok)
    }

    @Test func aRequestThatCannotBeReadEndsTheStream() throws {
        for (message, code) in [
            (ByteBuffer(bytes: [0x1A, 5, 1]), StatusCode.invalidArgument),
            (request(3, String(repeating: "x", count: 5_000)), .resourceExhausted),
        ] {
            let peer = try HTTP2Peer(services: Self.services)
            let stream = try peer.begin("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
            try peer.send(message: message, on: stream)
            #expect(peer.answer(stream).code == code)
        }
    }

    @Test func requestsOfAClientThatDoesNotReadWaitUnread() throws {
        let peer = try HTTP2Peer(window: 100, services: Self.services)
        let stream = try peer.begin("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        let one = request(7, "")
        let answer = try Self.reflection.answer(one)
        for _ in 0..<50 { try peer.send(message: one, on: stream) }
        #expect(peer.answer(stream).bytes.readableBytes == 100)
        // One answer is begun, and none is made ahead.
        try peer.giveWindow(answer.readableBytes + 5 - 100, on: stream)
        #expect(peer.answer(stream).messages == [answer])
        #expect(peer.answer(stream).bytes.readableBytes == answer.readableBytes + 5)
        try peer.giveWindow(1 << 20, on: stream)
        #expect(peer.answer(stream).messages == [ByteBuffer](repeating: answer, count: 50))
    }

    @Test func aStreamEndsWithTheServer() throws {
        let peer = try HTTP2Peer(services: Self.services)
        let stream = try peer.begin("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        try peer.drain()
        #expect(peer.answer(stream).code == .unavailable)
    }

    @Test func base64IsReadAsItIsWritten() {
        for count in 0..<50 {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ count) }
            #expect(Base64.decode(Base64.encode(bytes)) == bytes)
            #expect(Base64.decode(Base64.encode(bytes) + "==\n  ") == bytes)
        }
    }
}
