import MartletTesting
import NIOCore
import NIOHPACK
import Testing

@testable import MartletHTTP2Transport

/// Blocks of fields: those that are written, and what is refused of those that come.
@Suite struct HeaderBlockTests {
    private static let fields: [AnswerField] = [
        .status(200), .common(.grpcContent), .common(.gzipEncoding), .common(.ok), .status(415),
        .literal("grpc-message", String(repeating: "é%20", count: 200)), .literal("x-empty", ""),
        .literal("x-127", String(repeating: "a", count: 127)), .literal("x-126", String(repeating: "a", count: 126)),
    ]

    private func pair(_ field: AnswerField) -> String {
        switch field {
        case .status(let status): ":status: \(status)"
        case .common(.grpcContent): "content-type: application/grpc"
        case .common(.gzipEncoding): "grpc-encoding: gzip"
        case .common(.ok): "grpc-status: 0"
        case .literal(let name, let value): "\(name): \(value)"
        }
    }

    private func encode(_ fields: [AnswerField], _ encoder: inout HeaderBlockEncoder) -> ByteBuffer {
        var bytes = ByteBuffer()
        for (at, field) in fields.enumerated() { encoder.write(field, isFirst: at == 0, to: &bytes) }
        return bytes
    }

    /// In whatever order fields come, and whenever the client's table gets smaller: HPACK's own decoder reads the same.
    @Test func blocksAreReadAsTheyWereWritten() throws {
        var random = SeededGenerator.fromEnvironment()
        print("MARTLET_TEST_SEED=\(random.seed)")
        for round in 0..<200 {
            var encoder = HeaderBlockEncoder()
            var decoder = HPACKDecoder(allocator: ByteBufferAllocator())
            let shrinksAt = round % 3 == 0 ? Int.random(in: 0..<20, using: &random) : -1
            for number in 0..<20 {
                if number == shrinksAt { encoder.tableSizeChanged(Int.random(in: 0..<4_096, using: &random)) }
                if number % 7 == 0 { encoder.tableSizeChanged(Int.random(in: 4_096...100_000, using: &random)) }
                let count = Int.random(in: 1...6, using: &random)
                let chosen = (0..<count).map { _ in Self.fields[Int.random(in: 0..<9, using: &random)] }
                var block = encode(chosen, &encoder)
                let read = try decoder.decodeHeaders(from: &block).map { "\($0.name): \($0.value)" }
                #expect(read == chosen.map(pair))
            }
        }
    }

    @Test func theSecondAnswerIsANumberForEachField() {
        var encoder = HeaderBlockEncoder()
        let answer: [AnswerField] = [.status(200), .common(.grpcContent), .common(.ok)]
        #expect(encode(answer, &encoder).readableBytes > 40)
        #expect(encode(answer, &encoder).readableBytes == 3)
        encoder.tableSizeChanged(4_095)
        let plain = encode(answer, &encoder)
        #expect(plain.readableBytes > 40 && plain.getInteger(at: 0, as: UInt8.self) == 0x20)
    }

    // MARK: Requests

    private static let request = [(":method", "POST"), (":scheme", "https"), (":path", "/a.B/C")]

    private func head(_ fields: [(String, String)]) -> RequestHead? { RequestHead(HPACKHeaders(fields)) }

    @Test func aRequestIsReadInOneWalk() throws {
        let head = try #require(
            self.head(
                Self.request + [
                    (":authority", "h"), ("te", "trailers"), ("content-type", "application/grpc+proto"),
                    ("grpc-timeout", "1S"), ("grpc-encoding", "gzip"), ("grpc-accept-encoding", "identity, gzip"),
                    ("content-length", "12"), ("content-length", "12"), ("x-empty", ""),
                ]))
        #expect(head.isGRPC && head.path == "/a.B/C" && head.timeout == "1S" && head.encoding == "gzip")
        #expect(head.acceptsGzip && head.contentLength == 12 && head.fieldCount == 12)
    }

    @Test(arguments: [
        ("Upper", "a"), ("a b", "a"), ("a\u{7F}", "a"), ("é", "a"), ("a:b", "a"), ("a", "\0"), ("a", "x\n"),
        ("a", "x\ry"), ("a", " x"), ("a", "x\t"), ("connection", "x"), ("keep-alive", "x"), ("proxy-connection", "x"),
        ("transfer-encoding", "x"), ("upgrade", "x"), ("te", "gzip"), ("content-length", "-1"),
        ("content-length", "99999999999999999999"), (":path", "/"), (":protocol", "x"), (":status", "200"),
        (":scheme", "http"), (":authority ", "x"),
    ]) func malformed(_ field: (String, String)) {
        #expect(head(Self.request + [field]) == nil)
    }

    @Test func pseudoFieldsComeFirstAndAreAllThere() {
        #expect(head(Self.request) != nil)
        for index in 0..<3 {
            #expect(head(Self.request.indices.filter { $0 != index }.map { Self.request[$0] }) == nil)
        }
        #expect(head([("a", "b")] + Self.request) == nil)
        #expect(head(Array(Self.request.prefix(2)) + [("a", "b"), Self.request[2]]) == nil)
        #expect(head(Array(Self.request.prefix(2)) + [(":path", "")]) == nil)
        #expect(head([(":method", "CONNECT"), (":authority", "h")]) != nil)
        #expect(head([(":method", "CONNECT")]) == nil)
        #expect(head([(":method", "CONNECT"), (":authority", "h"), (":path", "/")]) == nil)
    }

    @Test func contentTypesOfGRPC() {
        for (type, isGRPC) in [
            ("application/grpc", true), ("application/grpc+proto", true), ("application/grpc;x", true),
            ("application/grpc+proto;x", true), ("application/grpc+json", false), ("application/grpcx", false),
            ("application/json", false), ("application/grpc\u{603};x", false),
        ] {
            #expect(head(Self.request + [("content-type", type)])?.isGRPC == isGRPC, "\(type)")
        }
    }
}
