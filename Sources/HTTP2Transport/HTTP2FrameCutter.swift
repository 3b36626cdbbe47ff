import NIOCore

/// Cuts the bytes of a connection where frames of HTTP/2 begin and end, and shows the head of each.
///
/// What is cut off ends where a frame ends, or inside the content of DATA. Whoever parses it is never left with a part of
/// another frame, which it would have to keep together with all that it has read before.
struct HTTP2FrameCutter {
    /// What the first 9 bytes of a frame say, its stream apart.
    struct Head {
        var length: Int
        var type: UInt8
        var flags: UInt8
    }

    /// Types of frames.
    enum FrameType {
        static let data: UInt8 = 0
        static let headers: UInt8 = 1
        static let settings: UInt8 = 4
        static let continuation: UInt8 = 9
    }

    static let acknowledges: UInt8 = 1
    /// Content of a frame, as long as nobody has agreed on more, in bytes.
    static let contentBytesMax = 16_384
    private static let headBytes = 9
    private static let prefaceBytes = 24

    private var bytes = ByteBuffer()
    /// What passes without being looked at: the preface, and content of DATA.
    private var passingBytes = prefaceBytes
    /// The last piece ended where it did because it had all the frames it might have.
    private(set) var isCutShort = false

    /// What is kept for what has not been cut off.
    var storageBytes: Int { bytes.storageCapacity }

    /// Adds what came.
    mutating func feed(_ more: ByteBuffer) {
        if bytes.readableBytes == 0 { bytes = more } else { bytes.writeImmutableBuffer(more) }
    }

    /// Cuts off what is whole.
    ///
    /// - Parameters:
    ///   - framesMax: heads that it looks at, at most. What remains then is there for the next call.
    ///   - look: sees the head of each frame; false where nothing more is to be read of the connection.
    /// - Returns: nil where nothing is whole, or `look` refused a frame.
    mutating func next(framesMax: Int, _ look: (Head) -> Bool) -> ByteBuffer? {
        isCutShort = false
        var end = bytes.readerIndex
        var frames = 0
        while end < bytes.writerIndex {
            if passingBytes > 0 {
                let count = min(passingBytes, bytes.writerIndex - end)
                end += count
                passingBytes -= count
                continue
            }
            guard frames < framesMax else {
                isCutShort = true
                break
            }
            guard let head = head(at: end) else { break }
            // Of DATA every part is handed on. A frame that is too long is refused by its head, and nothing after it is read.
            let passes = head.type == FrameType.data || head.length > Self.contentBytesMax
            guard passes || bytes.writerIndex - end >= Self.headBytes + head.length else { break }
            guard look(head) else {
                drop()
                return nil
            }
            frames += 1
            end += Self.headBytes + (passes ? 0 : head.length)
            passingBytes = passes ? head.length : 0
        }
        guard let piece = bytes.readSlice(length: end - bytes.readerIndex), piece.readableBytes > 0 else { return nil }
        if bytes.readableBytes == 0 {
            bytes = ByteBuffer()
        } else if !isCutShort {
            // The rest of a frame may take its time: it does not keep what it came with.
            bytes = ByteBuffer(bytes: bytes.readableBytesView)
        }
        return piece
    }

    /// Nothing more is read.
    mutating func drop() { bytes = ByteBuffer() }

    private func head(at index: Int) -> Head? {
        guard bytes.writerIndex - index >= Self.headBytes,
            let first: UInt32 = bytes.getInteger(at: index), let flags: UInt8 = bytes.getInteger(at: index + 4)
        else { return nil }
        return Head(length: Int(first >> 8), type: UInt8(truncatingIfNeeded: first), flags: flags)
    }
}
