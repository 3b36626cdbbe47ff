import NIOCore

/// Cuts the bytes of a connection where frames of HTTP/2 begin and end, and shows the head of each.
///
/// What is cut off ends where a frame ends, or inside the content of DATA. Whoever parses it is never left with a part of
/// another frame, which it would have to keep together with all that it has read before.
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

    /// What is to be done with a frame.
    enum Verdict {
        /// It is handed on with those before it.
        case pass
        /// It is handed on, and nothing after it in the same piece.
        case passAsLast
        /// Those before it are handed on, and it is not.
        case drop
        /// Those before it are handed on, and nothing more is read.
        case refuse
        /// It is looked at by a later call.
        case wait
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
    /// What passes without being looked at: the preface, and content of DATA.
    private var passingBytes = prefaceBytes
    /// What may be looked at by the next call without more being fed.
    enum Rest {
        case nothing
        /// The last piece ended because of a verdict.
        case more
        /// The verdict was to wait.
        case waiting
    }

    private(set) var rest = Rest.nothing

    /// What is kept for what has not been cut off.
    var storageBytes: Int { bytes.storageCapacity }

    /// Adds what came.
    mutating func feed(_ more: ByteBuffer) {
        if bytes.readableBytes == 0 { bytes = more } else { bytes.writeImmutableBuffer(more) }
    }

    /// Cuts off what is whole.
    ///
    /// - Parameter look: sees the head of each frame.
    /// - Returns: nil where there is nothing to be handed on.
    mutating func next(_ look: (Head) -> Verdict) -> ByteBuffer? {
        rest = .nothing
        var end = bytes.readerIndex
        var droppedBytes = 0
        var isRefused = false
        search: while end < bytes.writerIndex {
            if passingBytes > 0 {
                let count = min(passingBytes, bytes.writerIndex - end)
                end += count
                passingBytes -= count
                continue
            }
            guard let head = Head(of: bytes, at: end) else { break }
            // Of DATA every part is handed on. A frame that is too long is refused by its head, and nothing after it is read.
            let passes = head.type == FrameType.data || head.length > Self.contentBytesMax
            guard passes || bytes.writerIndex - end >= Self.headBytes + head.length else { break }
            let verdict = look(head)
            switch verdict {
            case .wait:
                rest = .waiting
                break search
            case .refuse:
                isRefused = true
                break search
            case .drop where !passes:
                droppedBytes = Self.headBytes + head.length
                rest = .more
                break search
            case .pass, .passAsLast, .drop:
                end += Self.headBytes + (passes ? 0 : head.length)
                passingBytes = passes ? head.length : 0
                guard verdict == .passAsLast else { continue }
                rest = .more
                break search
            }
        }
        let piece = bytes.readSlice(length: end - bytes.readerIndex)
        bytes.moveReaderIndex(forwardBy: droppedBytes)
        if bytes.readableBytes == 0 || isRefused {
            drop()
        } else if rest == .nothing {
            // The rest of a frame may take its time: it does not keep what it came with.
            bytes = ByteBuffer(bytes: bytes.readableBytesView)
        }
        return piece.flatMap { $0.readableBytes > 0 ? $0 : nil }
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

    /// Reads a head.
    init?(readFrom bytes: inout ByteBuffer) {
        self.init(of: bytes, at: bytes.readerIndex)
        bytes.moveReaderIndex(forwardBy: HTTP2FrameCutter.headBytes)
    }
}
