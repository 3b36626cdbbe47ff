import MartletRecordCodec
import NIOCore

// The messages of grpc.testing, as far as the interoperability cases use them.

/// The fields of a message, with what the length-delimited ones hold.
private func fields(of message: ByteBuffer) -> [(number: UInt32, varint: UInt64, content: ByteBuffer)] {
    var walk = LenientFields(0..<message.readableBytes)
    var found: [(UInt32, UInt64, ByteBuffer)] = []
    while true {
        let next = unsafe message.withUnsafeReadableBytes { bytes in
            let typed = unsafe bytes.assumingMemoryBound(to: UInt8.self)
            return unsafe walk.next(in: typed.span)
        }
        guard let field = next else { return found }
        let content = field.content.flatMap {
            message.getSlice(at: message.readerIndex + $0.lowerBound, length: $0.count)
        }
        found.append((field.number, field.varint ?? 0, content ?? ByteBuffer()))
    }
}

extension ByteBuffer {
    fileprivate mutating func writeField(_ number: UInt32, _ content: ByteBuffer) {
        writeField(number, length: content.readableBytes)
        writeImmutableBuffer(content)
    }

    /// The value of a message BoolValue.
    fileprivate var boolValue: Bool { fields(of: self).last { $0.number == 1 }?.varint == 1 }

    /// The length of the body of a message Payload.
    fileprivate var payloadBytes: Int { fields(of: self).last { $0.number == 2 }?.content.readableBytes ?? 0 }
}

/// `EchoStatus`.
struct EchoStatus {
    var code: UInt32 = 0
    var message = ""

    init(_ message: ByteBuffer) {
        for field in fields(of: message) {
            switch field.number {
            case 1: code = UInt32(truncatingIfNeeded: field.varint)
            case 2: self.message = String(buffer: field.content)
            default: break
            }
        }
    }
}

/// `ResponseParameters`.
struct ResponseParameters {
    var size = 0
    var intervalMicros: Int64 = 0
    var isCompressed = false

    init(size: Int, isCompressed: Bool) {
        self.size = size
        self.isCompressed = isCompressed
    }

    init(_ message: ByteBuffer) {
        for field in fields(of: message) {
            switch field.number {
            case 1: size = Int(clamping: field.varint)
            case 2: intervalMicros = Int64(clamping: field.varint)
            case 3: isCompressed = field.content.boolValue
            default: break
            }
        }
    }

    /// `SimpleResponse` and `StreamingOutputCallResponse`: both are a payload.
    var response: ByteBuffer {
        var payload = ByteBuffer()
        payload.writeField(2, ByteBuffer(repeating: 0, count: size))
        var response = ByteBuffer()
        response.writeField(1, payload)
        return response
    }
}

/// `SimpleRequest`, `StreamingOutputCallRequest` or `StreamingInputCallRequest`.
struct TestRequest {
    var responses: [ResponseParameters] = []
    var payloadBytes = 0
    var status: EchoStatus?
    var expectsCompression: Bool?

    static func simple(_ message: ByteBuffer) -> TestRequest {
        var request = TestRequest()
        var response = ResponseParameters(size: 0, isCompressed: false)
        for field in fields(of: message) {
            switch field.number {
            case 2: response.size = Int(clamping: field.varint)
            case 3: request.payloadBytes = field.content.payloadBytes
            case 6: response.isCompressed = field.content.boolValue
            case 7: request.status = EchoStatus(field.content)
            case 8: request.expectsCompression = field.content.boolValue
            default: break
            }
        }
        request.responses = [response]
        return request
    }

    static func output(_ message: ByteBuffer) -> TestRequest {
        var request = TestRequest()
        for field in fields(of: message) {
            switch field.number {
            case 2: request.responses.append(ResponseParameters(field.content))
            case 3: request.payloadBytes = field.content.payloadBytes
            case 7: request.status = EchoStatus(field.content)
            default: break
            }
        }
        return request
    }

    static func input(_ message: ByteBuffer) -> TestRequest {
        var request = TestRequest()
        for field in fields(of: message) {
            switch field.number {
            case 1: request.payloadBytes = field.content.payloadBytes
            case 2: request.expectsCompression = field.content.boolValue
            default: break
            }
        }
        return request
    }
}

/// `StreamingInputCallResponse`.
func inputResponse(aggregatedBytes: Int) -> ByteBuffer {
    var response = ByteBuffer()
    if aggregatedBytes > 0 {
        response.writeVarint(1 << 3)
        response.writeVarint(UInt64(aggregatedBytes))
    }
    return response
}
