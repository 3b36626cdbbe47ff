import MartletRecordCodec
import NIOCore

/// Files of messages and services, and what they define: what reflection answers from.
///
/// It is made of descriptors that the program brings along: none of them comes from a peer.
struct DescriptorIndex: Sendable {
    /// Numbers of fields of `google.protobuf.FileDescriptorProto`.
    private enum FileField {
        static let name: UInt32 = 1
        static let package: UInt32 = 2
        static let dependency: UInt32 = 3
        static let message: UInt32 = 4
        static let enumeration: UInt32 = 5
        static let service: UInt32 = 6
        static let `extension`: UInt32 = 7
    }

    /// Numbers of fields of `google.protobuf.DescriptorProto`.
    private enum MessageField {
        static let field: UInt32 = 2
        static let nested: UInt32 = 3
        static let enumeration: UInt32 = 4
        static let `extension`: UInt32 = 6
        static let oneof: UInt32 = 8
    }

    private struct File {
        var bytes: [UInt8]
        var dependencies: [String] = []
    }

    /// `FileDescriptorResponse` by the name of the file: the file first, then all that it imports, directly or not.
    private var answers: [String: ByteBuffer] = [:]
    /// The name of the file that defines a symbol: a service, method, message, field, oneof, enum, enum value or extension.
    private var fileNames: [String: String] = [:]
    private var messages: Set<String> = []

    /// The files of a `google.protobuf.FileDescriptorSet`.
    init(_ set: [UInt8]) {
        var files: [String: File] = [:]
        _ = ProtoMessage.fields(of: set, in: set.indices) { field in
            guard field.number == 1, let range = field.content else { return }
            let bytes = Array(set[range])
            if let name = Self.name(of: bytes, in: bytes.indices) { files[name] = File(bytes: bytes) }
        }
        for (name, file) in files { files[name]?.dependencies = add(file.bytes, named: name) }
        for name in files.keys { answers[name] = Self.answer(name, files) }
    }

    /// Those of the program's own services.
    static let own: DescriptorIndex = {
        let compressed = ByteBuffer(bytes: Base64.decode(FileDescriptors.base64.description))
        guard let set = try? Gzip.inflate(compressed, messageBytesMax: 1 << 20) else {
            preconditionFailure("the descriptors are as they were generated")
        }
        return DescriptorIndex(Array(set.readableBytesView))
    }()

    /// The names of all files, sorted.
    var names: [String] { answers.keys.sorted() }

    /// `FileDescriptorResponse` for the file of that name.
    func file(named name: String) -> ByteBuffer? { answers[name] }

    /// `FileDescriptorResponse` for the file that defines a symbol, by its full name.
    func file(containing symbol: String) -> ByteBuffer? { fileNames[symbol].flatMap { answers[$0] } }

    /// Whether there is a message of that full name.
    func hasMessage(_ name: String) -> Bool { messages.contains(name) }

    // MARK: Making it

    private static func answer(_ name: String, _ files: [String: File]) -> ByteBuffer {
        var answer = ByteBuffer()
        var names = [name]
        var known: Set<String> = [name]
        var next = 0
        while next < names.count {
            if let file = files[names[next]] {
                answer.writeProtoMessage(1, ByteBuffer(bytes: file.bytes))
                for dependency in file.dependencies where known.insert(dependency).inserted { names.append(dependency) }
            }
            next += 1
        }
        return answer
    }

    /// Takes note of what a file defines.
    /// - Returns: the names of the files that it imports.
    private mutating func add(_ bytes: [UInt8], named file: String) -> [String] {
        var package = ""
        var dependencies: [String] = []
        var parts: [LenientFields.Field] = []
        _ = ProtoMessage.fields(of: bytes, in: bytes.indices) { field in
            switch field.number {
            case FileField.package: package = ProtoMessage.text(field, of: bytes) ?? ""
            case FileField.dependency: dependencies += ProtoMessage.text(field, of: bytes).map { [$0] } ?? []
            case FileField.message, FileField.enumeration, FileField.service, FileField.extension: parts.append(field)
            default: break
            }
        }
        let prefix = package.isEmpty ? "" : package + "."
        for part in parts {
            guard let range = part.content else { continue }
            switch part.number {
            case FileField.message: addMessage(bytes, range, prefix, file)
            case FileField.enumeration: addEnum(bytes, range, prefix, file)
            case FileField.service: addService(bytes, range, prefix, file)
            default: _ = addSymbol(bytes, range, prefix, file)
            }
        }
        return dependencies
    }

    private mutating func addMessage(_ bytes: [UInt8], _ range: Range<Int>, _ prefix: String, _ file: String) {
        guard let name = addSymbol(bytes, range, prefix, file) else { return }
        messages.insert(name)
        for (number, part) in Self.parts(of: bytes, in: range) {
            switch number {
            case MessageField.nested: addMessage(bytes, part, name + ".", file)
            case MessageField.enumeration: addEnum(bytes, part, name + ".", file)
            case MessageField.field, MessageField.extension, MessageField.oneof:
                _ = addSymbol(bytes, part, name + ".", file)
            default: break
            }
        }
    }

    /// The values of an enum stand beside it, as they do in C++.
    private mutating func addEnum(_ bytes: [UInt8], _ range: Range<Int>, _ prefix: String, _ file: String) {
        _ = addSymbol(bytes, range, prefix, file)
        for (number, part) in Self.parts(of: bytes, in: range) where number == 2 {
            _ = addSymbol(bytes, part, prefix, file)
        }
    }

    private mutating func addService(_ bytes: [UInt8], _ range: Range<Int>, _ prefix: String, _ file: String) {
        guard let name = addSymbol(bytes, range, prefix, file) else { return }
        for (number, part) in Self.parts(of: bytes, in: range) where number == 2 {
            _ = addSymbol(bytes, part, name + ".", file)
        }
    }

    private mutating func addSymbol(
        _ bytes: [UInt8], _ range: Range<Int>, _ prefix: String, _ file: String
    ) -> String? {
        guard let name = Self.name(of: bytes, in: range) else { return nil }
        fileNames[prefix + name] = file
        return prefix + name
    }

    /// The first field of all descriptors is their name.
    private static func name(of bytes: [UInt8], in range: Range<Int>) -> String? {
        var name: String?
        _ = ProtoMessage.fields(of: bytes, in: range) { field in
            if field.number == FileField.name { name = ProtoMessage.text(field, of: bytes) }
        }
        return name
    }

    private static func parts(of bytes: [UInt8], in range: Range<Int>) -> [(number: UInt32, range: Range<Int>)] {
        var parts: [(number: UInt32, range: Range<Int>)] = []
        _ = ProtoMessage.fields(of: bytes, in: range) { field in
            if let content = field.content { parts.append((field.number, content)) }
        }
        return parts
    }
}
