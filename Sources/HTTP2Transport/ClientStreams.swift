import NIOCore

/// What the client has said of its streams: which it has begun, and on which it has more to say.
///
/// Of those that the server has ended it forgets that the client has more to say, but for the newest that it has reset.
struct ClientStreams {
    /// How many gaps in the numbers of streams are remembered.
    private static let gapsMax = 16
    /// How many streams that were reset are remembered.
    private static let resetsMax = 1_024

    private let openMax: Int
    private var last: UInt32 = 0
    /// Begun and not ended, by either side.
    private var open: Set<UInt32> = []
    private var gaps: [ClosedRange<UInt32>] = []
    /// Those that the server has reset before the client had said all.
    private var resets: Set<UInt32> = []
    private var resetsInOrder: CircularBuffer<UInt32> = []

    /// - Parameter openMax: the server has no more open; streams beyond it count as ended.
    init(openMax: Int) { self.openMax = openMax }

    /// Streams on which the client has more to say.
    var openCount: Int { open.count }

    /// HEADERS come.
    /// - Returns: false where the stream has been used, and has ended.
    mutating func headers(_ head: HTTP2FrameCutter.Head) -> Bool {
        let stream = head.stream
        // Not the client's; refused for that.
        guard stream & 1 == 1 else { return true }
        let ends = head.has(HTTP2FrameCutter.Flag.endStream)
        if stream > last {
            if stream > last + 2, gaps.count < Self.gapsMax { gaps.append(last + 1...stream - 1) }
            last = stream
            if !ends, open.count < openMax { open.insert(stream) }
            return true
        }
        if ends ? open.remove(stream) != nil : open.contains(stream) { return true }
        if resets.contains(stream) { return true }
        // Never begun: that is another fault.
        return gaps.contains { $0.contains(stream) }
    }

    /// DATA come.
    /// - Returns: false where nobody waits for them.
    mutating func data(_ head: HTTP2FrameCutter.Head) -> Bool {
        head.has(HTTP2FrameCutter.Flag.endStream) ? open.remove(head.stream) != nil : open.contains(head.stream)
    }

    /// The stream has ended for the client, or for both.
    mutating func ended(_ stream: UInt32) { open.remove(stream) }

    /// The server resets the stream. What the client has sent before it knows that is to be ignored (RFC 9113, 5.1).
    mutating func reset(_ stream: UInt32) {
        open.remove(stream)
        guard resets.insert(stream).inserted else { return }
        resetsInOrder.append(stream)
        if resetsInOrder.count > Self.resetsMax { resets.remove(resetsInOrder.removeFirst()) }
    }

    /// Whether the server has reset the stream.
    func wasReset(_ stream: UInt32) -> Bool { resets.contains(stream) }
}
