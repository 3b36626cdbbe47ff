import NIOCore

/// Streams that are not open any more: how the newest of them ended, as far as it matters what comes of them still.
struct PastStreams {
    /// How a stream that is not open has ended.
    enum End {
        /// The server has reset it. What the client has sent before it knew is to be ignored (RFC 9113, 5.1).
        case reset
        /// The client has never begun it, but a later one.
        case skipped
        case other
    }

    /// How many gaps in the numbers of streams are remembered.
    private static let gapsMax = 16
    /// How many streams that were reset are remembered.
    static let resetsMax = 1_024

    private var gaps: [ClosedRange<UInt32>] = []
    private var resets: Set<UInt32> = []
    private var resetsInOrder: [UInt32] = []
    /// The oldest of ``resetsInOrder``, once there are ``resetsMax``.
    private var oldest = 0

    /// The client begins a stream.
    mutating func begins(_ stream: UInt32, after last: UInt32) {
        if stream > last + 2, gaps.count < Self.gapsMax { gaps.append(last + 1...stream - 1) }
    }

    /// The server resets a stream.
    mutating func reset(_ stream: UInt32) {
        guard resets.insert(stream).inserted else { return }
        guard resetsInOrder.count == Self.resetsMax else { return resetsInOrder.append(stream) }
        resets.remove(resetsInOrder[oldest])
        resetsInOrder[oldest] = stream
        oldest = (oldest + 1) % Self.resetsMax
    }

    /// How a stream has ended that is not open, and is not above the newest.
    func end(of stream: UInt32) -> End {
        if resets.contains(stream) { return .reset }
        return gaps.contains { $0.contains(stream) } ? .skipped : .other
    }
}
