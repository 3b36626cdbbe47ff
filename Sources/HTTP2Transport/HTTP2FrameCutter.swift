import NIOCore

/// Cuts the bytes of a connection where frames of HTTP/2 begin and end, and shows the head of each before anybody works on
/// it. Content of DATA is cut off as it comes, so that nothing is kept of it.
struct HTTP2FrameCutter {
    /// The first 9 bytes of a frame, and the 4 after them.
    struct Head {
        var length: Int
        var type: UInt8
        var flags: UInt8
        /// Without the reserved bit.
        var stream: UInt32
        /// The content begins with it; 0 where the content is shorter, or has not come.
        var firstWord: UInt32

        func has(_ flag: UInt8) -> Bool { flags & flag != 0 }
    }

    /// Types of frames.
    enum FrameType {
        static let data: UInt8 = 0
        static let headers: UInt8 = 1
        static let priority: UInt8 = 2
        static let reset: UInt8 = 3
        static let settings: UInt8 = 4
        static let pushPromise: UInt8 = 5
        static let ping: UInt8 = 6
        static let goAway: UInt8 = 7
        static let windowUpdate: UInt8 = 8
        static let continuation: UInt8 = 9
    }

    /// Flags of frames.
    enum Flag {
        static let acknowledges: UInt8 = 1
        static let endStream: UInt8 = 1
        static let endHeaders: UInt8 = 4
        static let isPadded: UInt8 = 8
        static let hasPriority: UInt8 = 32
    }

    /// Content of a frame, as long as nobody has agreed on more, in bytes.
    static let contentBytesMax = 16_384
    static let headBytes = 9
    private static let prefaceBytes = 24

    private var bytes = ByteBuffer()
    /// What is left of the preface, or of the content of DATA.
    private(set) var contentLeft = prefaceBytes

    /// What is kept for what has not been cut off.
    var storageBytes: Int { bytes.storageCapacity }

    /// Adds what came.
    mutating func feed(_ more: ByteBuffer) {
        if bytes.readableBytes == 0 { bytes = more } else { bytes.writeImmutableBuffer(more) }
    }

    /// Cuts off what has come of the preface, or of the content of DATA; nil where nothing has, or none is awaited.
    mutating func nextContent() -> ByteBuffer? {
        guard contentLeft > 0, bytes.readableBytes > 0 else { return nil }
        let content = bytes.readSlice(length: min(contentLeft, bytes.readableBytes))
        contentLeft -= content?.readableBytes ?? 0
        return content
    }

    /// The head of the next frame, once all of that has come; of DATA, and of a frame that is refused for its length, the
    /// head alone is enough.
    var nextHead: Head? {
        guard contentLeft == 0, let head = Head(of: bytes, at: bytes.readerIndex) else { return nil }
        let isEnough = head.type == FrameType.data || head.length > Self.contentBytesMax
        return isEnough || bytes.readableBytes >= Self.headBytes + head.length ? head : nil
    }

    /// Cuts off the frame of ``nextHead``, and gives its content; of DATA that comes by ``nextContent()``.
    mutating func take(_ head: Head) -> ByteBuffer {
        bytes.moveReaderIndex(forwardBy: Self.headBytes)
        guard head.type != FrameType.data else {
            contentLeft = head.length
            return ByteBuffer()
        }
        return bytes.readSlice(length: head.length) ?? ByteBuffer()
    }

    /// The rest of a frame may take its time: it does not keep what it came with.
    mutating func keepRest() {
        bytes = bytes.readableBytes == 0 ? ByteBuffer() : ByteBuffer(bytes: bytes.readableBytesView)
    }

    /// Nothing more is read.
    mutating func drop() { bytes = ByteBuffer() }
}

extension HTTP2FrameCutter.Head {
    /// The head of the frame that bytes begin with; nil where it has not all come.
    init?(of bytes: ByteBuffer, at index: Int) {
        guard let (first, flags, stream) = bytes.getMultipleIntegers(at: index, as: (UInt32, UInt8, UInt32).self)
        else { return nil }
        length = Int(first >> 8)
        type = UInt8(truncatingIfNeeded: first)
        self.flags = flags
        self.stream = stream & HTTP2Windows.sizeMask
        firstWord = length < 4 ? 0 : bytes.getInteger(at: index + HTTP2FrameCutter.headBytes) ?? 0
    }
}
