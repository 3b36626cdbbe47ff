import MartletModel
import MartletRecordCodec
import NIOCore

/// What a `ServerReflectionRequest` asks for: v1 and v1alpha are the same on the wire.
struct ReflectionRequest: Equatable {
    enum Question: Equatable {
        case file(named: String)
        case fileContaining(symbol: String)
        case fileContainingExtension(of: String, number: Int)
        case extensionNumbers(of: String)
        case services
    }

    var host = ""
    /// Nil where the request asks for nothing that is known here.
    var question: Question?

    /// - Throws: that the bytes are no such message.
    init(_ message: ByteBuffer) throws(MartletError) {
        let bytes = Array(message.readableBytesView)
        var host = ""
        var question: Question?
        var isText = true
        let isMessage = ProtoMessage.fields(of: bytes, in: bytes.indices) { field in
            guard let text = field.number == 5 ? "" : ProtoMessage.text(field, of: bytes) else {
                isText = isText && ![1, 3, 4, 6, 7].contains(field.number)
                return
            }
            // Of a oneof, the last one counts.
            switch field.number {
            case 1: host = text
            case 3: question = .file(named: text)
            case 4: question = .fileContaining(symbol: text)
            case 5: question = field.content.flatMap { Self.extensionQuestion(bytes, $0) } ?? question
            case 6: question = .extensionNumbers(of: text)
            case 7: question = .services
            default: break
            }
        }
        guard isMessage, isText else { throw .unreadableMessage(message, "ServerReflectionRequest") }
        self.host = host
        self.question = question
    }

    /// Reads an `ExtensionRequest`.
    private static func extensionQuestion(_ bytes: [UInt8], _ range: Range<Int>) -> Question? {
        var type = ""
        var number: UInt64 = 0
        let isMessage = ProtoMessage.fields(of: bytes, in: range) { field in
            if field.number == 1 { type = ProtoMessage.text(field, of: bytes) ?? type }
            if field.number == 2 { number = field.varint ?? number }
        }
        return isMessage ? .fileContainingExtension(of: type, number: Int(Int32(truncatingIfNeeded: number))) : nil
    }
}

/// Answers questions about the services that a server has.
struct Reflection {
    /// Longer requests name nothing that there is, in bytes.
    static let requestBytesMax = 4 << 10

    let index: DescriptorIndex
    /// The names of the services, sorted.
    let services: [String]

    /// `ServerReflectionResponse`: one for each request.
    /// - Throws: what is wrong with a request that cannot be answered.
    func answer(_ request: ByteBuffer) throws(MartletError) -> ByteBuffer {
        guard request.readableBytes <= Self.requestBytesMax else {
            throw MartletError(
                .resourceExhausted, reason: .frameTooLarge,
                message: "a request for reflection has at most \(Self.requestBytesMax) bytes, but this one has "
                    + "\(request.readableBytes): ask for one name at a time")
        }
        let read = try ReflectionRequest(request)
        var response = ByteBuffer()
        response.writeProtoText(1, read.host)
        response.writeProtoMessage(2, request)
        switch read.question {
        case .file(let name): write(index.file(named: name), "no file \(Self.quoted(name))", to: &response)
        case .fileContaining(let symbol):
            write(index.file(containing: symbol), "no file with a symbol \(Self.quoted(symbol))", to: &response)
        case .fileContainingExtension(let type, let number):
            write(nil, "no extension \(number) of \(Self.quoted(type))", to: &response)
        case .extensionNumbers(let type): writeExtensions(of: type, to: &response)
        case .services:
            var list = ByteBuffer()
            for name in services {
                var service = ByteBuffer()
                service.writeProtoText(1, name)
                list.writeProtoMessage(1, service)
            }
            response.writeProtoMessage(6, list)
        case nil:
            Self.write(
                .invalidArgument, "the request asks for nothing: set one of the fields of message_request",
                to: &response)
        }
        return response
    }

    /// Messages have no extensions here.
    private func writeExtensions(of type: String, to response: inout ByteBuffer) {
        guard index.hasMessage(type) else {
            return Self.write(.notFound, "there is no message \(Self.quoted(type))", to: &response)
        }
        var numbers = ByteBuffer()
        numbers.writeProtoText(1, type)
        response.writeProtoMessage(5, numbers)
    }

    private func write(_ files: ByteBuffer?, _ missing: String, to response: inout ByteBuffer) {
        guard let files else { return Self.write(.notFound, "there is \(missing)", to: &response) }
        response.writeProtoMessage(4, files)
    }

    private static func write(_ code: StatusCode, _ message: String, to response: inout ByteBuffer) {
        var error = ByteBuffer()
        error.writeProtoNumber(1, Int(code.rawValue))
        error.writeProtoText(2, message)
        response.writeProtoMessage(7, error)
    }

    private static func quoted(_ name: String) -> String { "'\(PrintableText.escape(name, bytesMax: 256))'" }
}
