public import CMartletProtos
public import FoundationEssentials
import MartletModel
public import NIOCore

// protobuf-c's view of bytes: a pointer that is valid inside a closure only.

@unsafe extension ProtobufCBinaryData {
    /// No bytes.
    public static var none: ProtobufCBinaryData { unsafe ProtobufCBinaryData(len: 0, data: nil) }

    /// The bytes; valid as long as the message that holds them.
    public var bytes: UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(start: data, count: data == nil ? 0 : len)
    }

    /// A view of the bytes; valid as long as they are.
    public init(_ bytes: UnsafeRawBufferPointer) {
        unsafe self.init(
            len: bytes.count,
            data: UnsafeMutablePointer(mutating: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)))
    }

    /// The text, if it is UTF-8.
    public var text: String? { unsafe String(utf8: bytes) }

    /// The UUID, if there are 16 bytes.
    public var uuid: UUID? { unsafe UUID(bytes: bytes) }
}

/// Calls `body` with each string as protobuf-c sees it.
@unsafe public func withCBytes<Result>(
    _ texts: [String], _ body: ([ProtobufCBinaryData]) throws -> Result
) rethrows -> Result {
    var joined = ByteBuffer()
    let lengths = texts.map { joined.writeString($0) }
    return try unsafe joined.withUnsafeReadableBytes { all in
        var offset = 0
        let views = unsafe lengths.map { length in
            defer { offset += length }
            return unsafe ProtobufCBinaryData(UnsafeRawBufferPointer(rebasing: all[offset..<offset + length]))
        }
        return try unsafe body(views)
    }
}

/// Calls `body` with the UUID's 16 bytes as protobuf-c sees them.
@unsafe public func withCBytes<Result>(_ uuid: UUID, _ body: (ProtobufCBinaryData) throws -> Result) rethrows -> Result
{
    try unsafe Swift.withUnsafeBytes(of: uuid.uuid) { try unsafe body(ProtobufCBinaryData($0)) }
}

extension ByteBuffer {
    /// Appends a protobuf-c message's encoding.
    ///
    /// The message must be initialised and its pointers valid.
    /// - Returns: its length in bytes.
    @discardableResult
    @unsafe public mutating func writeMessage(_ message: UnsafePointer<ProtobufCMessage>) -> Int {
        let size = unsafe protobuf_c_message_get_packed_size(message)
        return unsafe writeWithUnsafeMutableBytes(minimumWritableBytes: size) { target in
            guard let start = target.baseAddress else { return 0 }
            return unsafe protobuf_c_message_pack(message, start.assumingMemoryBound(to: UInt8.self))
        }
    }
}
