import MartletModel
import MartletRecordCodec
import NIOCore

/// The little of protobuf that small messages take: fields in any valid form are read, in order, with unknown ones skipped.
enum ProtoMessage {
    /// Walks over the fields of the message that lies in that range.
    ///
    /// - Returns: false where the bytes are no message.
    static func fields(
        of bytes: [UInt8], in range: Range<Int>, _ body: (LenientFields.Field) -> Void
    ) -> Bool {
        var fields = LenientFields(range)
        while let field = fields.next(in: bytes.span) { body(field) }
        return !fields.isBroken
    }

    /// The text of a field; of text that is not UTF-8, nothing.
    static func text(_ field: LenientFields.Field, of bytes: [UInt8]) -> String? {
        field.content.flatMap { String(validating: bytes[$0], as: UTF8.self) }
    }
}

extension ByteBuffer {
    /// Writes a text; an empty one, too.
    mutating func writeProtoText(_ number: UInt32, _ text: String) {
        writeField(number, length: text.utf8.count)
        writeString(text)
    }

    /// Writes a message, or bytes.
    mutating func writeProtoMessage(_ number: UInt32, _ content: ByteBuffer) {
        writeField(number, length: content.readableBytes)
        writeImmutableBuffer(content)
    }

    /// Writes a number that is not negative, or a member of an enum.
    mutating func writeProtoNumber(_ number: UInt32, _ value: Int) {
        writeVarint(UInt64(number) << 3)
        writeVarint(UInt64(value))
    }
}

extension MartletError {
    /// A message is not what the method takes.
    static func unreadableMessage(_ message: ByteBuffer, _ name: String) -> MartletError {
        MartletError(
            .invalidArgument, reason: .badFrame,
            message: "a message of \(message.readableBytes) bytes is not a \(name): check which proto the client was "
                + "generated from")
    }
}
